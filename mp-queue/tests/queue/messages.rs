//! Values of every length, with descriptors, and such that use a queue themselves.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;

use mp_core::{Receiver, message_limit, pipe, process_fn, set_message_limit};
use mp_queue::{Consumer, GetError, PutErrorReason, Queue};
use mp_testing::leaks::Resources;
use mp_testing::limits::{allow_descriptors, with_descriptors};
use mp_testing::{error_chain, scenario};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_bytes::ByteBuf;

use crate::next;

/// Bytes that follow from their number and length.
fn bytes(number: usize, length: usize) -> ByteBuf {
    ByteBuf::from((0..length).map(|index| (index * 7 + number + length) as u8).collect::<Vec<_>>())
}

/// Everything has a length before it, of eight bytes.
const LENGTH: usize = 8;

scenario!(values_of_every_length_arrive, {
    const RING: usize = 8192;
    let queue = Queue::with_bytes(RING).unwrap();
    let around = |length: usize| length.saturating_sub(20)..length + 20;
    let half = RING / 2 - 8 - LENGTH;
    let lengths = (0..300).chain(around(half)).chain(around(RING)).chain(around(2 * RING)).chain([100_000, 300_000]);
    for (number, length) in lengths.enumerate() {
        queue.put(bytes(number, length)).unwrap();
        // Another one behind it, if there is room.
        let behind = queue.try_put(bytes(number, number % 17)).is_ok();
        assert!(queue.get().unwrap() == bytes(number, length), "{length}");
        assert!(!behind || queue.get().unwrap() == bytes(number, number % 17), "behind {length}");
    }
});

scenario!(half_of_the_ring_is_the_longest_that_is_in_it, {
    const RING: usize = 1 << 16;
    let longest = RING / 2 - 8 - LENGTH;
    let fit = |length: usize| {
        let queue = Queue::with_bytes(RING).unwrap();
        // Wherever in the ring it is.
        for used in [0, 1_000, RING / 2 - 100] {
            queue.put(bytes(0, used)).unwrap();
            queue.get().unwrap();
            queue.put(bytes(0, length)).unwrap();
            assert!(queue.get().unwrap() == bytes(0, length));
        }
        let queue = Queue::with_bytes(RING).unwrap();
        let count = (0..).take_while(|number| queue.try_put(bytes(*number, length)).is_ok()).count();
        let got = queue.drain().unwrap();
        assert!(got.into_iter().enumerate().all(|(number, value)| value == bytes(number, length)));
        count
    };
    assert_eq!((fit(longest), fit(longest / 2 - LENGTH)), (2, 4));
    // More than two of these: they are elsewhere.
    assert!(fit(longest + 1) > 2);
});

#[process_fn]
fn puts_of_all_lengths(queue: Queue<ByteBuf>, ring: usize, count: usize) {
    for number in 0..count {
        queue.put(bytes(number, length_of(number, ring))).unwrap();
    }
}

fn length_of(number: usize, ring: usize) -> usize {
    match number % 9 {
        0 => ring / 2 - 8 - LENGTH,
        1 => ring / 2 - 7 - LENGTH,
        2 => ring,
        3 => 3 * ring + number,
        4 => number * 31 % (ring / 2),
        few => few,
    }
}

scenario!(long_and_short_values_keep_their_order_between_processes, {
    for ring in [4096, 1 << 16] {
        let queue = Queue::with_bytes(ring).unwrap();
        let child = puts_of_all_lengths::spawn(queue.clone(), ring, 600).unwrap();
        for number in 0..600 {
            assert!(next(&queue) == bytes(number, length_of(number, ring)), "{number}");
        }
        child.join().unwrap();
    }
});

/// The memory files of messages that this process has open.
fn files() -> BTreeSet<u64> {
    let open = fs::read_dir("/proc/self/fd").unwrap().map(|entry| entry.unwrap().path());
    let of_messages = open.filter(|path| {
        fs::read_link(path).is_ok_and(|target| target.to_string_lossy().starts_with("/memfd:mp-message"))
    });
    of_messages.map(|path| fs::metadata(path).unwrap().ino()).collect()
}

scenario!(the_memory_of_long_values_is_used_again, {
    let queue = Queue::with_bytes(4096).unwrap();
    let mut used = BTreeSet::new();
    for number in 0..20 {
        queue.put(bytes(number, 100_000)).unwrap();
        used.extend(files());
        assert!(queue.get().unwrap() == bytes(number, 100_000));
    }
    assert_eq!(used.len(), 1);
    // Of those that are there at the same time, each is in its own.
    for number in 0..30 {
        queue.put(bytes(number, 100_000)).unwrap();
    }
    for number in 0..30 {
        assert!(queue.get().unwrap() == bytes(number, 100_000));
    }
    queue.put(bytes(0, 10)).unwrap();
    drop(queue);
    assert!(files().is_empty());
});

#[process_fn]
fn puts_a_gibibyte(queue: Queue<ByteBuf>) {
    let mut value = vec![0; 1 << 30];
    (value[0], value[(1 << 30) - 1]) = (1, 2);
    queue.put(ByteBuf::from(value)).unwrap();
    queue.put(ByteBuf::from([3])).unwrap();
}

scenario!(a_gibibyte_arrives, {
    // It takes three times as much memory.
    if mp_testing::faults::count(0) > 0 {
        let queue = Queue::new().unwrap();
        let child = puts_a_gibibyte::spawn(queue.clone()).unwrap();
        let value = next(&queue);
        assert_eq!((value.len(), value[0], value[(1 << 30) - 1]), (1 << 30, 1, 2));
        assert!(value[1..(1 << 30) - 1].iter().all(|byte| *byte == 0));
        assert_eq!(next(&queue), [3]);
        child.join().unwrap();
    }
});

/// A value that holds descriptors which say what they are.
#[derive(Serialize, Deserialize)]
pub(crate) struct Bundle {
    pub(crate) number: u32,
    bytes: ByteBuf,
    ends: Vec<Receiver<u32>>,
}

impl Bundle {
    pub(crate) fn new(number: u32, ends: u32, length: usize) -> Self {
        let end = |index| {
            let (to, from) = pipe().unwrap();
            to.send(number + index).unwrap();
            from
        };
        Self { number, bytes: bytes(number as usize, length), ends: (0..ends).map(end).collect() }
    }

    #[track_caller]
    pub(crate) fn check(&self, number: u32, ends: u32, length: usize) {
        assert_eq!((self.number, self.ends.len()), (number, ends as usize));
        assert!(self.bytes == bytes(number as usize, length));
        for (index, end) in (0..).zip(&self.ends) {
            assert_eq!(end.iter().map(Result::unwrap).collect::<Vec<_>>(), [number + index]);
        }
    }
}

#[process_fn]
fn checks_bundles(queue: Consumer<Bundle>) -> u32 {
    let mut count = 0;
    for bundle in queue.iter() {
        let (ends, length) = kind(count);
        bundle.unwrap().check(count, ends, length);
        count += 1;
    }
    count
}

/// How many descriptors and bytes the bundle of that number has.
fn kind(number: u32) -> (u32, usize) {
    let ends = [0, 1, 2, 0, 253, 1, 254, 0, 3, 600][number as usize % 10];
    let length = [0, 7, 100, 5_000, 20_000, 60_000, 300, 200_000][number as usize % 8];
    (ends, length)
}

scenario!(descriptors_arrive_with_their_value_in_the_order_of_all, {
    if allow_descriptors(4096) {
        for bytes in [4096, 1 << 20] {
            let (to, from) = Queue::with_bytes(bytes).unwrap().into_split();
            let child = checks_bundles::spawn(from).unwrap();
            for number in 0..60 {
                let (ends, length) = kind(number);
                to.put(Bundle::new(number, ends, length)).unwrap();
            }
            drop(to);
            assert_eq!(child.join().unwrap(), 60);
        }
    }
});

scenario!(descriptors_go_in_batches_too, {
    let queue = Queue::bounded(10).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            let bundles = (0..100).map(|number| Bundle::new(number, number % 3, 10));
            assert_eq!(queue.put_many(bundles).unwrap(), 100);
        });
        let mut number = 0;
        while number < 100 {
            for bundle in queue.get_many(6).unwrap() {
                bundle.check(number, number % 3, 10);
                number += 1;
            }
        }
    });
});

// The lane holds some hundred messages, and the ring thousands.
scenario!(more_values_with_descriptors_than_the_lane_holds_wait_for_room, {
    let queue = Queue::new().unwrap();
    if !allow_descriptors(4096) {
        return;
    }
    let mut put = 0;
    let back = loop {
        match queue.try_put(Bundle::new(put, 1, 0)) {
            Ok(()) => put += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(back.reason, PutErrorReason::Full), "{back:?}");
    back.value.check(put, 1, 0);
    // Others have room.
    queue.put(Bundle::new(1_000_000, 0, 0)).unwrap();
    assert!(matches!(
        queue.put_timeout(Bundle::new(put, 1, 0), mp_testing::PROMPTLY / 20).unwrap_err().reason,
        PutErrorReason::TimedOut
    ));
    thread::scope(|scope| {
        let putting = scope.spawn(|| queue.put(Bundle::new(7, 1, 0)).unwrap());
        for number in 0..put {
            queue.get().unwrap().check(number, 1, 0);
        }
        queue.get().unwrap().check(1_000_000, 0, 0);
        next(&queue).check(7, 1, 0);
        putting.join().unwrap();
    });
});

scenario!(a_descriptor_that_is_missing_costs_one_value, {
    let before = Resources::of_this_process();
    let queue = Queue::new().unwrap();
    // The putter has too few: it keeps the value.
    let bundle = Bundle::new(0, 3, 0);
    let error = with_descriptors(2, || queue.put(bundle).unwrap_err());
    assert!(matches!(error.reason, PutErrorReason::Encode(_)), "{error:?}");
    assert!(error_chain(&error).contains("os error 24"), "{}", error_chain(&error));
    error.value.check(0, 3, 0);
    drop(error);
    // The getter has: the others arrive.
    for number in 1..6 {
        queue.put(Bundle::new(number, 3, 0)).unwrap();
    }
    queue.get().unwrap().check(1, 3, 0);
    // An iterator goes on behind it.
    let mut values = queue.iter();
    let error = with_descriptors(1, || values.next().unwrap().map(drop).unwrap_err());
    assert!(matches!(error, GetError::Io(_) | GetError::Decode(_)), "{error:?}");
    for number in 3..6 {
        values.next().unwrap().unwrap().check(number, 3, 0);
    }
    assert!(queue.is_empty());
    drop(queue);
    assert_eq!(Resources::of_this_process(), before);
});

#[process_fn]
fn gets_with_a_limit(queue: Queue<Bundle>, limit: u64) -> Vec<Option<u32>> {
    set_message_limit(limit);
    (0..4).map(|_| queue.get().ok().map(|bundle| bundle.number)).collect()
}

scenario!(a_value_beyond_the_limit_of_messages_costs_no_other, {
    let queue = Queue::new().unwrap();
    for (ends, length) in [(1, 500_000), (0, 500_000), (1, 3 << 20), (0, 3 << 20)] {
        queue.put(Bundle::new(1, 1, 10)).unwrap();
        queue.put(Bundle::new(2, ends, length)).unwrap();
        queue.put(Bundle::new(3, 1, 10)).unwrap();
        queue.put(Bundle::new(4, 0, 10)).unwrap();
        let got = gets_with_a_limit::spawn(queue.clone(), 100_000).unwrap().join().unwrap();
        // What is in the ring needs no memory that is not there already.
        assert!(got == [Some(1), None, Some(3), Some(4)] || got == [Some(1), Some(2), Some(3), Some(4)], "{got:?}");
    }
    let limit = message_limit();
    set_message_limit(100_000);
    let error = queue.put(Bundle::new(5, 1, 200_000)).unwrap_err();
    assert!(matches!(error.reason, PutErrorReason::Encode(_)), "{error:?}");
    set_message_limit(limit);
    queue.put(error.value).unwrap();
    queue.get().unwrap().check(5, 1, 200_000);
});

thread_local! {
    /// The queue that a value uses while it is encoded or decoded.
    static OWN: RefCell<Option<Queue<Busy>>> = const { RefCell::new(None) };
}

/// A value that uses the queue that it goes through, or panics.
#[derive(Debug, PartialEq)]
enum Busy {
    Plain(u32),
    /// Puts this number first, when it is encoded.
    Puts(u32),
    /// Gets another value when it is encoded, or when it is decoded.
    GetsEncoded,
    GetsDecoded,
    PanicsEncoded,
    PanicsDecoded,
}

impl Busy {
    fn own<R>(using: impl FnOnce(&Queue<Self>) -> R) -> R {
        using(&OWN.with_borrow(|own| own.clone().unwrap()))
    }
}

impl Serialize for Busy {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Plain(number) => (0_u8, number).serialize(serializer),
            Self::Puts(number) => {
                Self::own(|own| own.put_many([Self::Plain(*number), Self::Plain(number + 1)]).unwrap());
                (0_u8, number + 2).serialize(serializer)
            }
            Self::GetsEncoded => {
                let Self::Plain(number) = Self::own(|own| own.get().unwrap()) else { panic!("another value is plain") };
                (0_u8, number + 1).serialize(serializer)
            }
            Self::GetsDecoded => (1_u8, 0_u32).serialize(serializer),
            // Some of it is encoded by then.
            Self::PanicsEncoded => (0_u8, Panics).serialize(serializer),
            Self::PanicsDecoded => (2_u8, 0_u32).serialize(serializer),
        }
    }
}

struct Panics;

impl Serialize for Panics {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        panic!("on purpose")
    }
}

impl<'de> Deserialize<'de> for Busy {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match <(u8, u32)>::deserialize(deserializer)? {
            (0, number) => Ok(Self::Plain(number)),
            (1, _) => match Self::own(|own| own.get().unwrap()) {
                Self::Plain(number) => Ok(Self::Plain(number + 100)),
                other => Ok(other),
            },
            _ => panic!("on purpose"),
        }
    }
}

scenario!(a_value_can_use_its_own_queue_while_it_is_encoded_or_decoded, {
    let queue = Queue::new().unwrap();
    OWN.set(Some(queue.clone()));
    queue.put(Busy::Puts(1)).unwrap();
    assert_eq!(queue.drain().unwrap(), [Busy::Plain(1), Busy::Plain(2), Busy::Plain(3)]);
    queue.put(Busy::Plain(10)).unwrap();
    queue.put(Busy::GetsEncoded).unwrap();
    assert_eq!(queue.drain().unwrap(), [Busy::Plain(11)]);
    queue.put_many([Busy::GetsDecoded, Busy::Plain(20), Busy::Plain(21)]).unwrap();
    assert_eq!(queue.get().unwrap(), Busy::Plain(120));
    assert_eq!(queue.get().unwrap(), Busy::Plain(21));
    // In batches: what it gets is behind the batch.
    queue.put_many([Busy::Plain(30), Busy::GetsDecoded, Busy::Plain(31), Busy::Plain(32)]).unwrap();
    assert_eq!(queue.get_many(3).unwrap(), [Busy::Plain(30), Busy::Plain(132), Busy::Plain(31)]);
    queue.put_many([Busy::Plain(40), Busy::Puts(41), Busy::Plain(44)]).unwrap();
    assert_eq!(queue.drain().unwrap().len(), 5);
    OWN.set(None);
});

scenario!(a_panic_of_a_value_costs_no_other, {
    let queue = Queue::bounded(8).unwrap();
    let panics = |act: &mut dyn FnMut()| assert!(catch_unwind(AssertUnwindSafe(act)).is_err());
    for _ in 0..10 {
        queue.put(Busy::Plain(1)).unwrap();
        panics(&mut || drop(queue.put(Busy::PanicsEncoded)));
        panics(&mut || drop(queue.put_many([Busy::Plain(9), Busy::PanicsEncoded])));
        queue.put_many([Busy::PanicsDecoded, Busy::Plain(2)]).unwrap();
        assert_eq!(queue.len(), 3);
        assert_eq!(queue.get().unwrap(), Busy::Plain(1));
        panics(&mut || drop(queue.get()));
        assert_eq!(queue.get().unwrap(), Busy::Plain(2));
        assert_eq!(queue.try_get().unwrap(), None);
    }
});
