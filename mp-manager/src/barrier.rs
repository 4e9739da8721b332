//! `Barrier`: a place where a number of processes wait for each other.

use std::time::Duration;

use crate::error::CallError;
use crate::handle::{Handle, Host, proxy};
use crate::wire::{Initial, Operation};

proxy! {
    /// A barrier in a server: calls of [`wait`](Self::wait) return when as many wait as there are
    /// parties.
    ///
    /// # Process death
    ///
    /// If a process dies while it waits, the barrier is broken for all that wait and will wait,
    /// until it is [reset](Self::reset). Nothing notices a party that dies before it waits: use a
    /// timeout.
    ///
    /// # Examples
    ///
    /// ```
    /// use mp_core::process_fn;
    /// use mp_manager::{Barrier, Manager};
    ///
    /// #[process_fn]
    /// fn arrive(barrier: Barrier) -> usize {
    ///     barrier.wait().unwrap()
    /// }
    ///
    /// let manager = Manager::spawn()?;
    /// let barrier = Barrier::new(&manager, 2)?;
    /// let child = arrive::spawn(barrier.clone())?;
    /// let mine = barrier.wait()?;
    /// assert_eq!(mine + child.join()?, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub struct Barrier;
}

impl Barrier {
    /// Makes a barrier for `parties` calls, and at least one.
    ///
    /// # Errors
    ///
    /// As [`Map::new`](crate::Map::new).
    pub fn new(host: &impl Host, parties: usize) -> Result<Self, CallError> {
        Handle::create(host, Initial::Barrier(parties.max(1) as u64))
    }

    /// Waits for the other parties. Returns this one's place from 0, in the order in which they
    /// came.
    ///
    /// # Errors
    ///
    /// [`CallError::BrokenBarrier`] if the barrier is broken, reset or aborted, or if another party
    /// gives up or dies; and as any call.
    pub fn wait(&self) -> Result<usize, CallError> {
        self.handle.wait(None, Operation::Wait)
    }

    /// Waits for the other parties, for `timeout` at most. If they do not come in time, the barrier
    /// is broken.
    ///
    /// # Errors
    ///
    /// As [`wait`](Self::wait).
    pub fn wait_timeout(&self, timeout: Duration) -> Result<usize, CallError> {
        self.handle.wait(Some(timeout), Operation::Wait)
    }

    /// Breaks the barrier.
    ///
    /// # Errors
    ///
    /// As any call.
    pub fn abort(&self) -> Result<(), CallError> {
        self.handle.call(Operation::SetFlag(true))
    }

    /// Mends the barrier. Those that wait get [`CallError::BrokenBarrier`].
    ///
    /// # Errors
    ///
    /// As any call.
    pub fn reset(&self) -> Result<(), CallError> {
        self.handle.call(Operation::SetFlag(false))
    }

    /// Tells whether the barrier is broken.
    ///
    /// # Errors
    ///
    /// As any call.
    pub fn is_broken(&self) -> Result<bool, CallError> {
        self.handle.call(Operation::IsSet)
    }

    /// Returns how many calls wait now.
    ///
    /// # Errors
    ///
    /// As any call.
    pub fn waiting(&self) -> Result<usize, CallError> {
        self.handle.call(Operation::Len)
    }
}
