//! Locks that live in shared memory, and tell when their owner died.
//!
//! Each is a plain value of a few words, without pointers and in place: put it into any memory that several processes have mapped, at
//! whatever address each has it, or into an ordinary `static` between threads. They work by the
//! [futex](https://man7.org/linux/man-pages/man2/futex.2.html); nothing of an uncontended lock is a system call.
//!
//! | type | Python's | for |
//! |---|---|---|
//! | [`Mutex<T>`](Mutex) | `Lock` | one at a time, with the value that it protects |
//! | [`ReentrantMutex<T>`](ReentrantMutex) | `RLock` | the same, taken again by the thread that has it |
//! | [`RwLock<T>`](RwLock) | | one writer or several readers |
//! | [`Condvar`] | `Condition` | waiting, with a mutex, for what another will change |
//! | [`Semaphore`] | `Semaphore`, `BoundedSemaphore`, `Lock` | so many at a time; released by anybody |
//! | [`RobustSemaphore`] | | the same, with permits that come back from the dead |
//! | [`Event`] | `Event` | waiting until something has happened |
//! | [`Barrier`] | `Barrier` | waiting for each other |
//! | [`OnceLock<T>`](OnceLock) | | a value that is made once |
//!
//! # In shared memory
//!
//! This crate brings the locks, not the memory. `mp-shm` has types that do both; with a mapping of one's own, make it a [`SharedRegion`]
//! in each process, whose page has an example.
//!
//! Whoever makes the memory writes new locks there before others look. All-zero bytes are a new lock as well (for those that have a value:
//! with a value of zero bytes, if it may have those), except for a [`Barrier`], which has to know how many meet. A [`Semaphore`] of zero bytes
//! has no permits, a [`RobustSemaphore`] has all that there is room for.
//!
//! All processes have to be built from the same version of this crate, share a PID namespace, and trust each other with the memory:
//! whoever scribbles over a lock and its value can make others wait for ever or see a wrong value. This crate follows no pointer and no
//! index that it finds in shared memory, so that what it does itself stays inside the lock.
//!
//! # When a process dies
//!
//! Any process can be SIGKILLed between any two instructions.
//!
//! | | while it has it | while it waits for it |
//! |---|---|---|
//! | `Mutex`, `ReentrantMutex` | the next owner is told at once: [`LockError::OwnerDied`] | nothing |
//! | `RwLock` | a writer: the next ones are told at once; a reader: nothing, it counts no longer | nothing |
//! | `Condvar` | | nothing; a notification that had reached it already went with it |
//! | `Semaphore` | its permits stay taken: use [`RobustSemaphore`], or let another process release them | nothing |
//! | `RobustSemaphore` | its permits come back | nothing |
//! | `Event` | | nothing |
//! | `Barrier` | in an action: the others' timeouts or [`abort`](Barrier::abort) break it | it has arrived; [`reset`](Barrier::reset) mends what is left |
//! | `OnceLock` | the next one makes the value | nothing |
//!
//! "Nothing" means that nobody else is held up. There is one delay: a process that dies after it has changed a word and before the
//! wake-up that follows, or after it was woken and before it could act, takes that wake-up with it. Whoever sleeps over a lock looks
//! for itself every 100 ms, and notices then. The exceptions are [`Condvar::wait`] and [`Condvar::wait_timeout`], which do not know what to
//! look for: a notification that was on its way to a dead process reaches nobody. [`Condvar::wait_while`] does look.
//!
//! # Timeouts
//!
//! Every wait has a form with a timeout, measured by the monotonic clock. No time at all is one look; `Duration::MAX` is for ever.

#[cfg(not(target_os = "linux"))]
compile_error!("mp-sync supports Linux only so far: its locks stand on the futex and the robust list of Linux");
#[cfg(not(target_pointer_width = "64"))]
compile_error!("mp-sync supports 64-bit targets only so far");

#[macro_use]
mod primitive;

mod barrier;
mod condvar;
mod deadline;
mod error;
mod event;
mod mutex;
mod once_lock;
mod raw;
mod reentrant;
mod region;
mod robust_semaphore;
mod rwlock;
mod semaphore;
mod spin;
mod sys;

pub use self::{
    barrier::{Barrier, BarrierError},
    condvar::{Condvar, Guard, WaitTimeoutResult},
    error::LockError,
    event::Event,
    mutex::{Mutex, MutexGuard},
    once_lock::OnceLock,
    reentrant::{ReentrantMutex, ReentrantMutexGuard},
    region::SharedRegion,
    robust_semaphore::{RobustPermit, RobustSemaphore},
    rwlock::{RwLock, RwLockReadGuard, RwLockWriteGuard},
    semaphore::{Permit, ReleaseError, Semaphore},
};
