//! `Event`: a flag to wait for.

use std::time::Duration;

use crate::error::CallError;
use crate::handle::{Handle, Host, proxy};
use crate::wire::{Initial, Operation};

proxy! {
    /// A flag in a server that processes wait for.
    ///
    /// # Process death
    ///
    /// A process that dies leaves the flag as it is. One that dies while it waits leaves nothing
    /// behind.
    ///
    /// # Examples
    ///
    /// ```
    /// use mp_core::process_fn;
    /// use mp_manager::{Event, Manager};
    ///
    /// #[process_fn]
    /// fn wait_for(go: Event) {
    ///     go.wait().unwrap();
    /// }
    ///
    /// let manager = Manager::spawn()?;
    /// let go = Event::new(&manager)?;
    /// let child = wait_for::spawn(go.clone())?;
    /// go.set()?;
    /// child.join()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub struct Event;
}

impl Event {
    /// Makes an event that is not set.
    ///
    /// # Errors
    ///
    /// As [`Map::new`](crate::Map::new).
    pub fn new(host: &impl Host) -> Result<Self, CallError> {
        Handle::create(host, Initial::Event(false))
    }

    /// Sets the flag, and wakes all that wait for it.
    ///
    /// # Errors
    ///
    /// As any call.
    pub fn set(&self) -> Result<(), CallError> {
        self.handle.call(Operation::SetFlag(true))
    }

    /// Clears the flag.
    ///
    /// # Errors
    ///
    /// As any call.
    pub fn clear(&self) -> Result<(), CallError> {
        self.handle.call(Operation::SetFlag(false))
    }

    /// Tells whether the flag is set.
    ///
    /// # Errors
    ///
    /// As any call.
    pub fn is_set(&self) -> Result<bool, CallError> {
        self.handle.call(Operation::IsSet)
    }

    /// Waits until the flag is set.
    ///
    /// # Errors
    ///
    /// [`CallError::TimedOut`] if the proxy has a limit, and as any call.
    pub fn wait(&self) -> Result<(), CallError> {
        self.handle.wait::<bool>(None, Operation::Wait)?.then_some(()).ok_or(CallError::TimedOut)
    }

    /// Waits until the flag is set, for `timeout` at most, and tells whether it is.
    ///
    /// # Errors
    ///
    /// As any call.
    pub fn wait_timeout(&self, timeout: Duration) -> Result<bool, CallError> {
        self.handle.wait(Some(timeout), Operation::Wait)
    }
}
