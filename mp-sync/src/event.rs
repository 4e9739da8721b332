//! A flag that can be waited for.

use std::fmt;
use std::time::Duration;

use crate::deadline::Deadline;
use crate::raw::event::RawEvent;

/// A flag that one process raises and others wait for, as Python's `multiprocessing.Event`.
///
/// It is 4 bytes without a pointer in them: place it in memory that processes share, at any address
/// of each, or in a `static` for the threads of one process. All-zero bytes are an event that is
/// not set.
///
/// What a thread has written before [`set`](Self::set) is seen by all whose [`wait`](Self::wait) or
/// [`is_set`](Self::is_set) is `true` for it.
///
/// In Python, a waiter that is woken and then finds that the event was cleared again goes on
/// waiting, or returns `False` at its timeout. Here it returns `true`: the event was set while it
/// waited. So `set` followed at once by [`clear`](Self::clear) lets all go on that wait at that
/// moment, and nobody who comes later.
///
/// # Process death
///
/// Nobody holds an event. A process that is killed while it waits is not missed. One that is killed
/// in the middle of `set` has set the event or has not; if it has and did not come to wake those
/// who sleep, they find out within a tenth of a second.
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

    /// Sets the event and lets all go on that wait. Setting it again changes nothing.
    ///
    /// There is no system call if nobody has slept since the last time.
    ///
    /// # Process death
    ///
    /// Killed in the middle of it, a process has set the event or has not. Those who wait see which
    /// within a tenth of a second.
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

    /// Takes the event back, so that whoever comes from now on waits. Those who waited when it was
    /// set still go on.
    ///
    /// Never a system call.
    ///
    /// # Process death
    ///
    /// Killed in the middle of it, a process has cleared the event or has not.
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

    /// Tells whether the event is set. By the time that the caller looks at the answer it may have
    /// changed.
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
    /// If the only process that would have set it dies, this waits for ever: an event does not know
    /// who that is. Where it can happen, use [`wait_timeout`](Self::wait_timeout), or wait for the
    /// process as well.
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
        // Without a deadline there is no other answer.
        self.raw.wait(Deadline::NEVER);
    }

    /// Waits until the event is set, for that long at most, and tells whether it was. Zero looks
    /// once; `Duration::MAX` is for ever.
    ///
    /// The time is measured by the monotonic clock, which stands still while the machine sleeps.
    ///
    /// # Process death
    ///
    /// As for [`wait`](Self::wait), but that this ends.
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
