//! A place where parties wait for each other.

use std::fmt;
use std::time::Duration;

use thiserror::Error;

use crate::deadline::Deadline;
use crate::raw::barrier::{Broken, MOST, RawBarrier};

/// A place where a number of parties, processes or threads, wait for each other, again and again,
/// as Python's `multiprocessing.Barrier`.
///
/// When as many have arrived as there are parties, all go on: that is one generation, and the next
/// one begins. Each of them gets another number, from zero to one less than there are parties, in
/// the order in which they arrived.
///
/// A barrier can be broken: by [`abort`](Self::abort), by a wait whose time is up, by an action
/// that panics. Then all who wait and all who come get [`BarrierError::Broken`], until somebody
/// calls [`reset`](Self::reset).
///
/// It is 16 bytes without a pointer in them: place it in memory that processes share, at any
/// address of each, or in a `static` for the threads of one process. What a party has done before
/// it arrives is seen by the action, and by all after they have gone on.
///
/// If more threads take part than there are parties, those who come first are the generation, and
/// the others wait for the next one.
///
/// # Process death
///
/// A process that is killed before it arrives leaves the others waiting: use
/// [`wait_timeout`](Self::wait_timeout), or have whoever sees it die call [`abort`](Self::abort).
/// One that is killed while it waits has arrived and is counted, so the others go on without it; it
/// is missed in the next generation. One that is killed in the middle of ending a generation has
/// ended it or has not; if it did not come to wake those who sleep, they find out within a tenth of
/// a second. One that is killed while it runs the action leaves all others waiting until the time
/// of one is up, or somebody calls `abort` or `reset`.
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

/// Why a wait at a [`Barrier`] failed. The barrier stays broken until it is reset, unless that is
/// what happened.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[non_exhaustive]
pub enum BarrierError {
    /// Not all arrived in the time that this wait had, and so it has broken the barrier. All others
    /// get [`Broken`](Self::Broken).
    #[error("not all parties arrived at the barrier in time")]
    TimedOut,
    /// The barrier was broken, or was reset during the wait.
    #[error("the barrier is broken or was reset")]
    Broken,
}

impl Barrier {
    /// Makes a barrier for that many parties.
    ///
    /// # Panics
    ///
    /// If there are no parties, or more than 1,048,575. In a `static` or `const` this is an error
    /// when it is compiled.
    ///
    /// # Examples
    ///
    /// ```
    /// let barrier = mp_sync::Barrier::new(1);
    /// assert_eq!(barrier.wait(), Ok(0));
    /// ```
    pub const fn new(parties: u32) -> Self {
        assert!(parties > 0, "a barrier has to have at least one party");
        assert!(parties <= MOST, "a barrier has 1048575 parties at most");
        Self { raw: RawBarrier::new(parties) }
    }

    /// Waits until all parties have arrived, and gives how many had arrived before this one.
    ///
    /// # Errors
    ///
    /// [`BarrierError::Broken`] if the barrier is broken, or is broken or reset before all have
    /// arrived.
    ///
    /// # Process death
    ///
    /// If a party dies before it arrives, this waits until somebody breaks the barrier: see [the
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

    /// Waits as [`wait`](Self::wait) does, for that long at most: if not all have arrived then, it
    /// breaks the barrier for all. Zero breaks it at once unless this is the last; `Duration::MAX`
    /// is for ever.
    ///
    /// The time is measured by the monotonic clock, which stands still while the machine sleeps.
    ///
    /// # Errors
    ///
    /// [`BarrierError::TimedOut`] if the time was up, and as for `wait`.
    ///
    /// # Process death
    ///
    /// If a party dies before it arrives, the first whose time is up breaks the barrier.
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

    /// Waits as [`wait`](Self::wait) does. If this is the last to arrive it runs the action first,
    /// and all go on when that has returned.
    ///
    /// Python's barrier has its action from the start. A function is no value that could lie in
    /// shared memory, so here each party brings it, and the last one's is run. The action must not
    /// wait at the same barrier, which would wait for itself.
    ///
    /// # Errors
    ///
    /// As for `wait`. If the barrier is broken or reset while the action runs, the others go on
    /// with an error at once, and the one that ran it when it has returned.
    ///
    /// # Panics
    ///
    /// If the action panics. Then the barrier is broken, so the others do not wait for it.
    ///
    /// # Process death
    ///
    /// A process that is killed in the action has neither broken the barrier nor let the others go
    /// on: see [the type](Self#process-death).
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

    /// Waits as [`wait_with`](Self::wait_with) does, for that long at most, as
    /// [`wait_timeout`](Self::wait_timeout). The one that runs the action takes the time that this
    /// takes; the others do not wait longer than they said.
    ///
    /// # Errors
    ///
    /// [`BarrierError::TimedOut`] if the time was up, and as for `wait_with`.
    ///
    /// # Panics
    ///
    /// If the action panics, as `wait_with`.
    ///
    /// # Process death
    ///
    /// If a party dies before it arrives, or in its action, the first whose time is up breaks the
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

    /// Breaks the barrier: all who wait, and all who come from now on, get
    /// [`BarrierError::Broken`], until it is reset.
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

    /// Begins a new generation: all who wait get [`BarrierError::Broken`], and the barrier works
    /// again at once. Where nobody waits and nothing is broken it does nothing.
    ///
    /// An action that is running goes on running; the generation that it belonged to is over for
    /// the others.
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

    /// Tells whether the barrier is broken: Python's `broken`.
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

    /// How many have arrived and wait for the others: Python's `n_waiting`. By the time that the
    /// caller looks at the answer it may have changed.
    ///
    /// # Process death
    ///
    /// Whoever was killed while it waited is counted.
    ///
    /// # Examples
    ///
    /// ```
    /// assert_eq!(mp_sync::Barrier::new(2).waiting(), 0);
    /// ```
    pub fn waiting(&self) -> u32 {
        self.raw.waiting()
    }

    /// How many have to arrive.
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
