//! The one thread that waits on behalf of every task.
//!
//! | a waiter | is | left by |
//! |---|---|---|
//! | new | a future that was not polled yet | its first poll: to listed |
//! | listed | under the key of its descriptor, with its waker | the next event of that descriptor: to woken; the end of the future |
//! | woken | no longer listed | its next poll, which is ready |
//!
//! The descriptors stand in an epoll set, each from the first time that something waits for it
//! until it is closed.
//!
//! 1. An event disarms its descriptor (`EPOLLONESHOT`) and wakes all that are listed for it,
//!    whatever they wait for. Who has to wait on arms it anew, with what all that are listed then
//!    wait for. So nothing is armed that nobody waits for, and an event that comes between a look
//!    and the wait after it is not lost: arming asks for the state, not for a change.
//! 2. Being ready is a hint: the operation is tried again, and may have to wait again.
//! 3. A descriptor is closed after it was taken out of the set: what is duplicated elsewhere would
//!    keep it there. Each waiter has a part in it, so none is listed by then.
//! 4. Wakers, which are code of others, are never called, cloned or dropped under the lock.
//! 5. Descriptors are used as they are. None is made non-blocking: that is a property of what they
//!    stand for, which is shared with other processes.
//!
//! The set and the thread come into being with the first wait and stay. If they cannot, that wait
//! fails, and the next one tries again.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::mem;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::panic::{self, AssertUnwindSafe};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, Waker};

use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};

use crate::sys::fd::above_standard_streams;
use crate::sys::signals;

/// What is waited for. Errors and the end of the peer belong to each.
#[derive(Clone, Copy)]
pub(crate) enum Interest {
    Read,
    Write,
    HangUp,
}

impl Interest {
    fn flags(self) -> EventFlags {
        match self {
            Self::Read => EventFlags::IN,
            Self::Write => EventFlags::OUT,
            Self::HangUp => EventFlags::empty(),
        }
    }
}

struct Reactor {
    epoll: OwnedFd,
    waiters: Mutex<Waiters>,
}

/// All waiters, by the keys of their descriptors.
#[derive(Default)]
struct Waiters {
    /// The last number that was given to a descriptor or a waiter.
    last: u64,
    listed: HashMap<u64, Vec<Waiter>>,
}

struct Waiter {
    number: u64,
    interest: Interest,
    waker: Waker,
}

impl Waiters {
    fn number(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    fn of(&mut self, source: &Source) -> Option<&mut Vec<Waiter>> {
        self.listed.get_mut(source.key.get()?)
    }
}

static REACTOR: OnceLock<Arc<Reactor>> = OnceLock::new();

/// Returns the reactor, and starts it if this is the first time.
fn reactor() -> io::Result<&'static Reactor> {
    static STARTING: Mutex<()> = Mutex::new(());

    if let Some(reactor) = REACTOR.get() {
        return Ok(reactor);
    }
    let _starting = STARTING.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(reactor) = REACTOR.get() {
        return Ok(reactor);
    }
    let epoll = above_standard_streams(epoll::create(CreateFlags::CLOEXEC)?)?;
    let reactor = Arc::new(Reactor { epoll, waiters: Mutex::default() });
    let runs = Arc::clone(&reactor);
    signals::spawn_deaf_thread("mp-core reactor", move || runs.run())?;
    Ok(REACTOR.get_or_init(|| reactor))
}

impl Reactor {
    fn lock(&self) -> MutexGuard<'_, Waiters> {
        self.waiters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        let mut events: Vec<Event> = Vec::with_capacity(256);
        loop {
            events.clear();
            // It is interrupted when the process is stopped and goes on. Nothing else can be wrong
            // with a set and a buffer of ours.
            let _ = epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), None);
            for event in &events {
                let key = event.data.u64();
                let woken = self.lock().listed.get_mut(&key).map(mem::take).unwrap_or_default();
                for waiter in woken {
                    // A waker that panics is a matter of its own task.
                    let _ = panic::catch_unwind(AssertUnwindSafe(|| waiter.waker.wake()));
                }
            }
        }
    }

    /// Lists a waiter, and arms its descriptor.
    fn list(&self, source: &Source, interest: Interest, waker: Waker) -> io::Result<u64> {
        let mut waiters = self.lock();
        let number = waiters.number();
        let flags = |flags: EventFlags| flags | EventFlags::ONESHOT;
        let Some(&key) = source.key.get() else {
            epoll::add(&self.epoll, &source.fd, EventData::new_u64(number), flags(interest.flags()))?;
            // Under the lock, so nobody else has given it one.
            let key = *source.key.get_or_init(|| number);
            waiters.listed.insert(key, vec![Waiter { number, interest, waker }]);
            return Ok(number);
        };
        let listed = waiters.listed.entry(key).or_default();
        let all = listed.iter().fold(interest.flags(), |all, waiter| all | waiter.interest.flags());
        epoll::modify(&self.epoll, &source.fd, EventData::new_u64(key), flags(all))?;
        listed.push(Waiter { number, interest, waker });
        Ok(number)
    }

    /// Whether a waiter is still listed; then `waker` is its waker from now on.
    fn is_listed(&self, source: &Source, number: u64, mut waker: Waker) -> bool {
        let mut waiters = self.lock();
        let listed = waiters.of(source).and_then(|listed| listed.iter_mut().find(|waiter| waiter.number == number));
        let found = listed.map(|waiter| mem::swap(&mut waiter.waker, &mut waker)).is_some();
        drop(waiters);
        drop(waker);
        found
    }

    fn deregister(&self, source: &Source, number: u64) {
        let mut waiters = self.lock();
        let waiter = waiters.of(source).and_then(|listed| {
            let place = listed.iter().position(|waiter| waiter.number == number)?;
            Some(listed.swap_remove(place))
        });
        drop(waiters);
        drop(waiter);
    }
}

/// A descriptor that can be waited for.
pub(crate) struct Source {
    fd: OwnedFd,
    /// What it is known by in the set, once it is in there.
    key: OnceLock<u64>,
}

impl Source {
    pub(crate) fn new(fd: OwnedFd) -> Self {
        Self { fd, key: OnceLock::new() }
    }
}

impl AsFd for Source {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        let (Some(key), Some(reactor)) = (self.key.get(), REACTOR.get()) else { return };
        // In the set it is, and taking it out needs no memory.
        let _ = epoll::delete(&reactor.epoll, &self.fd);
        let none = reactor.lock().listed.remove(key);
        drop(none);
    }
}

/// The future of [`PollableFd::readable`](crate::raw::PollableFd::readable) and
/// [`writable`](crate::raw::PollableFd::writable).
///
/// It fails if the thread that waits for all tasks cannot be started, or the operating system
/// refuses to wait.
#[must_use = "futures do nothing unless polled"]
pub struct Readiness {
    source: Arc<Source>,
    interest: Interest,
    /// The number under which it was listed.
    number: Option<u64>,
}

impl Readiness {
    pub(crate) fn new(source: &Arc<Source>, interest: Interest) -> Self {
        Self { source: Arc::clone(source), interest, number: None }
    }
}

impl Future for Readiness {
    type Output = io::Result<()>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let reactor = reactor()?;
        let waker = context.waker().clone();
        match self.number {
            None => self.number = Some(reactor.list(&self.source, self.interest, waker)?),
            Some(number) if reactor.is_listed(&self.source, number, waker) => {}
            Some(_) => return Poll::Ready(Ok(())),
        }
        Poll::Pending
    }
}

impl Drop for Readiness {
    fn drop(&mut self) {
        if let (Some(number), Some(reactor)) = (self.number, REACTOR.get()) {
            reactor.deregister(&self.source, number);
        }
    }
}
