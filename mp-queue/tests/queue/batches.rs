//! Several values at once.

use std::thread;

use mp_core::process_fn;
use mp_queue::{GetError, GetManyError, PutErrorReason, PutManyError, Queue};
use mp_testing::scenario;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};

/// Numbers that cannot be encoded, or not decoded.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Picky {
    Good(u32),
    /// Cannot be encoded.
    Mute(u32),
    /// Cannot be decoded.
    Garbled(u32),
}

const GARBLED: u32 = 1 << 31;

impl Serialize for Picky {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Good(number) => (number, 1_u64).serialize(serializer),
            // Some of it is encoded by then.
            Self::Mute(number) => (number, Fails).serialize(serializer),
            Self::Garbled(number) => (number | GARBLED, 1_u64).serialize(serializer),
        }
    }
}

struct Fails;

impl Serialize for Fails {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(ser::Error::custom("it is mute"))
    }
}

impl<'de> Deserialize<'de> for Picky {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match <(u32, u64)>::deserialize(deserializer)? {
            (number, 1) if number & GARBLED == 0 => Ok(Self::Good(number)),
            (number, _) => Err(de::Error::custom(format_args!("{} is garbled", number & !GARBLED))),
        }
    }
}

scenario!(many_are_put_and_gotten_in_order, {
    let queue = Queue::new().unwrap();
    for count in [0, 1, 2, 63, 64, 65, 128, 1_000] {
        assert_eq!(queue.put_many(0..count).unwrap(), count);
        assert_eq!(queue.len(), count);
        assert!(queue.get_many(0).unwrap().is_empty());
        let mut got = Vec::new();
        while got.len() < count {
            let most = 1 + got.len() % 50;
            let some = queue.get_many(most).unwrap();
            assert!(!some.is_empty() && some.len() <= most);
            got.extend(some);
        }
        assert!(got.into_iter().eq(0..count));
        assert!(queue.drain().unwrap().is_empty());
        queue.put_many(0..count).unwrap();
        assert!(queue.drain().unwrap().into_iter().eq(0..count));
    }
});

#[process_fn]
fn puts_many(queue: Queue<u32>, count: u32) -> usize {
    queue.put_many(0..count).unwrap()
}

scenario!(many_go_through_a_queue_that_holds_few, {
    for queue in [Queue::bounded(1), Queue::bounded(10), Queue::with_bytes(4096)] {
        let queue = queue.unwrap();
        let child = puts_many::spawn(queue.clone(), 5_000).unwrap();
        let mut got = Vec::new();
        while got.len() < 5_000 {
            got.extend(queue.get_many(7).unwrap());
        }
        assert!(got.into_iter().eq(0..5_000));
        assert_eq!(child.join().unwrap(), 5_000);
        assert!(queue.is_empty());
    }
});

scenario!(values_of_any_length_are_put_together, {
    let queue = Queue::with_bytes(16 << 10).unwrap();
    let values: Vec<_> = (0..300_usize).map(|number| vec![number as u8; number * number * 7 % 20_000]).collect();
    let mut got = Vec::new();
    thread::scope(|scope| {
        scope.spawn(|| assert_eq!(queue.put_many(values.iter().cloned()).unwrap(), 300));
        while got.len() < 300 {
            got.extend(queue.get_many(9).unwrap());
        }
    });
    assert!(got == values);
});

scenario!(what_comes_before_a_value_that_cannot_be_encoded_is_put, {
    let queue = Queue::new().unwrap();
    for place in [0, 1, 63, 64, 65, 100] {
        let mut values = (0..150).map(|number| if number == place { Picky::Mute(number) } else { Picky::Good(number) });
        let error = queue.put_many(&mut values).unwrap_err();
        let PutManyError { put, values: taken, reason } = error;
        assert!(matches!(reason, PutErrorReason::Encode(_)), "{reason:?}");
        assert_eq!(put, place as usize);
        assert_eq!(taken[0], Picky::Mute(place));
        // None is lost: what was taken and not put, and what is left.
        let rest: Vec<_> = taken[1..].iter().copied().chain(values).collect();
        assert!(rest.iter().copied().eq((place + 1..150).map(Picky::Good)));
        assert_eq!(queue.len(), put);
        queue.put_many(rest).unwrap();
        let got = queue.drain().unwrap();
        assert!(got.into_iter().eq((0..150).filter(|number| *number != place).map(Picky::Good)));
    }
    let error = queue.put_many([Picky::Mute(1)]).unwrap_err();
    assert_eq!(error.to_string(), "after 0 values: the value could not be encoded: it is mute");
    assert_eq!(format!("{error:?}").split(',').next(), Some("PutManyError { put: 0"));
});

scenario!(what_stands_around_values_that_cannot_be_decoded_arrives, {
    let queue = Queue::new().unwrap();
    let bad = |number| number % 10 == 3;
    let put = || {
        let values = (0..100).map(|number| if bad(number) { Picky::Garbled(number) } else { Picky::Good(number) });
        assert_eq!(queue.put_many(values).unwrap(), 100);
    };
    put();
    let GetManyError { values, failed, reason } = queue.get_many(50).unwrap_err();
    assert!(values.into_iter().eq((0..50).filter(|number| !bad(*number)).map(Picky::Good)));
    assert_eq!(failed, 5);
    assert!(matches!(reason, GetError::Decode(_)), "{reason:?}");
    let GetManyError { values, failed, .. } = queue.drain().unwrap_err();
    assert!(values.into_iter().eq((50..100).filter(|number| !bad(*number)).map(Picky::Good)));
    assert_eq!((failed, queue.len()), (5, 0));

    // One by one as well, and the iteration goes on.
    put();
    let (mut good, mut garbled) = (0, 0);
    for value in queue.iter() {
        match value {
            Ok(value) => {
                assert_eq!(value, Picky::Good(good + garbled));
                good += 1;
            }
            Err(error) => {
                assert!(matches!(error, GetError::Decode(_)), "{error:?}");
                assert!(bad(good + garbled));
                garbled += 1;
            }
        }
        if good + garbled == 100 {
            queue.close();
        }
    }
    assert_eq!((good, garbled), (90, 10));
});

scenario!(a_value_that_cannot_be_encoded_or_decoded_loses_no_other, {
    let queue = Queue::bounded(3).unwrap();
    queue.put(Picky::Good(1)).unwrap();
    let error = queue.put(Picky::Mute(2)).unwrap_err();
    assert!(matches!(error.reason, PutErrorReason::Encode(_)));
    assert_eq!(error.into_inner(), Picky::Mute(2));
    queue.put(Picky::Garbled(3)).unwrap();
    queue.put(Picky::Good(4)).unwrap();
    // It says so of itself, although there is no room.
    assert!(matches!(queue.try_put(Picky::Mute(5)).unwrap_err().reason, PutErrorReason::Encode(_)));
    assert_eq!(queue.get().unwrap(), Picky::Good(1));
    let error = queue.get().unwrap_err();
    assert!(mp_testing::error_chain(&error).contains("3 is garbled"), "{error:?}");
    assert_eq!(queue.get().unwrap(), Picky::Good(4));
    assert_eq!(queue.try_get().unwrap(), None);
});

scenario!(an_iterator_can_use_the_queue_that_it_is_put_into, {
    let queue = Queue::new().unwrap();
    assert_eq!(queue.put_many((0..200).inspect(|number| queue.put(1_000 + number).unwrap())).unwrap(), 200);
    let (mut outer, mut inner): (Vec<_>, Vec<_>) =
        queue.drain().unwrap().into_iter().partition(|number| *number < 1_000);
    assert!(outer.drain(..).eq(0..200) && inner.drain(..).eq(1_000..1_200));
});

scenario!(draining_ends_although_producers_go_on, {
    let queue = Queue::bounded(1_000).unwrap();
    let child = puts_many::spawn(queue.clone(), 200_000).unwrap();
    let mut got = Vec::new();
    while got.len() < 200_000 {
        let some = queue.drain().unwrap();
        assert!(some.len() <= 1_000);
        got.extend(some);
    }
    assert!(got.into_iter().eq(0..200_000));
    child.join().unwrap();
});
