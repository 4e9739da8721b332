//! Locks that live in shared memory. (The crate's page is written with its last type.)

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
mod raw;
mod reentrant;
mod region;
mod semaphore;
mod spin;
mod sys;

pub use self::{
    barrier::{Barrier, BarrierError},
    condvar::{Condvar, Guard, WaitTimeoutResult},
    error::LockError,
    event::Event,
    mutex::{Mutex, MutexGuard},
    reentrant::{ReentrantMutex, ReentrantMutexGuard},
    region::SharedRegion,
    semaphore::{Permit, ReleaseError, Semaphore},
};
