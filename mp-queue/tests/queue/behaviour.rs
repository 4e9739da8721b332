//! Order, bounds, and the forms of putting and getting.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::thread;
use std::time::{Duration, Instant};

use mp_core::{Receiver, Sender, pipe, process_fn};
use mp_queue::{Consumer, PutErrorReason, Queue};
use mp_testing::procfs::sleeps_on_a_futex;
use mp_testing::{PATIENCE, PROMPTLY, eventually, scenario};

use crate::{next, refused};

scenario!(values_come_out_in_the_order_in_which_they_were_put, {
    let queue = Queue::new().unwrap();
    assert!(queue.is_empty() && !queue.is_full() && queue.try_get().unwrap().is_none());
    for number in 0..5_000 {
        queue.put(number).unwrap();
    }
    assert_eq!(queue.len(), 5_000);
    for number in 0..5_000 {
        assert_eq!(queue.get().unwrap(), number);
    }
    assert!(queue.is_empty() && queue.try_get().unwrap().is_none());
});

#[process_fn]
fn puts(queue: Queue<(u32, u32)>, producer: u32, count: u32) {
    for number in 0..count {
        queue.put((producer, number)).unwrap();
    }
}

#[process_fn]
fn gets_all(queue: Consumer<(u32, u32)>) -> Vec<(u32, u32)> {
    queue.iter().map(Result::unwrap).collect()
}

/// The numbers of each producer have to rise.
#[track_caller]
fn is_in_order(values: &[(u32, u32)]) {
    let mut last = BTreeMap::new();
    for (producer, number) in values {
        assert!(last.insert(producer, number).is_none_or(|last| last < number), "{producer}: {number}");
    }
}

scenario!(each_value_of_many_producers_comes_to_one_of_many_consumers_in_order, {
    const COUNT: u32 = 3_000;
    for queue in [Queue::new(), Queue::bounded(1), Queue::bounded(100), Queue::with_bytes(4096)] {
        let (to, from) = queue.unwrap().into_split();
        let consumers: Vec<_> = (0..3).map(|_| gets_all::spawn(from.clone()).unwrap()).collect();
        drop(from);
        thread::scope(|scope| {
            for producer in 0..3 {
                let to = to.clone();
                scope.spawn(move || (0..COUNT).for_each(|number| to.put((producer, number)).unwrap()));
            }
        });
        drop(to);
        let mut all = Vec::new();
        for consumer in consumers {
            let values = consumer.join().unwrap();
            is_in_order(&values);
            all.extend(values);
        }
        all.sort_unstable();
        assert!(all.into_iter().eq((0..3).flat_map(|producer| (0..COUNT).map(move |number| (producer, number)))));
    }
});

scenario!(one_consumer_sees_every_producer_in_order, {
    let queue = Queue::bounded(8).unwrap();
    let producers: Vec<_> = (0..3).map(|producer| puts::spawn(queue.clone(), producer, 2_000).unwrap()).collect();
    let values: Vec<_> = (0..6_000).map(|_| next(&queue)).collect();
    is_in_order(&values);
    producers.into_iter().for_each(|producer| producer.join().unwrap());
    assert!(queue.is_empty());
});

/// Puts a number each time that it gets the token, and passes the token on.
#[process_fn]
fn relays(queue: Queue<u32>, token: Receiver<u32>, pass: Sender<u32>) {
    for number in token.iter() {
        let number = number.unwrap();
        queue.put(number).unwrap();
        if pass.send(number + 1).is_err() {
            return;
        }
    }
}

// Who puts after another put has returned comes behind it, whichever processes these are.
scenario!(the_order_of_all_is_that_of_publishing, {
    let queue = Queue::bounded(4).unwrap();
    let ((first, to_one), (from_one, to_other), (from_other, last)) =
        (pipe().unwrap(), pipe().unwrap(), pipe().unwrap());
    let children = [
        relays::spawn(queue.clone(), to_one, from_one).unwrap(),
        relays::spawn(queue.clone(), to_other, from_other).unwrap(),
    ];
    let getting = thread::spawn({
        let queue = queue.clone();
        move || (0..1_000).for_each(|number| assert_eq!(next(&queue), number))
    });
    for round in 0..500 {
        first.send(2 * round).unwrap();
        assert_eq!(last.recv().unwrap(), 2 * round + 2);
    }
    drop(first);
    getting.join().unwrap();
    children.into_iter().for_each(|child| child.join().unwrap());
});

scenario!(a_queue_holds_as_many_values_as_it_was_made_for, {
    for (made_for, holds) in [(0, 1), (1, 1), (3, 3), (1_000, 1_000)] {
        let queue = Queue::bounded(made_for).unwrap();
        assert_eq!((queue.capacity(), queue.capacity_in_bytes()), (holds, 4 << 20));
        for round in 0..3 {
            for number in 0..holds {
                assert!(!queue.is_full(), "{number} of {holds}");
                queue.try_put(number).unwrap();
                assert_eq!(queue.len(), number + 1);
            }
            assert!(queue.is_full() && queue.len() == holds);
            assert_eq!(refused(queue.try_put(7), |why| matches!(why, PutErrorReason::Full)), 7, "round {round}");
            for number in 0..holds {
                assert_eq!(queue.try_get().unwrap(), Some(number));
                assert!(!queue.is_full());
            }
            assert_eq!(queue.try_get().unwrap(), None);
        }
    }
});

scenario!(a_queue_holds_as_many_bytes_as_it_was_made_for, {
    for (asked, bytes) in [(0, 4096), (1, 4096), (4096, 4096), (4097, 8192), (1 << 20, 1 << 20)] {
        let queue = Queue::with_bytes(asked).unwrap();
        assert_eq!((queue.capacity_in_bytes(), queue.capacity()), (bytes, bytes / 16));
        for _ in 0..3 {
            // Eight bytes, and eight more.
            let mut count = 0;
            while queue.try_put(count as u64).is_ok() {
                count += 1;
            }
            assert_eq!((count, queue.len(), queue.is_full()), (bytes / 16, bytes / 16, true));
            for number in 0..count {
                assert_eq!(queue.get().unwrap(), number as u64);
            }
        }
    }
    assert_eq!(Queue::<u8>::bounded(1 << 20).unwrap().capacity_in_bytes(), 256 << 20);
});

scenario!(a_queue_that_is_too_large_is_an_error, {
    for bytes in [(8 << 30) + 1, usize::MAX, 1 << 63] {
        assert_eq!(Queue::<u8>::with_bytes(bytes).unwrap_err().kind(), ErrorKind::InvalidInput);
    }
    assert_eq!(Queue::<u8>::bounded(usize::MAX).unwrap_err().kind(), ErrorKind::InvalidInput);
});

scenario!(values_without_bytes_are_counted, {
    let queue = Queue::with_bytes(4096).unwrap();
    let mut count = 0;
    while queue.try_put(()).is_ok() {
        count += 1;
        assert_eq!(queue.len(), count);
    }
    assert!(count >= queue.capacity(), "{count}");
    assert_eq!(queue.drain().unwrap().len(), count);
    assert!(queue.is_empty());
});

scenario!(waiting_is_as_long_as_it_says, {
    let queue = Queue::bounded(1).unwrap();
    for time in [Duration::from_nanos(1), Duration::from_millis(5), Duration::from_millis(120)] {
        let begun = Instant::now();
        assert_eq!(queue.get_timeout(time).unwrap(), None);
        assert!(begun.elapsed() >= time);
    }
    queue.put(1).unwrap();
    for time in [Duration::from_nanos(1), Duration::from_millis(5), Duration::from_millis(120)] {
        let begun = Instant::now();
        refused(queue.put_timeout(2, time), |why| matches!(why, PutErrorReason::TimedOut));
        assert!(begun.elapsed() >= time);
    }
    refused(queue.put_timeout(2, Duration::ZERO), |why| matches!(why, PutErrorReason::Full | PutErrorReason::TimedOut));
    assert_eq!(queue.get_timeout(Duration::ZERO).unwrap(), Some(1));
    assert_eq!(queue.get_timeout(Duration::ZERO).unwrap(), None);
    // What is longer than the clock can count.
    queue.put_timeout(3, Duration::MAX).unwrap();
    assert_eq!(queue.get_timeout(Duration::MAX).unwrap(), Some(3));
});

#[process_fn]
fn puts_later(queue: Queue<u32>, begin: Receiver<()>) {
    for number in 0..10 {
        begin.recv().unwrap();
        queue.put(number).unwrap();
    }
}

scenario!(a_get_that_waits_ends_promptly_with_a_value, {
    let queue = Queue::new().unwrap();
    let (begin, begins) = pipe().unwrap();
    let child = puts_later::spawn(queue.clone(), begins).unwrap();
    for number in 0..10 {
        begin.send(()).unwrap();
        let begun = Instant::now();
        assert_eq!(next(&queue), number);
        assert!(begun.elapsed() < PROMPTLY);
    }
    child.join().unwrap();
});

#[process_fn]
fn gets_later(queue: Queue<u32>, begin: Receiver<()>) {
    for number in 0..10 {
        begin.recv().unwrap();
        assert_eq!(queue.get().unwrap(), number);
    }
}

scenario!(a_put_that_waits_ends_promptly_with_room, {
    let queue = Queue::bounded(1).unwrap();
    let (begin, begins) = pipe().unwrap();
    let child = gets_later::spawn(queue.clone(), begins).unwrap();
    queue.put(0).unwrap();
    for number in 1..11 {
        begin.send(()).unwrap();
        let begun = Instant::now();
        queue.put_timeout(number, PATIENCE).unwrap();
        assert!(begun.elapsed() < PROMPTLY);
    }
    child.join().unwrap();
    assert_eq!(queue.get().unwrap(), 10);
});

#[process_fn]
fn puts_when_told(queue: Queue<Vec<u8>>, length: usize, begin: Receiver<()>, done: Sender<()>) {
    for () in begin.iter().map(Result::unwrap) {
        queue.put(vec![1; length]).unwrap();
        done.send(()).unwrap();
    }
}

// Otherwise what wakes the one that waits for much reaches the other one after 100 ms, 30 times.
scenario!(one_that_waits_for_much_room_does_not_keep_others_from_using_little, {
    let queue = Queue::with_bytes(1 << 16).unwrap();
    while queue.try_put(vec![1; 48]).is_ok() {}
    assert!(queue.is_full());
    let ((tell, told), (done, dones)) = (pipe().unwrap(), pipe().unwrap());
    let much = puts_when_told::spawn(queue.clone(), 4000, told, done).unwrap();
    tell.send(()).unwrap();
    eventually("it waits", || sleeps_on_a_futex(much.pid()));
    let ((tell_little, told), (done, little_dones)) = (pipe().unwrap(), pipe().unwrap());
    let little = puts_when_told::spawn(queue.clone(), 48, told, done).unwrap();
    let mut waited = Duration::ZERO;
    for _ in 0..30 {
        tell_little.send(()).unwrap();
        eventually("it waits, too", || sleeps_on_a_futex(little.pid()));
        let begun = Instant::now();
        queue.get().unwrap();
        little_dones.recv().unwrap();
        waited += begun.elapsed();
        assert!(dones.try_recv().unwrap().is_none(), "there is no room for much");
    }
    assert!(waited < PROMPTLY, "{waited:?}");
    drop(tell_little);
    little.join().unwrap();
    // What it put can be taken before it has told so, and nothing comes behind that.
    while queue.get().unwrap().len() == 48 {}
    dones.recv().unwrap();
    drop(tell);
    much.join().unwrap();
});

scenario!(all_that_wait_get_what_comes, {
    let queue = Queue::bounded(2).unwrap();
    let sum: u64 = thread::scope(|scope| {
        let getting: Vec<_> = (0..8).map(|_| scope.spawn(|| next(&queue))).collect();
        let putting: Vec<_> = (1..=8)
            .map(|number| {
                scope.spawn({
                    let queue = &queue;
                    move || queue.put_timeout(number, PATIENCE).unwrap()
                })
            })
            .collect();
        putting.into_iter().for_each(|thread| thread.join().unwrap());
        getting.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!((sum, queue.is_empty()), (36, true));
});

// What is asked while others work is between what it can be.
scenario!(the_length_is_never_more_than_the_capacity, {
    let queue = Queue::bounded(5).unwrap();
    let child = puts::spawn(queue.clone(), 0, 20_000).unwrap();
    thread::scope(|scope| {
        let getting = scope.spawn(|| (0..20_000).for_each(|number| assert_eq!(next(&queue), (0, number))));
        while !getting.is_finished() {
            assert!(queue.len() <= 5);
            let _ = (queue.is_full(), queue.is_empty(), format!("{queue:?}"));
        }
    });
    child.join().unwrap();
});

scenario!(what_is_printed_says_how_full_it_is, {
    let queue = Queue::bounded(3).unwrap();
    queue.put(1).unwrap();
    assert_eq!(format!("{queue:?}"), "Queue { len: 1, capacity: 3, is_closed: false }");
    let (to, from) = (queue.producer(), queue.consumer());
    assert_eq!(format!("{to:?}"), "Producer { len: 1, capacity: 3, is_closed: false }");
    assert_eq!(format!("{from:?}"), "Consumer { len: 1, capacity: 3, is_closed: false }");
    to.put_many([2, 3]).unwrap();
    let error = queue.try_put(4).unwrap_err();
    assert_eq!(format!("{error:?}"), "PutError { reason: Full, .. }");
    assert_eq!(error.to_string(), "the queue is full");
});

// An old page of the ring is used again, and the values that cross a boundary stay whole.
scenario!(a_queue_that_goes_round_keeps_every_value, {
    for bytes in [4096, 64 << 10, 256 << 10] {
        let queue = Queue::with_bytes(bytes).unwrap();
        let (mut put, mut got) = (0_usize, 0_usize);
        let value = |number: usize| vec![number as u8; number * 37 % (bytes / 5)];
        for round in 0..600 {
            // It is empty in between every seventh time.
            let fill = if round % 7 == 0 { 0 } else { round % 5 };
            while put - got <= fill && queue.try_put(value(put)).is_ok() {
                put += 1;
            }
            while put - got > fill.saturating_sub(1) {
                assert!(queue.get().unwrap() == value(got), "{got}");
                got += 1;
            }
        }
    }
});

#[process_fn]
fn answers(questions: Queue<u32>, answers: Queue<u32>) {
    for question in questions.iter() {
        answers.put(question.unwrap() + 1).unwrap();
    }
}

scenario!(questions_and_answers_go_forth_and_back, {
    let (questions, replies) = (Queue::new().unwrap(), Queue::new().unwrap());
    let child = answers::spawn(questions.clone(), replies.clone()).unwrap();
    for number in 0..2_000 {
        questions.put(number).unwrap();
        assert_eq!(next(&replies), number + 1);
    }
    questions.close();
    child.join().unwrap();
});

scenario!(a_thread_that_is_about_to_end_can_still_use_it, {
    struct PutsInTheEnd(Queue<u32>);
    impl Drop for PutsInTheEnd {
        fn drop(&mut self) {
            self.0.put(7).unwrap();
            assert_eq!(self.0.get().unwrap(), 7);
            self.0.put(8).unwrap();
        }
    }
    thread_local! {
        static LAST: std::cell::RefCell<Option<PutsInTheEnd>> = const { std::cell::RefCell::new(None) };
    }
    let queue = Queue::new().unwrap();
    let thread = thread::spawn({
        let queue = queue.clone();
        move || {
            LAST.set(Some(PutsInTheEnd(queue.clone())));
            // So that what the thread keeps for its next put is dropped before.
            queue.put(1).unwrap();
            assert_eq!(queue.get().unwrap(), 1);
        }
    });
    thread.join().unwrap();
    assert_eq!(queue.get().unwrap(), 8);
    eventually("it is empty", || queue.is_empty());
});
