//! The protocol of mp-queue's ring, by producers and consumers as mp-queue has them, with the bytes
//! of a message as one cell, the locks as loom's, and the eventfd as a flag.

use loom::cell::UnsafeCell;
use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;

use crate::deadline::Deadline;
use crate::index::{Indices, Signal, fence_after_unlocking};
use crate::raw::model;

/// A ring of `N` messages of one unit each, without the rest of a queue.
struct Queue<const N: u32> {
    indices: Indices,
    cells: [UnsafeCell<u32>; 2],
    producer: Mutex<()>,
    consumer: Mutex<()>,
    items_event: Event,
    space_event: Event,
}

// SAFETY: a cell belongs to the producer or to the consumer; loom checks that.
unsafe impl<const N: u32> Sync for Queue<N> {}
// SAFETY: the same.
unsafe impl<const N: u32> Send for Queue<N> {}

/// An eventfd: a flag, and those who wait for it in poll.
struct Event {
    readable: Mutex<bool>,
    written: Condvar,
}

impl Event {
    fn new() -> Self {
        Self { readable: Mutex::new(false), written: Condvar::new() }
    }

    fn write(&self) {
        *self.readable.lock().unwrap() = true;
        self.written.notify_all();
    }

    fn clear(&self) {
        *self.readable.lock().unwrap() = false;
    }

    fn poll(&self) {
        let mut readable = self.readable.lock().unwrap();
        while !*readable {
            readable = self.written.wait(readable).unwrap();
        }
    }
}

#[derive(Debug, PartialEq)]
enum Attempt<T> {
    Done(T),
    Wait,
    Closed,
}

impl<const N: u32> Queue<N> {
    fn new() -> Arc<Self> {
        let queue = Self {
            indices: Indices::new(),
            cells: [UnsafeCell::new(0), UnsafeCell::new(0)],
            producer: Mutex::new(()),
            consumer: Mutex::new(()),
            items_event: Event::new(),
            space_event: Event::new(),
        };
        // Loom takes the values that atomics are made with for older ones that a load may still see
        // after a sequentially consistent store. So each word is stored once.
        assert_eq!((queue.try_put(&[0]), queue.try_get()), (Attempt::Done(()), Attempt::Done(0)));
        for signal in [&queue.indices.items, &queue.indices.space] {
            signal.watch();
            signal.notify(|| {});
        }
        Arc::new(queue)
    }

    fn notify_items(&self) {
        fence_after_unlocking();
        self.indices.items.notify(|| self.items_event.write());
    }

    fn notify_space(&self) {
        fence_after_unlocking();
        self.indices.space.notify(|| self.space_event.write());
    }

    fn close(&self) {
        self.indices.close();
        self.indices.items.notify_all(|| self.items_event.write());
        self.indices.space.notify_all(|| self.space_event.write());
    }

    fn is_readable(&self) -> bool {
        self.indices.is_closed() || self.indices.tail().units_since(self.indices.head()) != 0
    }

    /// Also when it was looked at in the middle of something.
    fn has_room(&self, count: usize) -> bool {
        let head = self.indices.head();
        self.indices.tail().units_since(head) + count as u32 <= N
    }

    /// Puts some values by one write, if there is room for all. Only for the producer.
    fn write(&self, values: &[u32]) -> Attempt<()> {
        let (tail, head) = (self.indices.tail(), self.indices.head());
        if self.indices.is_closed() {
            return Attempt::Closed;
        }
        if tail.units_since(head) + values.len() as u32 > N {
            return Attempt::Wait;
        }
        let mut next = tail;
        for value in values {
            // SAFETY: the cell is free, so it is the producer's.
            self.cells[(next.position() % N) as usize].with_mut(|cell| unsafe { *cell = *value });
            next = next.plus(1, 1);
        }
        self.indices.publish(next);
        Attempt::Done(())
    }

    /// Only for the consumer.
    fn read(&self) -> Attempt<u32> {
        let (tail, head) = (self.indices.tail(), self.indices.head());
        if tail.units_since(head) == 0 {
            return Attempt::Wait;
        }
        // SAFETY: the cell was published, so it is the consumer's.
        let value = self.cells[(head.position() % N) as usize].with(|cell| unsafe { *cell });
        self.indices.take(head.plus(1, 1));
        Attempt::Done(value)
    }

    fn try_put(&self, values: &[u32]) -> Attempt<()> {
        let producer = self.producer.lock().unwrap();
        let result = self.write(values);
        drop(producer);
        if result == Attempt::Done(()) {
            self.notify_items();
        }
        if result == Attempt::Done(()) && self.indices.space.has_waiters() && self.has_room(1) {
            self.notify_space();
        }
        result
    }

    fn try_get(&self) -> Attempt<u32> {
        let consumer = self.consumer.lock().unwrap();
        let result = self.read();
        drop(consumer);
        if let Attempt::Done(_) = result {
            self.notify_space();
        }
        if self.indices.items.has_waiters() && self.is_readable() {
            self.notify_items();
        }
        if result == Attempt::Wait && self.indices.is_closed() { self.end() } else { result }
    }

    /// What a consumer that found nothing in a closed ring reports.
    fn end(&self) -> Attempt<u32> {
        let _producer = self.producer.lock().unwrap();
        let _consumer = self.consumer.lock().unwrap();
        let is_empty = self.indices.tail().units_since(self.indices.head()) == 0;
        if is_empty { Attempt::Closed } else { Attempt::Wait }
    }

    fn sleep(signal: &Signal, ready: impl FnOnce() -> bool) {
        signal.sleep(ready, Deadline::NEVER);
    }

    /// Whether they were put; otherwise it was closed.
    fn put(&self, values: &[u32]) -> bool {
        loop {
            match self.try_put(values) {
                Attempt::Done(()) => return true,
                Attempt::Closed => return false,
                Attempt::Wait => {
                    Self::sleep(&self.indices.space, || self.indices.is_closed() || self.has_room(values.len()))
                }
            }
        }
    }

    fn get(&self) -> Option<u32> {
        loop {
            match self.try_get() {
                Attempt::Done(value) => return Some(value),
                Attempt::Closed => return None,
                Attempt::Wait => Self::sleep(&self.indices.items, || self.is_readable()),
            }
        }
    }

    /// The same by the eventfd.
    fn put_watching(&self, values: &[u32]) -> bool {
        loop {
            match self.try_put(values) {
                Attempt::Done(()) => return true,
                Attempt::Closed => return false,
                Attempt::Wait => {}
            }
            self.space_event.clear();
            self.indices.space.watch();
            if self.indices.is_closed() || self.has_room(values.len()) {
                self.notify_space();
            }
            self.space_event.poll();
        }
    }

    fn get_watching(&self) -> Option<u32> {
        loop {
            match self.try_get() {
                Attempt::Done(value) => return Some(value),
                Attempt::Closed => return None,
                Attempt::Wait => {}
            }
            self.items_event.clear();
            self.indices.items.watch();
            if self.is_readable() {
                self.notify_items();
            }
            self.items_event.poll();
        }
    }
}

/// Runs each of these with a queue, the first one in this thread, and returns what they return.
fn run<const N: u32, const K: usize, R: 'static>(parts: [fn(&Queue<N>) -> R; K]) -> Vec<R> {
    let queue = Queue::new();
    let mut parts = parts.into_iter();
    let first = parts.next().unwrap();
    let others: Vec<_> = parts
        .map(|part| {
            let queue = Arc::clone(&queue);
            thread::spawn(move || part(&queue))
        })
        .collect();
    let first = first(&queue);
    [first].into_iter().chain(others.into_iter().map(|other| other.join().unwrap())).collect()
}

/// What was gotten, in order of its value.
fn gotten(results: Vec<Option<u32>>) -> Vec<u32> {
    let mut values: Vec<_> = results.into_iter().flatten().collect();
    values.sort_unstable();
    values
}

/// Puts nothing out.
fn silently(put: bool) -> Option<u32> {
    assert!(put);
    None
}

#[test]
fn values_go_from_one_to_one_in_order_and_whole() {
    model(|| {
        let _ = run::<1, _, _>([
            |queue| (1..=3).for_each(|number| assert!(queue.put(&[number]))),
            |queue| (1..=3).for_each(|number| assert_eq!(queue.get(), Some(number))),
        ]);
    });
}

#[test]
fn values_that_are_published_together_are_whole() {
    model(|| {
        let _ = run::<2, _, _>([
            |queue| [[1, 2], [3, 4]].iter().for_each(|values| assert!(queue.put(values))),
            |queue| (1..=4).for_each(|number| assert_eq!(queue.get(), Some(number))),
        ]);
    });
}

#[test]
fn each_of_two_that_sleep_gets_one_of_two() {
    model(|| {
        let results = run::<2, _, _>([
            |queue| silently(queue.put(&[1]) && queue.put(&[2])),
            |queue| queue.get(),
            |queue| queue.get(),
        ]);
        assert_eq!(gotten(results), [1, 2]);
    });
}

#[test]
fn each_of_two_that_sleep_gets_one_of_two_that_come_together() {
    model(|| {
        let results = run::<2, _, _>([|queue| silently(queue.put(&[1, 2])), |queue| queue.get(), |queue| queue.get()]);
        assert_eq!(gotten(results), [1, 2]);
    });
}

#[test]
fn each_of_two_that_have_no_room_gets_it() {
    model(|| {
        let results = run::<1, _, _>([
            |queue| Some(queue.get().unwrap() + queue.get().unwrap()),
            |queue| silently(queue.put(&[1])),
            |queue| silently(queue.put(&[2])),
        ]);
        assert_eq!(gotten(results), [3]);
    });
}

#[test]
fn closing_wakes_all_that_wait_for_a_value() {
    model(|| {
        let results = run::<1, _, _>([
            |queue| {
                queue.close();
                None
            },
            |queue| queue.get(),
            |queue| queue.get(),
        ]);
        assert_eq!(gotten(results), []);
    });
}

#[test]
fn closing_wakes_both_sides_and_loses_nothing() {
    model(|| {
        let results = run::<1, _, _>([
            |queue| {
                // How many were put.
                let count = (1..=2).take_while(|number| queue.put(&[*number])).count();
                queue.close();
                count as u32
            },
            |queue| {
                let mut count = 0;
                while queue.get().is_some() {
                    count += 1;
                }
                count
            },
            |queue| {
                queue.close();
                u32::MAX
            },
        ]);
        assert_eq!(results[0], results[1]);
    });
}

#[test]
fn those_who_watch_get_each_value_that_comes() {
    model(|| {
        let results = run::<2, _, _>([
            |queue| silently(queue.put(&[1]) && queue.put(&[2])),
            |queue| queue.get_watching(),
            |queue| queue.get_watching(),
        ]);
        assert_eq!(gotten(results), [1, 2]);
    });
}

#[test]
fn one_that_watches_and_one_that_sleeps_each_get_a_value() {
    model(|| {
        let results = run::<2, _, _>([
            |queue| silently(queue.put(&[1]) && queue.put(&[2])),
            |queue| queue.get_watching(),
            |queue| queue.get(),
        ]);
        assert_eq!(gotten(results), [1, 2]);
    });
}

#[test]
fn values_go_one_by_one_to_one_that_watches() {
    model(|| {
        let _ = run::<1, _, _>([
            |queue| (1..=3).for_each(|number| assert!(queue.put_watching(&[number]))),
            |queue| (1..=3).for_each(|number| assert_eq!(queue.get_watching(), Some(number))),
        ]);
    });
}

#[test]
fn one_that_watches_for_room_and_one_that_sleeps_both_get_it() {
    model(|| {
        let results = run::<1, _, _>([
            |queue| Some(queue.get().unwrap() + queue.get().unwrap()),
            |queue| silently(queue.put_watching(&[1])),
            |queue| silently(queue.put(&[2])),
        ]);
        assert_eq!(gotten(results), [3]);
    });
}

#[test]
fn closing_is_seen_by_those_who_watch() {
    model(|| {
        let all: fn(&Queue<1>) -> Option<u32> = |queue| {
            let mut sum = 0;
            while let Some(value) = queue.get_watching() {
                sum += value;
            }
            Some(sum)
        };
        let puts_and_closes: fn(&Queue<1>) -> Option<u32> = |queue| {
            assert!(queue.put(&[1]));
            queue.close();
            None
        };
        assert_eq!(gotten(run([puts_and_closes, all, all])), [0, 1]);
    });
}
