//! A futex that loom can model: comparing and queueing are one step, under the lock of the queue,
//! as in the kernel.
//!
//! Time does not pass: a sleep with a deadline is late at once, and one without lasts until it is
//! woken. It does not check the word in between. So a lost wake-up is a deadlock, which loom
//! reports.

use loom::sync::{Arc, Condvar, Mutex};

pub(crate) use loom::hint::spin_loop;
pub(crate) use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

use super::Slept;
use crate::deadline::Deadline;

pub(crate) struct Futex {
    value: AtomicU32,
    queue: Mutex<Queue>,
    wakes: Condvar,
}

/// Sleepers are woken in the order of their arrival.
#[derive(Default)]
struct Queue {
    /// How many have arrived.
    came: u32,
    /// How many of them have been woken.
    woken: u32,
    /// Threads that sleep on other words as well. Every wake-up wakes them too.
    watchers: Vec<Arc<Watcher>>,
}

/// A thread that sleeps on several words.
struct Watcher {
    woken: Mutex<bool>,
    wakes: Condvar,
}

impl Watcher {
    fn wake(&self) {
        *self.woken.lock().unwrap() = true;
        self.wakes.notify_all();
    }
}

impl std::ops::Deref for Futex {
    type Target = AtomicU32;

    fn deref(&self) -> &AtomicU32 {
        &self.value
    }
}

impl Futex {
    pub(crate) fn new(value: u32) -> Self {
        Self { value: AtomicU32::new(value), queue: Mutex::new(Queue::default()), wakes: Condvar::new() }
    }

    pub(crate) fn sleep(&self, expected: u32, deadline: Deadline) -> Slept {
        let mut queue = self.queue.lock().unwrap();
        if self.value.load(Ordering::SeqCst) != expected {
            return Slept::Awake;
        }
        if deadline != Deadline::NEVER {
            return Slept::Late;
        }
        let turn = queue.came;
        queue.came += 1;
        while queue.woken <= turn {
            queue = self.wakes.wait(queue).unwrap();
        }
        Slept::Awake
    }

    pub(crate) fn sleep_on(&self, expected: u32, deadline: Deadline) -> Slept {
        self.sleep(expected, deadline)
    }

    pub(crate) fn sleep_any(words: &[(&Self, u32)], deadline: Deadline) -> Slept {
        let watcher = Arc::new(Watcher { woken: Mutex::new(false), wakes: Condvar::new() });
        let mut slept = Slept::Awake;
        for (word, expected) in words {
            let mut queue = word.queue.lock().unwrap();
            queue.watchers.push(Arc::clone(&watcher));
            if word.value.load(Ordering::SeqCst) != *expected {
                watcher.wake();
            }
        }
        let mut woken = watcher.woken.lock().unwrap();
        while !*woken {
            if deadline != Deadline::NEVER {
                slept = Slept::Late;
                break;
            }
            woken = watcher.wakes.wait(woken).unwrap();
        }
        drop(woken);
        for (word, _) in words {
            word.queue.lock().unwrap().watchers.retain(|other| !Arc::ptr_eq(other, &watcher));
        }
        slept
    }

    pub(crate) fn wake(&self, count: u32) -> u32 {
        let mut queue = self.queue.lock().unwrap();
        queue.watchers.iter().for_each(|watcher| watcher.wake());
        let woken = count.min(queue.came - queue.woken);
        queue.woken += woken;
        self.wakes.notify_all();
        woken
    }

    pub(crate) fn wake_all(&self) -> u32 {
        self.wake(u32::MAX)
    }
}

/// The calling thread as an owner of locks. This does not model death: a test changes the word as
/// the kernel does.
#[derive(Clone, Copy)]
pub(crate) struct Thread(u32);

impl Thread {
    pub(crate) fn current() -> Self {
        static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(1);
        loom::thread_local! {
            static ID: u32 = NEXT.fetch_add(1, Ordering::Relaxed) % 0x1000_0000 + 1;
        }
        Self(ID.with(|id| *id))
    }

    pub(crate) fn id(self) -> u32 {
        self.0
    }

    pub(crate) fn shares(self, _: &Link) -> bool {
        true
    }

    pub(crate) fn begin(self, _: &Link) {}

    pub(crate) fn end(self) {}

    pub(crate) fn hold(self, _: &Link) {}

    pub(crate) fn holds_last(self, _: &Link) -> bool {
        true
    }

    pub(crate) fn release_last(self, _: &Link) {}

    pub(crate) fn release(self, _: &Link) {}
}

pub(crate) struct Link;

impl Link {
    pub(crate) fn new() -> Self {
        Self
    }
}
