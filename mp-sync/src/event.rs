//! `Event`: a flag to wait for.

use std::fmt;
use std::time::Duration;

use crate::deadline::Deadline;
use crate::raw::event::RawEvent;

/// A flag that a process sets and others wait for, like Python's `multiprocessing.Event`.
///
/// It has 4 bytes and no pointers. Place it in shared memory, at any address in each process, or in
/// a `static` for the threads of one process. Zero bytes are an event that is not set.
///
/// Everything that a thread did before [`set`](Self::set) happens before the [`wait`](Self::wait)s
/// and [`is_set`](Self::is_set)s that see the event set.
///
/// In Python, a waiter that is woken and finds that the event was cleared again keeps waiting, or
/// returns `False` at its timeout. Here it returns `true`, because the event was set while it
/// waited. So `set` followed by [`clear`](Self::clear) wakes exactly the current waiters.
///
/// # Process death
///
/// No process holds an event, and the death of a waiter has no effect. If a process is killed in
/// `set`, it has set the event or it has not. If it had no time to wake the sleepers, they notice
/// within a tenth of a second.
///
/// # Examples
///
/// ```
/// use std::sync::atomic::{AtomicU32, Ordering};
/// use std::thread;
///
/// use mp_sync::Event;
///
/// static READY: Event = Event::new();
/// static ANSWER: AtomicU32 = AtomicU32::new(0);
///
/// let asker = thread::spawn(|| {
///     READY.wait();
///     ANSWER.load(Ordering::Relaxed)
/// });
/// ANSWER.store(42, Ordering::Relaxed);
/// READY.set();
/// assert_eq!(asker.join().unwrap(), 42);
/// ```
#[repr(C)]
pub struct Event {
    raw: RawEvent,
}

const _: () = assert!(size_of::<Event>() == 4 && align_of::<Event>() == 4);

impl Event {
    /// Makes an event that is not set.
    ///
    /// # Examples
    ///
    /// ```
    /// assert!(!mp_sync::Event::new().is_set());
    /// ```
    pub const fn new() -> Self {
        Self { raw: RawEvent::new() }
    }

    /// Sets the event and wakes all waiters. Setting it again changes nothing.
    ///
    /// It makes no system call if no thread has slept since the last time.
    ///
    /// # Process death
    ///
    /// A process that is killed in this call has set the event or it has not. Waiters notice within
    /// a tenth of a second.
    ///
    /// # Examples
    ///
    /// ```
    /// let event = mp_sync::Event::new();
    /// event.set();
    /// assert!(event.is_set());
    /// ```
    pub fn set(&self) {
        self.raw.set();
    }

    /// Clears the event, so that later calls wait. Threads that waited when it was set still go on.
    ///
    /// It makes no system call.
    ///
    /// # Process death
    ///
    /// A process that is killed in this call has cleared the event or it has not.
    ///
    /// # Examples
    ///
    /// ```
    /// let event = mp_sync::Event::new();
    /// event.set();
    /// event.clear();
    /// assert!(!event.is_set());
    /// ```
    pub fn clear(&self) {
        self.raw.clear();
    }

    /// Tells whether the event is set. This may have changed when the caller gets the answer.
    ///
    /// # Examples
    ///
    /// ```
    /// let event = mp_sync::Event::new();
    /// assert!(!event.is_set());
    /// ```
    pub fn is_set(&self) -> bool {
        self.raw.is_set()
    }

    /// Waits until the event is set. Returns at once if it is.
    ///
    /// # Process death
    ///
    /// If the only process that would set the event dies, this waits indefinitely, because an event
    /// does not know that process. If that can happen, use [`wait_timeout`](Self::wait_timeout), or
    /// wait for the process as well.
    ///
    /// # Examples
    ///
    /// ```
    /// let event = mp_sync::Event::new();
    /// std::thread::scope(|scope| {
    ///     scope.spawn(|| event.wait());
    ///     event.set();
    /// });
    /// ```
    pub fn wait(&self) {
        // Without a deadline the result is always `true`.
        self.raw.wait(Deadline::NEVER);
    }

    /// Waits until the event is set, for `timeout` at most, and tells whether it was set. A timeout
    /// of zero checks once. `Duration::MAX` waits indefinitely.
    ///
    /// The time is measured by the monotonic clock, which stands still while the machine sleeps.
    ///
    /// # Process death
    ///
    /// As for [`wait`](Self::wait), but this call ends at the timeout.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let event = mp_sync::Event::new();
    /// assert!(!event.wait_timeout(Duration::from_millis(1)));
    /// event.set();
    /// assert!(event.wait_timeout(Duration::ZERO));
    /// ```
    pub fn wait_timeout(&self, timeout: Duration) -> bool {
        self.raw.is_set() || self.raw.wait(Deadline::after(timeout))
    }
}

impl Default for Event {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event").field("is_set", &self.is_set()).finish()
    }
}
