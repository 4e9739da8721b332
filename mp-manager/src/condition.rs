//! `Condition`: waiting for a change that another process makes.

use std::time::Duration;

use crate::error::CallError;
use crate::handle::{Handle, Host, proxy};
use crate::lock::{LockError, LockGuard, lock, locked};
use crate::wire::{Initial, Operation};

proxy! {
    /// A condition in a server, with the lock that goes with it.
    ///
    /// # Process death
    ///
    /// A process that dies while it waits leaves nothing behind. One that dies after it was
    /// notified takes the notification with it; the next holder of the lock gets
    /// [`LockError::OwnerDied`] then, and can notify another one.
    ///
    /// # Examples
    ///
    /// ```
    /// use mp_core::process_fn;
    /// use mp_manager::{Cell, Condition, Manager};
    ///
    /// #[process_fn]
    /// fn prepare(ready: Condition, state: Cell<bool>) {
    ///     let guard = ready.lock().unwrap();
    ///     state.set(true).unwrap();
    ///     ready.notify_all(&guard).unwrap();
    /// }
    ///
    /// let manager = Manager::spawn()?;
    /// let (ready, state) = (Condition::new(&manager)?, Cell::new(&manager, false)?);
    /// let mut guard = ready.lock()?;
    /// let child = prepare::spawn(ready.clone(), state.clone())?;
    /// while !state.get()? {
    ///     guard = ready.wait(guard)?;
    /// }
    /// drop(guard);
    /// child.join()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub struct Condition;
}

impl Condition {
    /// Makes a condition whose lock nobody holds.
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
    /// As [`Lock::lock`](crate::Lock::lock).
    pub fn lock(&self) -> Result<LockGuard, LockError> {
        lock(&self.handle, None)?.ok_or(LockError::Call(CallError::TimedOut))
    }

    /// Releases the lock, waits for a notification, and takes the lock again.
    ///
    /// # Errors
    ///
    /// As [`Lock::lock`](crate::Lock::lock); [`CallError::NotHeld`] if the guard is of another lock
    /// or was lost. A limit of the proxy ends the wait as a notification does.
    pub fn wait(&self, guard: LockGuard) -> Result<LockGuard, LockError> {
        self.wait_within(guard, None).map(|(guard, _)| guard)
    }

    /// Does the same, and waits for a notification for `timeout` at most. Returns whether there was
    /// one. Taking the lock again may take longer.
    ///
    /// # Errors
    ///
    /// As [`wait`](Self::wait).
    pub fn wait_timeout(&self, guard: LockGuard, timeout: Duration) -> Result<(LockGuard, bool), LockError> {
        self.wait_within(guard, Some(timeout))
    }

    fn wait_within(&self, guard: LockGuard, timeout: Option<Duration>) -> Result<(LockGuard, bool), LockError> {
        if !guard.is_of(&self.handle) {
            return Err(LockError::Call(CallError::NotHeld));
        }
        let held = locked(&self.handle, timeout, Operation::Sleep(guard.into_token()))?;
        // It always takes the lock again.
        held.ok_or(LockError::Call(CallError::NotHeld))
    }

    /// Wakes one process that waits, if there is one.
    ///
    /// # Errors
    ///
    /// [`CallError::NotHeld`] if the guard is of another lock or was lost, and as any call.
    pub fn notify_one(&self, guard: &LockGuard) -> Result<(), CallError> {
        self.notify_n(guard, 1)
    }

    /// Wakes at most `count` of those that wait.
    ///
    /// # Errors
    ///
    /// As [`notify_one`](Self::notify_one).
    pub fn notify_n(&self, guard: &LockGuard, count: usize) -> Result<(), CallError> {
        if !guard.is_of(&self.handle) {
            return Err(CallError::NotHeld);
        }
        self.handle.call(Operation::Notify(guard.token(), count as u64))
    }

    /// Wakes all that wait.
    ///
    /// # Errors
    ///
    /// As [`notify_one`](Self::notify_one).
    pub fn notify_all(&self, guard: &LockGuard) -> Result<(), CallError> {
        self.notify_n(guard, usize::MAX)
    }
}
