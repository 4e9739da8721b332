//! The public semaphore whose permits come back from the dead.

use std::fmt;
use std::marker::PhantomData;
use std::mem::{self, offset_of};
use std::thread::yield_now;
use std::time::Duration;

use crate::deadline::Deadline;
use crate::raw::mutex::Refused;
use crate::raw::rwlock::RawRwLock;

/// A number of permits, of which each comes back when the thread that has it dies.
///
/// It is what limits how many do something at a time: connections, files, large computations. A
/// permit is a guard that belongs to a thread, so nobody else can release it: for events that are
/// counted, or permits that travel, use a semaphore with `release`.
///
/// It is a plain value without pointers, for any memory that several processes have mapped,
/// registered as a [`SharedRegion`](crate::SharedRegion) in each; or for an ordinary `static` or an
/// `Arc`, between threads. It takes 64 bytes and 16 for each permit that it has room for:
/// `CAPACITY`, a multiple of 4 up to 128, 32 if nobody says otherwise.
///
/// A free permit is anybody's. When there is none, those who wait do so for their turn, without an
/// order among them; the one whose turn it is gets the next permit, and nobody overtakes it.
///
/// # When a process dies
///
/// - While it has a permit: the permit is free at once, and the one whose turn it is gets it.
/// - While it waits: nobody is held up. (Should it die in the very moment in which it was woken,
///   the next one notices within 100 ms.)
///
/// Nobody is told: what a permit stands for has to be there again when its holder is gone. The
/// kernel sees to that (robust futexes, and `FUTEX_WAITV`: before Linux 5.16, the one whose turn it
/// is looks for permits of the dead every 100 ms). The limits are those of
/// [`Mutex`](crate::Mutex#limits), where each permit counts as a lock.
///
/// # Examples
///
/// ```
/// use mp_sync::RobustSemaphore;
///
/// static CONNECTIONS: RobustSemaphore = RobustSemaphore::new(2);
///
/// let (first, second) = (CONNECTIONS.acquire(), CONNECTIONS.acquire());
/// assert!(CONNECTIONS.try_acquire().is_none());
/// drop(first);
/// assert!(CONNECTIONS.try_acquire().is_some());
/// # drop(second);
/// ```
#[repr(C, align(64))]
pub struct RobustSemaphore<const CAPACITY: usize = 32> {
    raw: RawRwLock<CAPACITY>,
}

const _: () = assert!(size_of::<RobustSemaphore>() == 576 && offset_of!(RobustSemaphore<4>, raw) == 0);

impl RobustSemaphore {
    /// A semaphore with that many permits.
    ///
    /// # Panics
    ///
    /// If there are none, or more than 32.
    pub const fn new(permits: u32) -> Self {
        Self::with_capacity(permits)
    }
}

impl<const CAPACITY: usize> RobustSemaphore<CAPACITY> {
    /// The same with room for `CAPACITY` permits. It does not compile if that is no multiple of 4
    /// from 4 to 128.
    ///
    /// ```
    /// use mp_sync::RobustSemaphore;
    ///
    /// static MANY: RobustSemaphore<128> = RobustSemaphore::with_capacity(100);
    /// assert_eq!(MANY.available(), 100);
    /// ```
    ///
    /// # Panics
    ///
    /// If there are no permits, or more than there is room for.
    pub const fn with_capacity(permits: u32) -> Self {
        Self { raw: RawRwLock::new(permits) }
    }

    /// Takes a permit, waiting for as long as it takes.
    pub fn acquire(&self) -> RobustPermit<'_, CAPACITY> {
        loop {
            if let Some(permit) = self.acquire_until(Deadline::NEVER) {
                return permit;
            }
            // A thread of another PID namespace, with the number of this one, has the turn.
            yield_now();
        }
    }

    /// Takes a permit if there is one, and nobody's turn.
    pub fn try_acquire(&self) -> Option<RobustPermit<'_, CAPACITY>> {
        self.acquire_until(Deadline::PASSED)
    }

    /// Takes a permit, waiting no longer than that; `None` if there was none in that time. No time
    /// at all is [`try_acquire`](Self::try_acquire).
    pub fn acquire_timeout(&self, timeout: Duration) -> Option<RobustPermit<'_, CAPACITY>> {
        self.acquire_until(Deadline::after(timeout))
    }

    #[inline]
    fn acquire_until(&self, deadline: Deadline) -> Option<RobustPermit<'_, CAPACITY>> {
        match self.raw.enter(deadline, false) {
            Ok(entered) => Some(RobustPermit { semaphore: self, slot: entered.slot, thread: PhantomData }),
            Err(Refused::Late | Refused::Own) => None,
        }
    }

    /// How many permits are free at this moment. It may have changed when this returns: for
    /// displays and tests.
    pub fn available(&self) -> usize {
        self.raw.free()
    }
}

impl<const CAPACITY: usize> fmt::Debug for RobustSemaphore<CAPACITY> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RobustSemaphore").field("available", &self.available()).finish_non_exhaustive()
    }
}

/// A permit of a [`RobustSemaphore`], which this thread has. Dropping it gives it back, and so does
/// the death of the thread.
#[must_use = "the permit is given back when the guard is dropped"]
pub struct RobustPermit<'a, const CAPACITY: usize = 32> {
    semaphore: &'a RobustSemaphore<CAPACITY>,
    slot: usize,
    /// The permit belongs to a thread.
    thread: PhantomData<*const ()>,
}

impl<const CAPACITY: usize> RobustPermit<'_, CAPACITY> {
    /// Keeps the permit taken until the process ends. Nobody can release it before that.
    ///
    /// If this thread ends before its process, the permit stays taken even after that.
    pub fn forget(self) {
        mem::forget(self);
    }
}

// SAFETY: it lends nothing.
unsafe impl<const CAPACITY: usize> Sync for RobustPermit<'_, CAPACITY> {}

impl<const CAPACITY: usize> Drop for RobustPermit<'_, CAPACITY> {
    fn drop(&mut self) {
        self.semaphore.raw.leave(self.slot);
    }
}

impl<const CAPACITY: usize> fmt::Debug for RobustPermit<'_, CAPACITY> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RobustPermit").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;
    use std::time::Instant;

    use super::*;

    const LONG: Duration = Duration::from_secs(20);

    #[test]
    fn there_are_as_many_permits_as_said() {
        let semaphore = RobustSemaphore::new(3);
        let mut permits: Vec<_> = (0..3).map(|_| semaphore.acquire_timeout(LONG).unwrap()).collect();
        assert_eq!(semaphore.available(), 0);
        let (begun, time) = (Instant::now(), Duration::from_millis(20));
        assert!(semaphore.try_acquire().is_none() && semaphore.acquire_timeout(time).is_none());
        assert!(begun.elapsed() >= time);
        permits.pop();
        assert_eq!(format!("{semaphore:?}"), "RobustSemaphore { available: 1, .. }");
        permits.push(semaphore.acquire_timeout(Duration::MAX).unwrap());
        permits.clear();
        assert_eq!(semaphore.available(), 3);
        semaphore.acquire().forget();
        assert_eq!(semaphore.available(), 2);
    }

    #[test]
    fn numbers_of_permits_that_there_is_no_room_for_are_refused() {
        for permits in [0, 5, u32::MAX] {
            assert!(std::panic::catch_unwind(|| RobustSemaphore::<4>::with_capacity(permits)).is_err(), "{permits}");
        }
    }

    #[test]
    fn never_more_have_a_permit_than_there_are() {
        let semaphore = RobustSemaphore::<4>::with_capacity(2);
        let inside = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..5 {
                scope.spawn(|| {
                    for _ in 0..1_000 {
                        let _permit = semaphore.acquire_timeout(LONG).expect("they come back");
                        assert!(inside.fetch_add(1, Ordering::SeqCst) < 2);
                        inside.fetch_sub(1, Ordering::SeqCst);
                    }
                });
            }
        });
        assert_eq!(semaphore.available(), 2);
    }
}
