//! One function on many items.

use std::cell::Cell;

use indicatif::ProgressIterator;
use mp_core::process_fn;
use mp_pool::{Pool, TaskError};
use mp_testing::scenario;

#[process_fn]
fn square(number: u64) -> u64 {
    number * number
}

#[process_fn]
fn odd(number: u64) -> u64 {
    assert!(number % 2 == 1, "{number} is even");
    number
}

scenario!(map_keeps_the_order, {
    let pool = Pool::new(3).unwrap();
    let squares = pool.map::<square>(0..1_000).unwrap();
    assert!(squares.into_iter().eq((0..1_000).map(|number| number * number)));
    assert_eq!(pool.map::<square>([]).unwrap(), Vec::<u64>::new());
});

scenario!(map_gives_the_first_error_and_runs_the_rest, {
    #[process_fn]
    fn note(number: u32, sender: mp_core::Sender<u32>) {
        sender.send(number).unwrap();
        assert!(number != 3 && number != 5, "{number}");
    }
    let pool = Pool::new(2).unwrap();
    let (sender, receiver) = mp_core::pipe().unwrap();
    let items = (0..20).map(|number| (number, sender.try_clone().unwrap()));
    let Err(TaskError::Panicked(panic)) = pool.map::<note>(items) else { panic!("it should have failed") };
    assert_eq!(panic.message, "3");
    drop(sender);
    let mut seen: Vec<u32> = receiver.iter().map(Result::unwrap).collect();
    seen.sort_unstable();
    assert!(seen.into_iter().eq(0..20));
});

scenario!(imap_unordered_gives_every_value_once_with_its_index, {
    let pool = Pool::new(2).unwrap();
    let mut seen = vec![false; 500];
    for (index, value) in pool.imap_unordered::<odd>(0..500) {
        assert!(!std::mem::replace(&mut seen[index], true));
        match value {
            Ok(value) => assert_eq!(value, index as u64),
            Err(TaskError::Panicked(panic)) => assert_eq!(panic.message, format!("{index} is even")),
            Err(error) => panic!("{error}"),
        }
    }
    assert!(seen.into_iter().all(|seen| seen));
});

scenario!(imap_unordered_reads_only_as_far_ahead_as_its_window, {
    let pool = Pool::new(2).unwrap();
    let read = Cell::new(0);
    let items = (0..).inspect(|_| read.set(read.get() + 1));
    let mut values = pool.imap_unordered::<square>(items).window(8);
    assert_eq!(read.get(), 0);
    for given in 1..=100 {
        values.next().unwrap().1.unwrap();
        assert!(read.get() <= given + 8, "{} items were read for {given} values", read.get());
    }
    drop(values);
    assert_eq!(pool.submit(square::call(3)).join().unwrap(), 9);
});

scenario!(a_closed_pool_ends_a_map_instead_of_reading_for_ever, {
    let pool = Pool::new(1).unwrap();
    pool.close();
    let results: Vec<_> = pool.imap_unordered::<square>(0..).collect();
    assert!(!results.is_empty() && results.len() <= 4, "{} results", results.len());
    assert!(results.into_iter().all(|(_, result)| result == Err(TaskError::PoolClosed)));
});

scenario!(two_maps_run_at_the_same_time, {
    let pool = Pool::new(2).unwrap();
    let mut first = pool.imap_unordered::<square>(0..300);
    let mut second = pool.imap_unordered::<square>(0..300);
    for _ in 0..300 {
        let (index, value) = first.next().unwrap();
        assert_eq!(value.unwrap(), (index * index) as u64);
        let (index, value) = second.next().unwrap();
        assert_eq!(value.unwrap(), (index * index) as u64);
    }
    assert!(first.next().is_none() && second.next().is_none());
    assert!(first.next().is_none());
});

scenario!(an_item_that_panics_while_it_is_encoded_does_not_hang_the_rest, {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    struct Item(u64);
    impl serde::Serialize for Item {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            assert_ne!(self.0, 2, "it will not be encoded");
            serializer.serialize_u64(self.0)
        }
    }
    impl<'de> serde::Deserialize<'de> for Item {
        fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            u64::deserialize(deserializer).map(Self)
        }
    }
    #[process_fn]
    fn inside(item: Item) -> u64 {
        item.0
    }
    let pool = Pool::new(1).unwrap();
    let mut values = pool.imap_unordered::<inside>([Item(2), Item(3)]);
    assert!(catch_unwind(AssertUnwindSafe(|| values.next())).is_err());
    assert_eq!(values.next(), Some((1, Ok(3))));
    assert_eq!(values.next(), None);
});

scenario!(a_lazy_map_says_how_many_values_are_left_if_the_items_do, {
    let pool = Pool::new(2).unwrap();
    let mut values = pool.imap_unordered::<square>(0..1_000);
    for taken in 1..=1_000 {
        assert!(values.next().unwrap().1.is_ok());
        assert_eq!(values.len(), 1_000 - taken);
    }
    let shown = pool.imap::<square>(vec![1, 2, 3]).progress();
    assert_eq!((shown.progress.length(), shown.count()), (Some(3), 3));

    let odd = (0..1_000).filter(|number| number % 2 == 1);
    let unknown = pool.imap::<square>(odd);
    assert_eq!(unknown.size_hint(), (0, Some(1_000)));
    let len = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| unknown.len()));
    assert!(len.is_err(), "nobody knows");
});
