//! `Lock`: one holder at a time.

use std::time::Duration;

use crate::error::CallError;
use crate::handle::{Handle, Host, proxy};
use crate::wire::{Held, Initial, Operation};

proxy! {
    /// A lock in a server, for what processes do elsewhere: with a file, a device, another service.
    ///
    /// It is not reentrant: a thread that locks twice waits for itself. Waiting calls get the lock
    /// in the order in which they came. `mp_sync::Mutex` is many times as fast among processes that
    /// can share memory, and protects a value.
    ///
    /// # Process death
    ///
    /// If a process dies with the lock, the next one gets it at once, with
    /// [`LockError::OwnerDied`]. A process that dies while it waits leaves nothing behind. A
    /// process that is stopped keeps its lock; [`LockGuard::token`] is for resources that have to
    /// notice an owner that comes too late.
    ///
    /// # Examples
    ///
    /// ```
    /// use mp_core::process_fn;
    /// use mp_manager::{Lock, LockError, Manager};
    ///
    /// #[process_fn]
    /// fn exit_with(lock: Lock) {
    ///     let _guard = lock.lock().unwrap();
    ///     std::process::exit(0);
    /// }
    ///
    /// let manager = Manager::spawn()?;
    /// let lock = Lock::new(&manager)?;
    /// exit_with::spawn(lock.clone())?.join()?;
    /// let Err(LockError::OwnerDied(guard)) = lock.lock() else { panic!("its owner is dead") };
    /// let first = guard.token();
    /// drop(guard);
    /// assert!(lock.lock()?.token() > first);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub struct Lock;
}

impl Lock {
    /// Makes a lock that nobody holds.
    ///
    /// # Errors
    ///
    /// As [`Map::new`](crate::Map::new).
    pub fn new(host: &impl Host) -> Result<Self, CallError> {
        Handle::create(host, Initial::Lock)
    }

    /// Waits for the lock, and takes it.
    ///
    /// # Errors
    ///
    /// [`LockError::OwnerDied`], which holds the lock, and [`LockError::Call`].
    pub fn lock(&self) -> Result<LockGuard, LockError> {
        lock(&self.handle, None)?.ok_or(LockError::Call(CallError::TimedOut))
    }

    /// Takes the lock if nobody holds it.
    ///
    /// # Errors
    ///
    /// As [`lock`](Self::lock).
    pub fn try_lock(&self) -> Result<Option<LockGuard>, LockError> {
        lock(&self.handle, Some(Duration::ZERO))
    }

    /// Takes the lock, and waits for it for `timeout` at most.
    ///
    /// # Errors
    ///
    /// As [`lock`](Self::lock).
    pub fn lock_timeout(&self, timeout: Duration) -> Result<Option<LockGuard>, LockError> {
        lock(&self.handle, Some(timeout))
    }
}

pub(crate) fn lock(handle: &Handle, timeout: Option<Duration>) -> Result<Option<LockGuard>, LockError> {
    locked(handle, timeout, Operation::Acquire(1)).map(|held| held.map(|(guard, _)| guard))
}

/// Waits for a lock. Returns it, and whether a condition was notified.
pub(crate) fn locked(
    handle: &Handle,
    timeout: Option<Duration>,
    operation: Operation,
) -> Result<Option<(LockGuard, bool)>, LockError> {
    let held: Option<Held> = handle.wait(timeout, operation).map_err(LockError::Call)?;
    let Some(Held { token, owner_died, notified }) = held else { return Ok(None) };
    let guard = LockGuard { handle: handle.clone(), token };
    if owner_died { Err(LockError::OwnerDied(guard)) } else { Ok(Some((guard, notified))) }
}

/// Holds a [`Lock`] or the lock of a [`Condition`](crate::Condition), and releases it when it is
/// dropped, in a panic too. Dropping it does not wait for the server.
#[must_use = "dropping it releases the lock"]
#[derive(Debug)]
pub struct LockGuard {
    handle: Handle,
    token: u64,
}

impl LockGuard {
    /// Returns a number that grows with every holder of the lock.
    ///
    /// Send it with each request to the resource that the lock protects. The resource can then
    /// refuse a request with a lower number than one that it has seen. Such a request comes from an
    /// owner that has lost the lock and does not know it: it was stopped, for example, and its
    /// connection was closed.
    pub fn token(&self) -> u64 {
        self.token
    }

    pub(crate) fn is_of(&self, handle: &Handle) -> bool {
        self.handle.id() == handle.id()
    }

    /// Gives up the guard without releasing the lock.
    pub(crate) fn into_token(mut self) -> u64 {
        std::mem::replace(&mut self.token, RELEASED)
    }
}

/// No holder has this token.
const RELEASED: u64 = 0;

impl Drop for LockGuard {
    fn drop(&mut self) {
        if self.token != RELEASED {
            self.handle.post(Operation::Unlock(self.token));
        }
    }
}

/// Why a lock was not taken as expected.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LockError {
    /// The process that held the lock has died. The lock is held now, and what it protects may be
    /// half-changed. The next holder does not learn it.
    #[error("the owner of the lock has died")]
    OwnerDied(LockGuard),
    /// The lock was not taken.
    #[error("the lock could not be taken: {0}")]
    Call(CallError),
}

impl LockError {
    /// Returns the guard, if the lock is held.
    pub fn into_guard(self) -> Option<LockGuard> {
        match self {
            Self::OwnerDied(guard) => Some(guard),
            Self::Call(_) => None,
        }
    }
}
