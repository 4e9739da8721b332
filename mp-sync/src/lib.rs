//! Locks that live in shared memory, and report when their owner died.
//!
//! Each lock is a plain value of a few words without pointers. Put it into any memory that several
//! processes have mapped, at any address in each of them, or into an ordinary `static` between
//! threads. The locks are built on the [futex](https://man7.org/linux/man-pages/man2/futex.2.html):
//! an uncontended lock makes no system call.
//!
//! | type | Python's | for |
//! |---|---|---|
//! | [`Mutex<T>`](Mutex) | `Lock` | one owner at a time of the value that it protects |
//! | [`ReentrantMutex<T>`](ReentrantMutex) | `RLock` | the same; the thread that holds it may lock it again |
//! | [`RwLock<T>`](RwLock) | | one writer or several readers |
//! | [`Condvar`] | `Condition` | waiting, with a mutex, for a change that another thread makes |
//! | [`Semaphore`] | `Semaphore`, `BoundedSemaphore`, `Lock` | a number of permits, which any process may release |
//! | [`RobustSemaphore`] | | a number of permits, which come back when their holder dies |
//! | [`Event`] | `Event` | waiting until something has happened |
//! | [`Barrier`] | `Barrier` | waiting for each other |
//! | [`OnceLock<T>`](OnceLock) | | a value that is made once |
//!
//! # In shared memory
//!
//! This crate provides the locks, not the memory. `mp-shm` has types that provide both. To use a
//! mapping of your own, register it as a [`SharedRegion`] in each process; its page has an example.
//!
//! The process that makes the memory writes new locks into it before others look. All-zero bytes
//! are a new lock as well, if they are a value of the type that it protects. The exception is
//! [`Barrier`], which has to know the number of its parties. A [`Semaphore`] of zero bytes has no
//! permits; a [`RobustSemaphore`] has as many as it has room for.
//!
//! All processes must be built from the same version of this crate, share a PID namespace, and
//! trust each other with the memory. A process that overwrites a lock or its value can make others
//! wait indefinitely or see a wrong value. This crate follows no pointer and no index that it finds
//! in shared memory, so its own accesses stay inside the lock.
//!
//! # When a process dies
//!
//! A process can receive SIGKILL between any two instructions.
//!
//! | | while it holds the lock | while it waits |
//! |---|---|---|
//! | `Mutex`, `ReentrantMutex` | the next owner receives [`LockError::OwnerDied`] at once | no effect |
//! | `RwLock` | a writer: the next owners receive the error at once; a reader: it no longer counts | no effect |
//! | `Condvar` | | a notification that had already reached it is lost |
//! | `Semaphore` | its permits stay taken: use [`RobustSemaphore`], or let another process release them | no effect |
//! | `RobustSemaphore` | its permits come back | no effect |
//! | `Event` | | no effect |
//! | `Barrier` | in an action: a timeout of another party, or [`abort`](Barrier::abort), breaks the barrier | it counts as arrived; [`reset`](Barrier::reset) discards it |
//! | `OnceLock` | the next caller makes the value | no effect |
//!
//! "No effect" means that no other process waits longer, with one exception. A process can die
//! after it changed a word and before it woke the sleepers, or after it was woken and before it
//! acted. That wake-up is lost with it. A sleeper therefore looks at its lock every 100 ms and
//! notices then. [`Condvar::wait`] and [`Condvar::wait_timeout`] do not know what to look for, so a
//! notification that was on its way to a dead process reaches no other waiter.
//! [`Condvar::wait_while`] does look.
//!
//! # Timeouts
//!
//! Every wait has a form with a timeout, measured by the monotonic clock. A timeout of zero looks
//! once; `Duration::MAX` has no limit.

#[cfg(not(target_os = "linux"))]
compile_error!("mp-sync supports only Linux: its locks need futexes and robust lists");
#[cfg(not(target_pointer_width = "64"))]
compile_error!("mp-sync supports only 64-bit targets");

#[macro_use]
mod primitive;

mod barrier;
mod condvar;
mod deadline;
mod error;
mod event;
pub mod futex;
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
