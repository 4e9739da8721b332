//! Producers and consumers that are killed at instants of chance, in full flow.

use std::cell::RefCell;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use mp_core::{Receiver, Sender, pipe, process_fn, wait};
use mp_queue::{GetError, JoinError, JoinableQueue, PutErrorReason, Queue};
use mp_shm::{Shared, ShmSafe};
use mp_testing::faults::{count, limit};
use mp_testing::procfs::sleeps_on_a_futex;
use mp_testing::victims::kill_at_random;
use mp_testing::{PATIENCE, PROMPTLY, eventually, scenario};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::{next, refused};

/// Where producers and consumers take turns: when one is killed, another one takes its place.
const PLACES: usize = 6;
/// The first places are those of producers.
const PRODUCERS: usize = 3;
/// How many values some producers and consumers put and get at once.
const BATCH: u64 = 8;
/// The most values that can be put from one place.
const MOST: u64 = 1 << 26;

/// What all of them have done, in memory that outlives each.
#[repr(C)]
#[derive(ShmSafe)]
struct Ledger {
    /// How many values were received.
    received: AtomicU64,
    places: [Place; PRODUCERS],
}

#[repr(C)]
#[derive(ShmSafe)]
struct Place {
    /// Values up to this one may have been put.
    begun: AtomicU64,
    /// Putting the values up to this one has returned `Ok`.
    put: AtomicU64,
    /// A bit for each value that was received.
    received: [AtomicU64; (MOST / 64) as usize],
}

impl Place {
    fn has_received(&self, number: u64) -> bool {
        self.received[(number / 64) as usize].load(SeqCst) & 1 << (number % 64) != 0
    }
}

#[derive(Serialize, Deserialize)]
struct Parcel {
    place: usize,
    /// The values from one place are numbered without a gap.
    number: u64,
    bytes: ByteBuf,
    /// Each delivers the number.
    ends: Vec<Receiver<u64>>,
}

/// A number of chance that follows from these.
fn mixed(place: usize, number: u64) -> u64 {
    let mut mixed = (number + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ (place as u64) << 7;
    mixed = (mixed ^ mixed >> 32).wrapping_mul(0x2545_F491_4F6C_DD1D);
    mixed ^ mixed >> 29
}

impl Parcel {
    fn new(place: usize, number: u64, ring: usize) -> Self {
        assert!(number < MOST, "the ledger has no place for more");
        let chance = mixed(place, number);
        let ends = (0..if chance % 16 == 1 { 1 + chance / 16 % 2 } else { 0 }).map(|_| {
            let (to, from) = pipe().unwrap();
            to.send(number).unwrap();
            from
        });
        Self { place, number, bytes: Self::bytes(place, number, ring), ends: ends.collect() }
    }

    fn bytes(place: usize, number: u64, ring: usize) -> ByteBuf {
        let chance = mixed(place, number);
        let length = match chance % 32 {
            // These go through the lane.
            2 => ring / 2 + chance as usize / 32 % (2 * ring),
            3 => ring / 4 + chance as usize / 32 % (ring / 4),
            _ => chance as usize / 32 % 64,
        };
        ByteBuf::from((0..length).map(|index| (chance as usize + index) as u8).collect::<Vec<_>>())
    }

    fn check(&self, ring: usize) {
        assert!(self.bytes == Self::bytes(self.place, self.number, ring), "{} of {}", self.number, self.place);
        for end in &self.ends {
            assert_eq!(end.recv().unwrap(), self.number);
        }
    }
}

#[process_fn]
fn takes_part(place: usize, queue: Queue<Parcel>, ledger: Shared<Ledger>, ring: usize, there: Sender<()>) {
    there.send(()).unwrap();
    drop(there);
    if place < PRODUCERS {
        produce(place, &queue, &ledger.places[place], ring)
    } else {
        consume(place, &queue, &ledger, ring)
    }
}

fn produce(place: usize, queue: &Queue<Parcel>, ledger: &Place, ring: usize) {
    loop {
        let number = ledger.begun.load(SeqCst);
        let batch = if place == 1 { mixed(place, number) % BATCH + 1 } else { 1 };
        ledger.begun.store(number + batch, SeqCst);
        if place == 1 {
            let parcels = (number..number + batch).map(|number| Parcel::new(place, number, ring));
            assert_eq!(queue.put_many(parcels).unwrap(), batch as usize);
        } else {
            let mut parcel = Parcel::new(place, number, ring);
            if place == 2 {
                // By all the ways that do not wait indefinitely, first.
                let _ = wait(&[&queue.writable().unwrap()], Some(Duration::from_micros(100))).unwrap();
                match queue.put_timeout(parcel, Duration::from_micros(mixed(place, number) / 64 % 3 * 50)) {
                    Ok(()) => {
                        ledger.put.store(number + 1, SeqCst);
                        continue;
                    }
                    Err(error) => {
                        assert!(matches!(error.reason, PutErrorReason::Full | PutErrorReason::TimedOut), "{error:?}");
                        parcel = error.value;
                    }
                }
            }
            queue.put(parcel).unwrap();
        }
        ledger.put.store(number + batch, SeqCst);
    }
}

fn consume(place: usize, queue: &Queue<Parcel>, ledger: &Ledger, ring: usize) {
    let mut last = [None; PRODUCERS];
    loop {
        let parcels = match place - PRODUCERS {
            0 => vec![queue.get().unwrap()],
            1 => queue.get_many(BATCH as usize).unwrap(),
            _ => {
                let _ = wait(&[&queue.readable().unwrap()], None).unwrap();
                queue.get_timeout(Duration::from_micros(mixed(place, 0) % 2 * 50)).unwrap().into_iter().collect()
            }
        };
        for parcel in parcels {
            note(ledger, &parcel, &mut last);
            parcel.check(ring);
        }
    }
}

/// Notes a value that was received, and checks that it is the first time, and the order.
fn note(ledger: &Ledger, parcel: &Parcel, last: &mut [Option<u64>; PRODUCERS]) {
    let number = parcel.number;
    let bit = 1 << (number % 64);
    let before = ledger.places[parcel.place].received[(number / 64) as usize].fetch_or(bit, SeqCst);
    assert!(before & bit == 0, "{number} of {} was received twice", parcel.place);
    ledger.received.fetch_add(1, SeqCst);
    let earlier = last[parcel.place].replace(number);
    assert!(earlier < Some(number), "{number} of {} after {earlier:?}", parcel.place);
}

/// Who is where.
struct Crowd {
    /// By the numbers of the processes.
    places: Vec<usize>,
    free: Vec<usize>,
}

impl Crowd {
    fn new(places: usize) -> RefCell<Self> {
        RefCell::new(Self { places: Vec::new(), free: (0..places).rev().collect() })
    }

    fn come(&mut self) -> usize {
        let place = self.free.pop().unwrap();
        self.places.push(place);
        place
    }

    fn go(&mut self, number: u64) -> usize {
        let place = self.places[number as usize];
        self.free.push(place);
        place
    }
}

scenario!(what_was_put_is_gotten_once_and_in_order_whoever_is_killed_when, limit(2 * count(60)), {
    for ring in [4096, 1 << 16] {
        let queue = Queue::with_bytes(ring).unwrap();
        let ledger = Shared::<Ledger>::zeroed().unwrap();
        let crowd = Crowd::new(PLACES);
        // What their processes may have put before they were killed, and may not.
        let doubtful = RefCell::new(Vec::new());
        let lost_by_consumers = RefCell::new(0);
        let note_doubts = |place: usize| {
            if let Some(from) = ledger.places.get(place) {
                let (put, begun) = (from.put.load(SeqCst), from.begun.load(SeqCst));
                doubtful.borrow_mut().extend((put..begun).map(|number| (place, number)));
                from.put.store(begun, SeqCst);
            }
        };
        let start = |_, there| {
            let place = crowd.borrow_mut().come();
            note_doubts(place);
            takes_part::call(place, queue.clone(), ledger.clone(), ring, there)
        };
        let doom = |number| {
            *lost_by_consumers.borrow_mut() += match crowd.borrow_mut().go(number).checked_sub(PRODUCERS) {
                None => 0,
                Some(1) => BATCH,
                Some(_) => 1,
            };
        };
        let flows = || {
            let before = ledger.received.load(SeqCst);
            eventually("values flow", || ledger.received.load(SeqCst) > before);
        };
        let kills = count(60);
        let check = RefCell::new(0);
        kill_at_random(PLACES, kills, start, doom, || {
            if check.replace_with(|count| *count + 1) < kills {
                flows();
            }
        });
        (0..PRODUCERS).for_each(note_doubts);
        let mut last = [None; PRODUCERS];
        loop {
            match queue.get_timeout(PATIENCE) {
                Ok(parcel) => {
                    let parcel = parcel.expect("the end comes");
                    parcel.check(ring);
                    note(&ledger, &parcel, &mut last);
                }
                Err(GetError::Disconnected) => break,
                Err(error) => panic!("{error:?}"),
            }
        }
        let (doubtful, most) = (doubtful.into_inner(), lost_by_consumers.into_inner());
        let mut lost = Vec::new();
        for (place, ledger) in ledger.places.iter().enumerate() {
            let put = ledger.put.load(SeqCst);
            lost.extend((0..put).filter(|number| !ledger.has_received(*number)).map(|number| (place, number)));
        }
        let in_doubt = lost.len();
        lost.retain(|value| !doubtful.contains(value));
        let received = ledger.received.load(SeqCst);
        println!(
            "{kills} kills, {received} values received, {} taken along by consumers, {} of {} in doubt not put",
            lost.len(),
            in_doubt - lost.len(),
            doubtful.len()
        );
        assert!(received > kills);
        assert!(lost.len() as u64 <= most, "{} are lost, and consumers took {most} at most: {lost:?}", lost.len());
    }
});

/// What became of the tasks, in memory that outlives those who do them.
#[repr(C)]
#[derive(ShmSafe)]
struct Tasks {
    done: AtomicU64,
    /// By place: 1 between `get` and `task_done`, and 0 outside of both calls.
    doing: [AtomicU64; PLACES],
}

/// In a call of `get` or of `task_done`.
const IN_CALL: u64 = 2;

#[process_fn]
fn does_tasks(place: usize, tasks: JoinableQueue<u64>, ledger: Shared<Tasks>, there: Sender<()>) {
    there.send(()).unwrap();
    drop(there);
    for number in 0.. {
        if place < PRODUCERS {
            tasks.put(number).unwrap();
            continue;
        }
        ledger.doing[place].store(IN_CALL, SeqCst);
        tasks.get().unwrap();
        ledger.doing[place].store(1, SeqCst);
        if number % 4 == 0 {
            thread::yield_now();
        }
        ledger.doing[place].store(IN_CALL, SeqCst);
        tasks.task_done().unwrap();
        ledger.done.fetch_add(1, SeqCst);
        ledger.doing[place].store(0, SeqCst);
    }
}

scenario!(tasks_of_consumers_that_are_killed_at_any_instant_are_abandoned_and_no_others, limit(count(60)), {
    let tasks = JoinableQueue::with_bytes(4096).unwrap();
    let ledger = Shared::<Tasks>::zeroed().unwrap();
    let crowd = Crowd::new(PLACES);
    // Of those who were killed: how many had a task for certain, and how many may have had one.
    let (certain, possible) = (RefCell::new(0), RefCell::new(0));
    let conclude = |place: usize| {
        let doing = ledger.doing[place].swap(0, SeqCst);
        *certain.borrow_mut() += (doing == 1) as usize;
        *possible.borrow_mut() += (doing != 0) as usize;
    };
    let start = |_, there| {
        let place = crowd.borrow_mut().come();
        conclude(place);
        does_tasks::call(place, tasks.clone(), ledger.clone(), there)
    };
    let doom = |number| {
        crowd.borrow_mut().go(number);
    };
    let kills = count(60);
    let check = RefCell::new(0);
    kill_at_random(PLACES, kills, start, doom, || {
        if check.replace_with(|count| *count + 1) == kills {
            return;
        }
        let before = ledger.done.load(SeqCst);
        eventually("tasks are done", || ledger.done.load(SeqCst) > before);
        match tasks.join_timeout(Duration::from_micros(10)) {
            Ok(_) => {}
            // The one that was killed just now is not in the numbers yet.
            Err(JoinError::Abandoned { tasks }) => assert!(tasks <= *possible.borrow() + 1, "{tasks}"),
            Err(error) => panic!("{error:?}"),
        }
    });
    (0..PLACES).for_each(conclude);
    let (certain, possible) = (certain.into_inner(), possible.into_inner());
    while !tasks.is_empty() {
        tasks.get().unwrap();
        tasks.task_done().unwrap();
    }
    let abandoned = tasks.unfinished();
    println!("{kills} kills, {} tasks, {abandoned} abandoned of {certain} to {possible}", ledger.done.load(SeqCst));
    assert!((certain..=possible).contains(&abandoned), "{abandoned} of {certain} to {possible}");
    match tasks.join_timeout(PATIENCE) {
        Ok(true) => assert_eq!(abandoned, 0),
        Err(JoinError::Abandoned { tasks }) => assert_eq!(tasks, abandoned),
        other => panic!("{other:?}"),
    }
    (0..abandoned).for_each(|_| tasks.task_done().unwrap());
    tasks.join().unwrap();
    tasks.task_done().unwrap_err();
});

fn numbered(number: u8) -> ByteBuf {
    ByteBuf::from(vec![number; 200])
}

#[process_fn]
fn puts_a_batch(queue: Queue<ByteBuf>) {
    queue.put_many((0..60).map(numbered)).unwrap();
}

// What it knew of the consumer is older than the ring is long.
scenario!(a_producer_that_is_killed_in_the_middle_of_a_long_batch_leaves_what_it_published, {
    let queue = Queue::with_bytes(4096).unwrap();
    let child = puts_a_batch::spawn(queue.clone()).unwrap();
    for number in 0..40 {
        assert!(next(&queue) == numbered(number));
    }
    eventually("it waits for room", || sleeps_on_a_futex(child.pid()) && queue.is_full());
    child.kill().unwrap();
    child.join().unwrap_err();
    let left = queue.len();
    refused(queue.put_timeout(numbered(100), PROMPTLY / 100), |why| {
        matches!(why, PutErrorReason::TimedOut | PutErrorReason::Disconnected)
    });
    assert_eq!(queue.len(), left);
    for number in 40..40 + left {
        assert!(next(&queue) == numbered(number as u8), "{number}");
    }
    queue.put(numbered(101)).unwrap();
    assert!(next(&queue) == numbered(101));
});
