//! `Barrier`: parties wait for each other.

use std::fmt;
use std::time::Duration;

use thiserror::Error;

use crate::deadline::Deadline;
use crate::raw::barrier::{Broken, MOST, RawBarrier};

/// Lets a number of parties (processes or threads) wait for each other, again and again, like
/// Python's `multiprocessing.Barrier`.
///
/// When all parties have arrived, all go on. That is one generation, and then the next one begins.
/// Each party gets a number in the order of arrival, from zero to one less than the number of
/// parties.
///
/// A barrier is broken by [`abort`](Self::abort), by a wait that times out, or by an action that
/// panics. Then all current and later waits return [`BarrierError::Broken`], until
/// [`reset`](Self::reset) is called.
///
/// It has 16 bytes and no pointers. Place it in shared memory, at any address in each process, or
/// in a `static` for the threads of one process. Everything that a party did before it arrived
/// happens before the action, and before any party goes on.
///
/// If more threads wait than there are parties, the first ones form the generation, and the others
/// wait for the next one.
///
/// # Process death
///
/// If a process is killed before it arrives, the others keep waiting: use
/// [`wait_timeout`](Self::wait_timeout), or let a process that notices the death call
/// [`abort`](Self::abort). If it is killed while it waits, it counts as arrived, so the others go
/// on; it is missing in the next generation. If it is killed while it ends a generation, the
/// generation has ended or it has not. If it had no time to wake the sleepers, they notice within a
/// tenth of a second. If it is killed in the action, the others wait until one of them times out,
/// or until `abort` or `reset` is called.
///
/// # Examples
///
/// ```
/// use std::sync::atomic::{AtomicU32, Ordering};
/// use std::thread;
///
/// use mp_sync::Barrier;
///
/// static BARRIER: Barrier = Barrier::new(3);
/// static READY: AtomicU32 = AtomicU32::new(0);
///
/// let party = || {
///     READY.fetch_add(1, Ordering::Relaxed);
///     let number = BARRIER.wait().unwrap();
///     assert_eq!(READY.load(Ordering::Relaxed), 3);
///     number
/// };
/// let parties = [(); 3].map(|()| thread::spawn(party));
/// let mut numbers = parties.map(|party| party.join().unwrap());
/// numbers.sort();
/// assert_eq!(numbers, [0, 1, 2]);
/// ```
#[repr(C)]
pub struct Barrier {
    raw: RawBarrier,
}

const _: () = assert!(size_of::<Barrier>() == 16 && align_of::<Barrier>() == 8);

/// Why a wait at a [`Barrier`] failed. Unless a reset was the reason, the barrier stays broken
/// until it is reset.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[non_exhaustive]
pub enum BarrierError {
    /// Not all parties arrived before the timeout, so this wait broke the barrier. All other waits
    /// return [`Broken`](Self::Broken).
    #[error("not all parties arrived at the barrier before the timeout")]
    TimedOut,
    /// The barrier was broken, or was reset during the wait.
    #[error("the barrier is broken or was reset")]
    Broken,
}

impl Barrier {
    /// Makes a barrier for `parties` parties.
    ///
    /// # Panics
    ///
    /// If `parties` is zero or more than 1,048,575. In a `static` or `const` this is a compile
    /// error.
    ///
    /// # Examples
    ///
    /// ```
    /// let barrier = mp_sync::Barrier::new(1);
    /// assert_eq!(barrier.wait(), Ok(0));
    /// ```
    pub const fn new(parties: u32) -> Self {
        assert!(parties > 0, "a barrier has to have at least one party");
        assert!(parties <= MOST, "a barrier has at most 1048575 parties");
        Self { raw: RawBarrier::new(parties) }
    }

    /// Waits until all parties have arrived, and returns how many arrived before this one.
    ///
    /// # Errors
    ///
    /// [`BarrierError::Broken`] if the barrier is broken, or if it is broken or reset before all
    /// have arrived.
    ///
    /// # Process death
    ///
    /// If a party dies before it arrives, this waits until the barrier is broken: see [the
    /// type](Self#process-death).
    ///
    /// # Examples
    ///
    /// ```
    /// let barrier = mp_sync::Barrier::new(2);
    /// std::thread::scope(|scope| {
    ///     let other = scope.spawn(|| barrier.wait().unwrap());
    ///     assert_eq!(barrier.wait().unwrap() + other.join().unwrap(), 0 + 1);
    /// });
    /// ```
    pub fn wait(&self) -> Result<u32, BarrierError> {
        self.arrive(Deadline::NEVER, None::<fn()>)
    }

    /// Waits like [`wait`](Self::wait), for `timeout` at most. If not all parties have arrived
    /// then, it breaks the barrier. With a timeout of zero, it breaks the barrier at once unless
    /// this is the last party. `Duration::MAX` waits indefinitely.
    ///
    /// The monotonic clock measures the time. It stops while the machine is suspended.
    ///
    /// # Errors
    ///
    /// [`BarrierError::TimedOut`] after the timeout, and as for `wait`.
    ///
    /// # Process death
    ///
    /// If a party dies before it arrives, the first wait that times out breaks the barrier.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use mp_sync::{Barrier, BarrierError};
    ///
    /// let barrier = Barrier::new(2);
    /// assert_eq!(barrier.wait_timeout(Duration::from_millis(1)), Err(BarrierError::TimedOut));
    /// assert_eq!(barrier.wait(), Err(BarrierError::Broken));
    /// ```
    pub fn wait_timeout(&self, timeout: Duration) -> Result<u32, BarrierError> {
        self.arrive(Deadline::after(timeout), None::<fn()>)
    }

    /// Waits like [`wait`](Self::wait). If this party is the last to arrive, it runs the action,
    /// and all go on after that has returned.
    ///
    /// Python's barrier stores its action. A function cannot be stored in shared memory, so here
    /// each party passes one, and the action of the last party runs. The action must not wait at
    /// the same barrier, because it would wait for itself.
    ///
    /// # Errors
    ///
    /// As for `wait`. If the barrier is broken or reset while the action runs, the others return an
    /// error at once, and the party that runs the action does so when the action has returned.
    ///
    /// # Panics
    ///
    /// If the action panics. Then the barrier is broken, so the others do not wait for it.
    ///
    /// # Process death
    ///
    /// If a process is killed in the action, the others keep waiting: see [the
    /// type](Self#process-death).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::sync::atomic::{AtomicU32, Ordering};
    ///
    /// let (barrier, turns) = (mp_sync::Barrier::new(2), AtomicU32::new(0));
    /// let party = || {
    ///     barrier.wait_with(|| _ = turns.fetch_add(1, Ordering::Relaxed)).unwrap();
    ///     assert_eq!(turns.load(Ordering::Relaxed), 1);
    /// };
    /// std::thread::scope(|scope| {
    ///     scope.spawn(party);
    ///     party();
    /// });
    /// ```
    pub fn wait_with(&self, action: impl FnOnce()) -> Result<u32, BarrierError> {
        self.arrive(Deadline::NEVER, Some(action))
    }

    /// Waits like [`wait_with`](Self::wait_with), for `timeout` at most, as
    /// [`wait_timeout`](Self::wait_timeout) does. The timeout does not limit the party that runs
    /// the action.
    ///
    /// # Errors
    ///
    /// [`BarrierError::TimedOut`] after the timeout, and as for `wait_with`.
    ///
    /// # Panics
    ///
    /// If the action panics, as for `wait_with`.
    ///
    /// # Process death
    ///
    /// If a party dies before it arrives or in its action, the first wait that times out breaks the
    /// barrier.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let barrier = mp_sync::Barrier::new(1);
    /// let mut count = 0;
    /// assert_eq!(barrier.wait_timeout_with(Duration::ZERO, || count += 1), Ok(0));
    /// assert_eq!(count, 1);
    /// ```
    pub fn wait_timeout_with(&self, timeout: Duration, action: impl FnOnce()) -> Result<u32, BarrierError> {
        self.arrive(Deadline::after(timeout), Some(action))
    }

    /// Breaks the barrier: all current and later waits return [`BarrierError::Broken`], until it is
    /// reset.
    ///
    /// # Examples
    ///
    /// ```
    /// use mp_sync::{Barrier, BarrierError};
    ///
    /// let barrier = Barrier::new(2);
    /// barrier.abort();
    /// assert_eq!(barrier.wait(), Err(BarrierError::Broken));
    /// ```
    pub fn abort(&self) {
        self.raw.abort();
    }

    /// Begins a new generation: all current waits return [`BarrierError::Broken`], and the barrier
    /// works again at once. If it is not broken and no party waits, this does nothing.
    ///
    /// An action that is running is not interrupted, but the other parties of its generation no
    /// longer wait for it.
    ///
    /// # Examples
    ///
    /// ```
    /// let barrier = mp_sync::Barrier::new(1);
    /// barrier.abort();
    /// barrier.reset();
    /// assert_eq!(barrier.wait(), Ok(0));
    /// ```
    pub fn reset(&self) {
        self.raw.reset();
    }

    /// Tells whether the barrier is broken, like Python's `broken`.
    ///
    /// # Examples
    ///
    /// ```
    /// let barrier = mp_sync::Barrier::new(2);
    /// assert!(!barrier.is_broken());
    /// barrier.abort();
    /// assert!(barrier.is_broken());
    /// ```
    pub fn is_broken(&self) -> bool {
        self.raw.is_broken()
    }

    /// Returns how many parties have arrived and wait for the others, like Python's `n_waiting`.
    /// The number may have changed when the caller gets it.
    ///
    /// # Process death
    ///
    /// A party that was killed while it waited is counted.
    ///
    /// # Examples
    ///
    /// ```
    /// assert_eq!(mp_sync::Barrier::new(2).waiting(), 0);
    /// ```
    pub fn waiting(&self) -> u32 {
        self.raw.waiting()
    }

    /// Returns the number of parties.
    ///
    /// # Examples
    ///
    /// ```
    /// assert_eq!(mp_sync::Barrier::new(2).parties(), 2);
    /// ```
    pub fn parties(&self) -> u32 {
        self.raw.parties()
    }

    fn arrive(&self, deadline: Deadline, action: Option<impl FnOnce()>) -> Result<u32, BarrierError> {
        self.raw.wait(deadline, action).map_err(|broken| match broken {
            Broken::ByTimeout => BarrierError::TimedOut,
            Broken::ByOthers => BarrierError::Broken,
        })
    }
}

impl fmt::Debug for Barrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut fields = f.debug_struct("Barrier");
        fields.field("parties", &self.parties()).field("waiting", &self.waiting());
        fields.field("is_broken", &self.is_broken()).finish()
    }
}
