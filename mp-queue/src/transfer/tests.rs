use std::cell::Cell;
use std::os::fd::OwnedFd;
use std::thread;
use std::time::Duration;

use mp_core::raw::{LargeMessages, Message};
use mp_core::{Fd, Receiver, pipe, process_fn};
use mp_testing::limits::allow_descriptors;
use mp_testing::procfs::number_of;
use mp_testing::victims::was_killed;
use mp_testing::{PATIENCE, PROMPTLY, eventually, scenario};
use rustix::process::{Signal, kill_process};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use super::Instant;
use crate::memory::{LaneMessage, Memory};
use crate::protocol::access::{Kind, Writer};
use crate::{GetError, JoinError, JoinableQueue, Producer, PutErrorReason, Queue};

type WithDescriptor = (u32, Fd<OwnedFd>);

fn with_descriptor(number: u32) -> WithDescriptor {
    (number, Fd(std::fs::File::open("/dev/null").unwrap().into()))
}

fn memory<T>(queue: &Queue<T>) -> &Memory {
    queue.memory()
}

/// Sends a message as a producer does that is killed before it publishes the record.
fn leave_behind(memory: &Memory, message: Message) -> bool {
    memory.lane_in.try_send(LaneMessage { tag: memory.tag(), message }).is_ok()
}

/// Fills the lane with what dead producers leave, and returns how much that was.
fn fill(memory: &Memory) -> usize {
    let nothing = || Message::encode(&with_descriptor(0)).unwrap();
    let count = (0..).take_while(|_| leave_behind(memory, nothing())).count();
    assert!(count > 10);
    count
}

scenario!(a_lane_that_is_full_of_what_the_dead_left_holds_no_producer_up, {
    allow_descriptors(4096);
    let queue = Queue::new().unwrap();
    fill(memory(&queue));
    queue.try_put(with_descriptor(1)).unwrap();
    assert_eq!(queue.get().unwrap().0, 1);
    fill(memory(&queue));
    queue.put_many((0..5).map(with_descriptor)).unwrap();
    assert!(queue.drain().unwrap().into_iter().map(|value| value.0).eq(0..5));
});

scenario!(nor_does_it_while_a_consumer_waits, {
    allow_descriptors(4096);
    let queue = Queue::<WithDescriptor>::new().unwrap();
    thread::scope(|scope| {
        let getting = scope.spawn(|| queue.get().unwrap().0);
        eventually("the consumer sleeps", || memory(&queue).head().indices.items.has_waiters());
        fill(memory(&queue));
        queue.put_timeout(with_descriptor(1), PATIENCE).unwrap();
        assert_eq!(getting.join().unwrap(), 1);
    });
});

scenario!(what_the_dead_left_is_passed_over, {
    let queue = Queue::new().unwrap();
    for number in 0..20 {
        for _ in 0..number {
            assert!(leave_behind(memory(&queue), Message::encode(&with_descriptor(100)).unwrap()));
        }
        queue.put(with_descriptor(number)).unwrap();
        queue.put(with_descriptor(number + 1)).unwrap();
        assert_eq!((queue.get().unwrap().0, queue.get().unwrap().0), (number, number + 1));
    }
});

// The values in the ring come first, and what is in the lane stays in their order.
scenario!(a_full_lane_is_not_emptied_of_what_has_a_record, {
    allow_descriptors(4096);
    let queue = Queue::new().unwrap();
    for number in 0..5 {
        queue.put(with_descriptor(number)).unwrap();
    }
    fill(memory(&queue));
    let error = queue.try_put(with_descriptor(5)).unwrap_err();
    assert!(matches!(error.reason, PutErrorReason::Full), "{error:?}");
    thread::scope(|scope| {
        let putting = scope.spawn(|| queue.put_timeout(with_descriptor(5), PATIENCE).unwrap());
        for number in 0..6 {
            assert_eq!(queue.get_timeout(PATIENCE).unwrap().unwrap().0, number);
        }
        putting.join().unwrap();
    });
});

scenario!(what_a_dead_producer_left_does_not_keep_its_queue_connected, {
    let queue = Queue::<Producer<()>>::new().unwrap();
    let (to, from) = (queue.producer(), queue.consumer());
    let left = Message::encode(&to).unwrap();
    assert!(leave_behind(memory(&queue), left));
    drop((queue, to));
    assert!(matches!(from.get_timeout(PATIENCE), Err(GetError::Disconnected)));
});

scenario!(what_a_dead_producer_left_is_closed_while_a_consumer_waits, {
    let queue = Queue::<WithDescriptor>::new().unwrap();
    let (alive, end) = pipe::<()>().unwrap();
    assert!(leave_behind(memory(&queue), Message::encode::<Receiver<()>>(&end).unwrap()));
    drop(end);
    alive.send(()).unwrap();
    assert!(queue.get_timeout(Duration::from_millis(250)).unwrap().is_none());
    assert!(alive.send(()).is_err());
});

scenario!(what_comes_too_late_for_a_closed_queue_is_closed, {
    let queue = Queue::<WithDescriptor>::new().unwrap();
    let (alive, end) = pipe::<()>().unwrap();
    queue.put(with_descriptor(1)).unwrap();
    assert!(leave_behind(memory(&queue), Message::encode::<Receiver<()>>(&end).unwrap()));
    drop(end);
    queue.close();
    assert_eq!(queue.get().unwrap().0, 1);
    alive.send(()).unwrap();
    assert!(matches!(queue.get(), Err(GetError::Closed)));
    assert!(alive.send(()).is_err());
});

/// Puts a value as a producer does that is killed before it wakes anybody.
fn put_silently(memory: &Memory, value: &u32) {
    let mut bytes = Vec::new();
    assert!(Message::append(value, &mut bytes, 100, Some(&LargeMessages::default())).unwrap().is_none());
    let mut writer = Writer::new(memory.ring(), memory.head().indices.head());
    assert!(writer.write(Kind::Message, &bytes).unwrap());
    assert_eq!(writer.publish(), 1);
}

scenario!(what_is_published_while_the_queue_is_closed_comes_before_the_end, {
    let queue = Queue::new().unwrap();
    let memory = memory(&queue);
    // A producer that has found the queue open.
    let producing = memory.head().producer.0.lock().unwrap();
    queue.close();
    thread::scope(|scope| {
        let all = [Duration::ZERO, Duration::from_millis(20)].map(|timeout| {
            let queue = &queue;
            scope.spawn(move || queue.get_timeout(timeout).unwrap())
        });
        assert!(all.into_iter().all(|got| got.join().unwrap().is_none()), "that is not the end yet");
        let waiting = scope.spawn(|| queue.get().unwrap());
        put_silently(memory, &7);
        drop(producing);
        assert_eq!(waiting.join().unwrap(), 7);
    });
    assert!(matches!(queue.get(), Err(GetError::Closed)));
    assert!(matches!(queue.put(8).unwrap_err().reason, PutErrorReason::Closed));
});

/// Waits for the descriptor, until there is a value.
fn get_when_readable(queue: &Queue<u32>) -> u32 {
    loop {
        let ready = mp_core::wait(&[&queue.readable().unwrap()], Some(PATIENCE)).unwrap();
        assert!(!ready.is_empty(), "it looks for itself");
        if let Some(value) = queue.try_get().unwrap() {
            return value;
        }
    }
}

scenario!(those_who_wait_for_a_descriptor_find_what_nobody_told_them, {
    let queue = Queue::new().unwrap();
    let items = &memory(&queue).head().indices.items;
    thread::scope(|scope| {
        let waiting = scope.spawn(|| get_when_readable(&queue));
        eventually("it waits", || items.has_waiters());
        put_silently(memory(&queue), &7);
        assert_eq!(waiting.join().unwrap(), 7);

        let waiting = scope.spawn(|| get_when_readable(&queue));
        eventually("it waits", || items.has_waiters());
        // As one that is killed before it writes the eventfd, or between reading it and saying that
        // it waits.
        items.notify(|| {});
        queue.put(8).unwrap();
        assert_eq!(waiting.join().unwrap(), 8);
    });
});

scenario!(those_who_wait_for_space_by_a_descriptor_find_it_too, {
    let queue = Queue::bounded(1).unwrap();
    queue.put(1).unwrap();
    thread::scope(|scope| {
        let space = &memory(&queue).head().indices.space;
        let waiting = scope.spawn(|| {
            while queue.try_put(2).is_err() {
                assert!(!mp_core::wait(&[&queue.writable().unwrap()], Some(PATIENCE)).unwrap().is_empty());
            }
        });
        eventually("it waits", || space.has_waiters());
        space.notify(|| {});
        assert_eq!(queue.get().unwrap(), 1);
        waiting.join().unwrap();
        assert_eq!(queue.get().unwrap(), 2);
    });
});

thread_local! {
    /// When this thread dies, after so many times.
    static DEATH: Cell<Option<(Instant, u32)>> = const { Cell::new(None) };
}

/// Kills the process if this is the instant.
pub(super) fn reached(instant: Instant) {
    DEATH.set(match DEATH.get() {
        Some((fatal, 0)) if fatal == instant => {
            kill_process(number_of(std::process::id()), Signal::KILL).unwrap();
            unreachable!("it is dead");
        }
        Some((fatal, times)) if fatal == instant => Some((fatal, times - 1)),
        other => other,
    });
}

/// A value and, if it has descriptors, the only receiver of what is sent here.
#[derive(Serialize, Deserialize)]
struct Parcel {
    number: u32,
    bytes: ByteBuf,
    ends: Vec<Receiver<()>>,
}

const RING: usize = 4096;

/// What a value is like: short, long, or with a descriptor; for the last one, also who can tell
/// whether the descriptor is still open.
fn parcel(number: u32) -> (Parcel, Option<mp_core::Sender<()>>) {
    let end = (number % 3 == 2).then(|| pipe().unwrap());
    let (alive, ends) = end.map_or((None, vec![]), |(alive, end)| (Some(alive), vec![end]));
    let length = if number % 3 == 1 { RING } else { 10 };
    (Parcel { number, bytes: ByteBuf::from(vec![number as u8; length]), ends }, alive)
}

#[track_caller]
fn is_parcel(got: Option<Parcel>, number: u32) {
    let got = got.expect("it comes");
    assert_eq!(got.number, number);
    assert!(got.bytes == parcel(number).0.bytes && got.ends.len() == parcel(number).0.ends.len());
}

#[process_fn]
fn puts_until_it_dies(queue: Queue<Parcel>, numbers: Vec<u32>, death: (Instant, u32)) {
    DEATH.set(Some(death));
    queue.put_many(numbers.into_iter().map(|number| parcel(number).0)).unwrap();
}

#[process_fn]
fn gets_until_it_dies(queue: Queue<Parcel>, most: usize, death: (Instant, u32)) {
    DEATH.set(Some(death));
    while queue.get_many(most).is_ok() {}
}

const SHORT: [u32; 3] = [0, 3, 6];
const LONG: [u32; 3] = [1, 4, 7];
const WITH_DESCRIPTORS: [u32; 3] = [2, 5, 8];

scenario!(a_producer_that_dies_at_any_instant_has_put_the_value_or_not, {
    for (instant, times, numbers, put) in [
        (Instant::Sent, 0, LONG, 0),
        (Instant::Sent, 1, LONG, 0),
        (Instant::Sent, 2, WITH_DESCRIPTORS, 0),
        (Instant::Written, 0, SHORT, 0),
        (Instant::Written, 0, LONG, 0),
        (Instant::Written, 0, WITH_DESCRIPTORS, 0),
        (Instant::Published, 0, SHORT, 3),
        (Instant::Published, 0, LONG, 3),
        (Instant::Published, 0, WITH_DESCRIPTORS, 3),
        (Instant::Published, 0, [0, 1, 2], 3),
        (Instant::Sent, 1, [0, 1, 2], 0),
    ] {
        for is_behind in [false, true] {
            let queue = Queue::with_bytes(RING).unwrap();
            if is_behind {
                queue.put(parcel(100).0).unwrap();
            }
            thread::scope(|scope| {
                // One that sleeps is owed a wake-up.
                let sleeping = (!is_behind).then(|| scope.spawn(|| queue.get_timeout(PATIENCE).unwrap()));
                if !is_behind {
                    eventually("it sleeps", || memory(&queue).head().indices.items.has_waiters());
                }
                let child = puts_until_it_dies::spawn(queue.clone(), numbers.to_vec(), (instant, times)).unwrap();
                was_killed(child);
                assert!(!is_behind || queue.len() == put + 1, "{instant:?}: {}", queue.len());
                // Those who come after it do not wait, and their values are the next ones.
                let begun = std::time::Instant::now();
                for number in 200..203 {
                    queue.put_timeout(parcel(number).0, PROMPTLY).unwrap();
                }
                let expected = [100].into_iter().filter(|_| is_behind);
                let mut expected = expected.chain(numbers[..put].iter().copied()).chain(200..203);
                if let Some(sleeping) = sleeping {
                    is_parcel(sleeping.join().unwrap(), expected.next().unwrap());
                }
                expected.for_each(|number| is_parcel(queue.try_get().unwrap(), number));
                assert!(begun.elapsed() < PROMPTLY, "{instant:?}");
                assert!(queue.is_empty());
            });
        }
    }
});

scenario!(a_consumer_that_dies_at_any_instant_has_taken_the_value_or_not, {
    for (instant, times, most, numbers, lost) in [
        (Instant::Copied, 0, 1, SHORT, 0),
        (Instant::Copied, 1, 1, SHORT, 1),
        (Instant::Copied, 1, 3, SHORT, 0),
        (Instant::Copied, 0, 1, LONG, 0),
        (Instant::Copied, 0, 1, WITH_DESCRIPTORS, 0),
        // Of several, those before one that is in the lane are taken with it.
        (Instant::Copied, 1, 3, LONG, 1),
        (Instant::Taken, 0, 1, SHORT, 1),
        (Instant::Taken, 0, 3, SHORT, 3),
        (Instant::Taken, 0, 1, LONG, 1),
        (Instant::Taken, 0, 1, WITH_DESCRIPTORS, 1),
        (Instant::Taken, 1, 3, WITH_DESCRIPTORS, 2),
        (Instant::Taken, 0, 3, [0, 1, 2], 2),
        (Instant::Received, 0, 1, LONG, 1),
        (Instant::Received, 1, 3, WITH_DESCRIPTORS, 2),
    ] {
        let queue = Queue::with_bytes(RING).unwrap();
        let alive: Vec<_> = numbers
            .map(|number| {
                let (parcel, alive) = parcel(number);
                queue.put(parcel).unwrap();
                alive
            })
            .into();
        was_killed(gets_until_it_dies::spawn(queue.clone(), most, (instant, times)).unwrap());
        assert_eq!(queue.len(), numbers.len() - lost, "{instant:?}");
        let begun = std::time::Instant::now();
        queue.put_timeout(parcel(200).0, PROMPTLY).unwrap();
        for number in numbers[lost..].iter().copied().chain([200]) {
            is_parcel(queue.try_get().unwrap(), number);
        }
        assert!(begun.elapsed() < PROMPTLY, "{instant:?}");
        // What it took is closed, be it still in the lane: others wait for it.
        assert!(matches!(queue.get_timeout(Duration::from_millis(250)), Ok(None) | Err(GetError::Disconnected)));
        assert!(alive.into_iter().flatten().all(|alive| alive.send(()).is_err()), "{instant:?}");
    }
});

#[process_fn]
fn takes_a_task_until_it_dies(tasks: JoinableQueue<u32>, instant: Instant) {
    DEATH.set(Some((instant, 0)));
    tasks.get().unwrap();
}

scenario!(a_task_is_abandoned_if_it_was_taken_and_only_then, {
    for (instant, abandoned) in [(Instant::Copied, 0), (Instant::Held, 0), (Instant::Taken, 1)] {
        let tasks = JoinableQueue::new().unwrap();
        tasks.put_many([1, 2]).unwrap();
        was_killed(takes_a_task_until_it_dies::spawn(tasks.clone(), instant).unwrap());
        assert_eq!(tasks.len(), 2 - abandoned);
        match tasks.join_timeout(Duration::from_millis(150)) {
            Err(JoinError::Abandoned { tasks }) => assert_eq!(tasks, abandoned),
            Err(JoinError::Disconnected) => assert_eq!(abandoned, 0),
            other => panic!("{other:?}"),
        }
        while let Ok(task) = tasks.try_get() {
            task.expect("the end comes");
            tasks.task_done().unwrap();
        }
        match tasks.join() {
            Ok(()) => assert_eq!(abandoned, 0),
            Err(JoinError::Abandoned { tasks }) => assert_eq!(tasks, abandoned),
            Err(other) => panic!("{other:?}"),
        }
    }
});
