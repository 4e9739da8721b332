//! `Semaphore`: a number of permits.

use std::time::Duration;

use crate::error::CallError;
use crate::handle::{Handle, Host, proxy};
use crate::wire::{Held, Initial, Operation};

proxy! {
    /// A semaphore in a server.
    ///
    /// Waiting calls get permits in the order in which they came, so one that wants many is not
    /// overtaken.
    ///
    /// # Process death
    ///
    /// The permits of a process that dies return. A process that dies while it waits leaves nothing
    /// behind.
    ///
    /// # Examples
    ///
    /// ```
    /// use mp_manager::{Manager, Semaphore};
    ///
    /// let manager = Manager::here()?;
    /// let licences = Semaphore::new(&manager, 2)?;
    /// let (first, second) = (licences.acquire()?, licences.acquire()?);
    /// assert!(licences.try_acquire()?.is_none());
    /// drop(first);
    /// assert!(licences.try_acquire()?.is_some());
    /// # drop(second);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub struct Semaphore;
}

impl Semaphore {
    /// Makes a semaphore with `permits` permits.
    ///
    /// # Errors
    ///
    /// As [`Map::new`](crate::Map::new).
    pub fn new(host: &impl Host, permits: usize) -> Result<Self, CallError> {
        Handle::create(host, Initial::Semaphore { permits: permits as u64, bound: None })
    }

    /// Makes a semaphore with `permits` permits that never has more.
    ///
    /// # Errors
    ///
    /// As [`Map::new`](crate::Map::new).
    pub fn bounded(host: &impl Host, permits: usize) -> Result<Self, CallError> {
        let permits = permits as u64;
        Handle::create(host, Initial::Semaphore { permits, bound: Some(permits) })
    }

    /// Waits for a permit, and takes it.
    ///
    /// # Errors
    ///
    /// [`CallError::TimedOut`] if the proxy has a limit, and any [`CallError`] that is not about a
    /// function.
    pub fn acquire(&self) -> Result<Permit, CallError> {
        self.acquire_many(1)
    }

    /// Waits for several permits, and takes them all at once.
    ///
    /// # Errors
    ///
    /// As [`acquire`](Self::acquire).
    pub fn acquire_many(&self, count: usize) -> Result<Permit, CallError> {
        self.acquire_within(count, None)?.ok_or(CallError::TimedOut)
    }

    /// Takes a permit if there is one and no other call waits for permits.
    ///
    /// # Errors
    ///
    /// Any [`CallError`] that is not about a function.
    pub fn try_acquire(&self) -> Result<Option<Permit>, CallError> {
        self.acquire_within(1, Some(Duration::ZERO))
    }

    /// Takes a permit, and waits for it for `timeout` at most.
    ///
    /// # Errors
    ///
    /// As [`try_acquire`](Self::try_acquire).
    pub fn acquire_timeout(&self, timeout: Duration) -> Result<Option<Permit>, CallError> {
        self.acquire_within(1, Some(timeout))
    }

    fn acquire_within(&self, count: usize, timeout: Option<Duration>) -> Result<Option<Permit>, CallError> {
        let count = count as u64;
        let held: Option<Held> = self.handle.wait(timeout, Operation::Acquire(count))?;
        Ok(held.map(|_| Permit { handle: self.handle.clone(), count }))
    }

    /// Adds permits, which need not have been acquired before.
    ///
    /// # Errors
    ///
    /// [`CallError::TooManyPermits`] if the semaphore is bounded and would have more than it may.
    pub fn release(&self, count: usize) -> Result<(), CallError> {
        self.handle.call(Operation::Release(count as u64))
    }

    /// Returns how many permits are free.
    ///
    /// # Errors
    ///
    /// As [`try_acquire`](Self::try_acquire).
    pub fn available(&self) -> Result<usize, CallError> {
        self.handle.call(Operation::Len)
    }
}

/// Permits of a [`Semaphore`], which return when it is dropped. Dropping it does not wait for the
/// server.
#[must_use = "dropping it releases the permit"]
#[derive(Debug)]
pub struct Permit {
    handle: Handle,
    count: u64,
}

impl Permit {
    /// Keeps the permit taken, until some process [releases](Semaphore::release) it or this process
    /// ends.
    pub fn forget(mut self) {
        self.count = 0;
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.count > 0 {
            self.handle.post(Operation::Release(self.count));
        }
    }
}
