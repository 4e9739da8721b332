//! What maps, lists and cells do.

use std::fs::File;
use std::io::Read;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mp_core::{Fd, process_fn};
use mp_manager::{CallError, Cell, List, Manager, Map};
use mp_testing::{eventually, scenario};

#[process_fn]
fn add(old: Option<u64>, by: u64) -> (Option<u64>, u64) {
    let new = old.unwrap_or(0) + by;
    (Some(new), new)
}

#[process_fn]
fn append(old: Option<Vec<String>>, line: String) -> (Option<Vec<String>>, usize) {
    let mut lines = old.unwrap_or_default();
    lines.push(line);
    let length = lines.len();
    (Some(lines), length)
}

#[process_fn]
fn remove(_old: Option<u64>, _: ()) -> (Option<u64>, ()) {
    (None, ())
}

#[process_fn]
fn fail(_old: Option<u64>, why: String) -> (Option<u64>, ()) {
    panic!("{why}")
}

#[process_fn]
fn add_often(map: Map<String, u64>, times: u64) {
    for _ in 0..times {
        map.modify::<add>("n", 1).unwrap();
    }
}

#[process_fn]
fn append_often(map: Map<u8, Vec<String>>, name: String, times: usize) {
    for number in 0..times {
        map.modify::<append>(&0, format!("{name}{number}")).unwrap();
    }
}

scenario!(a_map_does_what_a_map_does, {
    let manager = Manager::spawn().unwrap();
    let map = Map::<String, u32>::new(&manager).unwrap();
    assert!(map.is_empty().unwrap());
    assert_eq!(map.insert("one".to_owned(), 1).unwrap(), None);
    assert_eq!(map.insert("one".to_owned(), 11).unwrap(), Some(1));
    map.extend([("two".to_owned(), 2), ("three".to_owned(), 3)]).unwrap();
    assert_eq!(map.get("one").unwrap(), Some(11));
    assert_eq!(map.get("four").unwrap(), None);
    assert_eq!(map.get_many(["three", "four", "one"]).unwrap(), [Some(3), None, Some(11)]);
    assert_eq!(map.get_or_insert("four".to_owned(), 4).unwrap(), 4);
    assert_eq!(map.get_or_insert("four".to_owned(), 5).unwrap(), 4);
    assert_eq!(map.keys().unwrap(), ["one", "two", "three", "four"]);
    assert_eq!(map.remove("two").unwrap(), Some(2));
    assert_eq!(map.remove("two").unwrap(), None);
    assert!(map.contains_key("three").unwrap() && !map.contains_key("two").unwrap());
    let snapshot: Vec<(String, u32)> =
        [("one", 11), ("three", 3), ("four", 4)].map(|(key, value)| (key.into(), value)).into();
    assert_eq!(map.snapshot().unwrap(), snapshot);
    assert_eq!(map.len().unwrap(), 3);
    assert_eq!(map.compare_exchange("one", Some(1), Some(2)).unwrap(), Err(Some(11)));
    assert_eq!(map.compare_exchange("one", Some(11), None).unwrap(), Ok(()));
    assert_eq!(map.compare_exchange("one", None, Some(1)).unwrap(), Ok(()));
    map.clear().unwrap();
    assert_eq!(map.snapshot().unwrap(), []);
});

scenario!(a_list_does_what_a_list_does, {
    let manager = Manager::spawn().unwrap();
    let list = List::<String>::new(&manager).unwrap();
    list.push("b".into()).unwrap();
    list.extend(["c".into(), "d".into()]).unwrap();
    list.insert(0, "a".into()).unwrap();
    assert_eq!(list.set(1, "B".into()).unwrap(), "b");
    assert_eq!(list.remove(2).unwrap(), "c");
    assert_eq!(list.snapshot().unwrap(), ["a", "B", "d"]);
    assert_eq!(list.get(9).unwrap(), None);
    assert_eq!(list.set(3, "x".into()).unwrap_err(), CallError::OutOfBounds { index: 3, length: 3 });
    assert_eq!(list.insert(4, "x".into()).unwrap_err(), CallError::OutOfBounds { index: 4, length: 3 });
    assert_eq!(list.pop().unwrap().as_deref(), Some("d"));
    list.clear().unwrap();
    assert_eq!(list.pop().unwrap(), None);
    let numbers = List::<u64>::new(&manager).unwrap();
    numbers.extend([1, 2]).unwrap();
    assert_eq!(numbers.modify::<add>(1, 40).unwrap(), 42);
    numbers.modify::<remove>(0, ()).unwrap();
    assert_eq!(numbers.snapshot().unwrap(), [42]);
    assert!(matches!(numbers.modify::<add>(1, 1), Err(CallError::OutOfBounds { .. })));
});

scenario!(a_cell_does_what_a_cell_does, {
    let manager = Manager::here().unwrap();
    let cell = Cell::new(&manager, 1_u64).unwrap();
    assert_eq!(cell.replace(2).unwrap(), 1);
    cell.set(3).unwrap();
    assert_eq!(cell.modify::<add>(4).unwrap(), 7);
    cell.modify::<remove>(()).unwrap();
    assert_eq!(cell.get().unwrap(), 7);
    assert_eq!(cell.compare_exchange(1, 2).unwrap(), Err(7));
    assert_eq!(cell.compare_exchange(7, 8).unwrap(), Ok(()));
    assert_eq!(cell.get().unwrap(), 8);
});

// Python: `d[k] += 1` is a read and a write, and loses what others added in between.
scenario!(no_addition_of_several_processes_is_lost, {
    let manager = Manager::spawn().unwrap();
    let map = Map::new(&manager).unwrap();
    let children: Vec<_> = (0..4).map(|_| add_often::spawn(map.clone(), 200).unwrap()).collect();
    children.into_iter().for_each(|child| child.join().unwrap());
    assert_eq!(map.get("n").unwrap(), Some(800));
});

// Python: `d[k].append(x)` appends to a copy.
scenario!(nothing_appended_to_a_value_is_lost, {
    let manager = Manager::spawn().unwrap();
    let map = Map::new(&manager).unwrap();
    let children = ["a", "b"].map(|name| append_often::spawn(map.clone(), name.to_owned(), 50).unwrap());
    children.into_iter().for_each(|child| child.join().unwrap());
    let mut lines = map.get(&0).unwrap().unwrap();
    lines.sort();
    lines.dedup();
    assert_eq!(lines.len(), 100);
});

scenario!(a_panic_in_a_function_changes_nothing, {
    let manager = Manager::spawn().unwrap();
    let map = Map::<u8, u64>::new(&manager).unwrap();
    map.insert(1, 7).unwrap();
    let Err(CallError::Panicked(panic)) = map.modify::<fail>(&1, "no".to_owned()) else { panic!("it panicked") };
    assert_eq!(panic.message, "no");
    assert_eq!(map.snapshot().unwrap(), [(1, 7)]);
    map.modify::<remove>(&1, ()).unwrap();
    assert!(map.is_empty().unwrap());
});

static GO: AtomicBool = AtomicBool::new(false);
static BEGAN: AtomicBool = AtomicBool::new(false);

#[process_fn]
fn wait_for_go(old: Option<u64>, _: ()) -> (Option<u64>, ()) {
    BEGAN.store(true, Ordering::Release);
    while !GO.load(Ordering::Acquire) {
        std::thread::park_timeout(Duration::from_millis(1));
    }
    (old.map(|old| old * 2), ())
}

scenario!(while_a_function_runs_its_object_waits_and_others_do_not, {
    let manager = Manager::here().unwrap();
    let (busy, free) = (Map::<u8, u64>::new(&manager).unwrap(), Map::<u8, u64>::new(&manager).unwrap());
    busy.insert(1, 1).unwrap();
    let changing = std::thread::spawn({
        let busy = busy.clone();
        move || busy.modify::<wait_for_go>(&1, ())
    });
    let impatient = busy.clone().with_limit(Some(Duration::from_millis(30)));
    eventually("the function runs", || BEGAN.load(Ordering::Acquire));
    assert_eq!(impatient.get(&1), Err(CallError::TimedOut));
    for number in 0..100 {
        free.insert(number, 1).unwrap();
    }
    GO.store(true, Ordering::Release);
    assert_eq!(busy.get(&1).unwrap(), Some(2));
    changing.join().unwrap().unwrap();
});

scenario!(a_function_can_use_another_object_of_its_server, {
    #[process_fn]
    fn copy(old: Option<u64>, from: Map<u8, u64>) -> (Option<u64>, Option<u64>) {
        let value = from.get(&1).unwrap();
        from.insert(2, 22).unwrap();
        (value, old)
    }
    let manager = Manager::builder().threads(2).spawn().unwrap();
    let (from, to) = (Map::<u8, u64>::new(&manager).unwrap(), Map::<u8, u64>::new(&manager).unwrap());
    from.insert(1, 11).unwrap();
    assert_eq!(to.modify::<copy>(&5, from.clone()).unwrap(), None);
    assert_eq!(to.get(&5).unwrap(), Some(11));
    assert_eq!(from.get(&2).unwrap(), Some(22));
});

scenario!(long_values_and_descriptors_come_back_as_they_were, {
    let manager = Manager::spawn().unwrap();
    let map = Map::<u8, Vec<u8>>::new(&manager).unwrap();
    for length in [0, 1, 20_000, 300_000, 5 << 20] {
        map.insert(1, vec![7; length]).unwrap();
        assert!(map.get(&1).unwrap().unwrap() == vec![7; length]);
    }
    assert_eq!(map.compare_exchange(&1, Some(vec![7; 5 << 20]), Some(vec![1])).unwrap(), Ok(()));
    map.insert(2, vec![1; 3 << 20]).unwrap();
    map.insert(3, vec![2; 100_000]).unwrap();
    assert_eq!(map.snapshot().unwrap().iter().map(|(_, value)| value.len()).sum::<usize>(), 1 + (3 << 20) + 100_000);

    let files = Map::<u8, Fd<File>>::new(&manager).unwrap();
    let mut file = tempfile::tempfile().unwrap();
    std::io::Write::write_all(&mut file, b"kept").unwrap();
    files.insert(1, Fd(file)).unwrap();
    for _ in 0..2 {
        let mut text = String::new();
        let mut file = files.get(&1).unwrap().unwrap();
        std::io::Seek::rewind(&mut file.0).unwrap();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text, "kept");
    }
    files.clear().unwrap();
});

scenario!(many_threads_share_one_connection, {
    let manager = Manager::spawn().unwrap();
    let map = Map::<u64, u64>::new(&manager).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let map = &map;
            scope.spawn(move || {
                for number in 0..200 {
                    let key = thread * 1000 + number;
                    assert_eq!(map.insert(key, key).unwrap(), None);
                    assert_eq!(map.get(&key).unwrap(), Some(key));
                }
            });
        }
    });
    assert_eq!(map.len().unwrap(), 1600);
});

#[test]
fn errors_can_be_sent_between_threads() {
    fn check<E: std::error::Error + Send + Sync + 'static>() {}
    check::<CallError>();
    check::<mp_manager::ManagerError>();
}
