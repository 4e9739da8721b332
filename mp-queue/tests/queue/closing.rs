//! Closing: puts fail, gets drain, and nobody goes on waiting.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use mp_core::{Receiver, Sender, pipe, process_fn};
use mp_queue::{Consumer, GetError, GetManyError, Producer, PutErrorReason, PutManyError, Queue};
use mp_testing::procfs::sleeps_on_a_futex;
use mp_testing::victims::soon;
use mp_testing::{PROMPTLY, eventually, scenario};
use serde::{Deserialize, Serialize};

use crate::has_no_receiver;
use crate::refused;

fn is_closed(reason: &PutErrorReason) -> bool {
    matches!(reason, PutErrorReason::Closed)
}

scenario!(what_was_put_before_is_gotten_and_then_the_end, {
    let queue = Queue::new().unwrap();
    queue.put_many(0..5).unwrap();
    assert!(!queue.is_closed());
    queue.close();
    queue.close();
    assert!(queue.is_closed() && queue.len() == 5);
    assert_eq!(refused(queue.put(7), is_closed), 7);
    assert_eq!(refused(queue.try_put(7), is_closed), 7);
    assert_eq!(refused(queue.put_timeout(7, PROMPTLY), is_closed), 7);
    let PutManyError { put, values, reason } = queue.put_many(0..3).unwrap_err();
    assert!(put == 0 && values == [0, 1, 2] && is_closed(&reason));
    assert_eq!(queue.get().unwrap(), 0);
    assert_eq!(queue.try_get().unwrap(), Some(1));
    assert_eq!(queue.get_many(1).unwrap(), [2]);
    assert_eq!(queue.drain().unwrap(), [3, 4]);
    for _ in 0..2 {
        assert!(matches!(queue.get(), Err(GetError::Closed)));
        assert!(matches!(queue.try_get(), Err(GetError::Closed)));
        assert!(matches!(queue.get_timeout(PROMPTLY), Err(GetError::Closed)));
        assert!(matches!(queue.get_many(1), Err(GetManyError { reason: GetError::Closed, .. })));
        assert!(matches!(queue.drain(), Err(GetManyError { reason: GetError::Closed, .. })));
        assert_eq!(queue.iter().count(), 0);
    }
});

scenario!(every_handle_closes_it_for_all, {
    let closes: [fn(&Queue<u32>); 4] = [
        Queue::close,
        |queue| queue.clone().close(),
        |queue| queue.producer().close(),
        |queue| queue.consumer().close(),
    ];
    for close in closes {
        let queue = Queue::new().unwrap();
        let (to, from) = (queue.producer(), queue.consumer());
        close(&queue);
        refused(to.put(1), is_closed);
        assert!(matches!(from.get(), Err(GetError::Closed)));
    }
});

#[process_fn]
fn waits_for_a_value(queue: Queue<u32>) -> bool {
    matches!(queue.get(), Err(GetError::Closed))
}

#[process_fn]
fn waits_for_room(queue: Queue<u32>) -> bool {
    matches!(queue.put(2).unwrap_err().reason, PutErrorReason::Closed)
}

scenario!(processes_that_wait_are_told_promptly, {
    for full in [false, true] {
        let queue = Queue::bounded(1).unwrap();
        if full {
            queue.put(1).unwrap();
        }
        let start =
            || if full { waits_for_room::spawn(queue.clone()) } else { waits_for_a_value::spawn(queue.clone()) };
        let children: Vec<_> = (0..3).map(|_| start().unwrap()).collect();
        for child in &children {
            eventually("it sleeps", || sleeps_on_a_futex(child.pid()));
        }
        let begun = Instant::now();
        queue.close();
        assert!(children.into_iter().all(|child| child.join().unwrap()));
        assert!(begun.elapsed() < PROMPTLY);
    }
});

#[process_fn]
fn gets_until_the_end(queue: Consumer<u64>, there: Sender<()>) -> u64 {
    there.send(()).unwrap();
    queue.iter().map(|number| number.unwrap()).sum()
}

/// Puts until it is told that the queue is closed, and returns the sum of what was put.
#[process_fn]
fn puts_until_closed(queue: Producer<u64>, there: Sender<()>, together: usize) -> u64 {
    there.send(()).unwrap();
    let mut sum = 0;
    for number in (1..).step_by(together.max(1)) {
        if together == 0 {
            match queue.put(number) {
                Ok(()) => sum += number,
                Err(error) if is_closed(&error.reason) => return sum,
                Err(error) => panic!("{error}"),
            }
            continue;
        }
        let values = number..number + together as u64;
        match queue.put_many(values.clone()) {
            Ok(put) => sum += values.take(put).sum::<u64>(),
            Err(error) if is_closed(&error.reason) => return sum + values.take(error.put).sum::<u64>(),
            Err(error) => panic!("{error}"),
        }
    }
    unreachable!("it is closed before")
}

// Every put that returned `Ok` is gotten, and no other.
scenario!(no_put_that_succeeded_is_lost_by_closing, {
    for round in 0..12 {
        let queue = if round % 2 == 0 { Queue::bounded(3) } else { Queue::with_bytes(16 << 10) }.unwrap();
        let (there, come) = pipe().unwrap();
        let consumers: Vec<_> =
            (0..2).map(|_| gets_until_the_end::spawn(queue.consumer(), there.try_clone().unwrap()).unwrap()).collect();
        let producers: Vec<_> = (0..2)
            .map(|number| {
                puts_until_closed::spawn(queue.producer(), there.try_clone().unwrap(), number * (round + 3)).unwrap()
            })
            .collect();
        (0..4).for_each(|_| soon(&come));
        // They are at it.
        eventually("something is put", || !queue.is_empty());
        queue.close();
        let put: u64 = producers.into_iter().map(|producer| producer.join().unwrap()).sum();
        let gotten: u64 = consumers.into_iter().map(|consumer| consumer.join().unwrap()).sum();
        assert_eq!(put, gotten);
        assert!(queue.is_empty());
    }
});

#[derive(Serialize, Deserialize)]
struct WithDescriptor(u64, Receiver<()>);

// The descriptors of those that came too late are closed.
scenario!(closing_races_with_values_that_hold_descriptors, {
    for _ in 0..100 {
        let queue = Queue::bounded(20).unwrap();
        let put = AtomicU64::new(0);
        let mut ends = Vec::new();
        let gotten: u64 = thread::scope(|scope| {
            let putting = scope.spawn(|| {
                let mut ends = Vec::new();
                for number in 1.. {
                    let (sender, receiver) = pipe().unwrap();
                    ends.push(sender);
                    match queue.put(WithDescriptor(number, receiver)) {
                        Ok(()) => put.fetch_add(number, Ordering::Relaxed),
                        Err(error) if is_closed(&error.reason) => return ends,
                        Err(error) => panic!("{error}"),
                    };
                }
                unreachable!("it is closed before")
            });
            let getting = scope.spawn(|| {
                let mut sum = 0;
                for value in queue.iter() {
                    sum += value.unwrap().0;
                    if sum > 10 {
                        queue.close();
                    }
                }
                sum
            });
            ends = putting.join().unwrap();
            getting.join().unwrap()
        });
        assert_eq!(gotten, put.into_inner());
        for end in &ends {
            eventually("nobody has its descriptor", || has_no_receiver(end));
        }
    }
});
