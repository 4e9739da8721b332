use std::os::fd::OwnedFd;
use std::thread;
use std::time::Duration;

use mp_core::raw::Message;
use mp_core::{Fd, Receiver, pipe};
use mp_testing::limits::allow_descriptors;
use mp_testing::{PATIENCE, eventually, scenario};

use crate::memory::{LaneMessage, Memory};
use crate::protocol::access::{Kind, Writer};
use crate::{GetError, Producer, PutErrorReason, Queue};

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
    assert!(Message::append(value, &mut bytes, 100).unwrap().is_none());
    let mut writer = Writer::new(memory.ring(), memory.head().indices.head());
    assert!(writer.write(Kind::Message, &bytes).unwrap());
    assert_eq!(writer.publish(), Ok(1));
}

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
