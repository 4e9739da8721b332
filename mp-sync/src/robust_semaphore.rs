//! `RobustSemaphore`: a semaphore that reclaims the permits of dead threads.

use std::fmt;
use std::marker::PhantomData;
use std::mem::{self, offset_of};
use std::thread::yield_now;
use std::time::Duration;

use crate::deadline::Deadline;
use crate::raw::mutex::Refused;
use crate::raw::rwlock::RawRwLock;

/// A semaphore that gets a permit back when the thread that holds it dies.
///
/// It limits how many threads do something at a time, such as open a connection or run a large
/// computation. A permit is a guard that belongs to a thread, so no other thread can release it. To
/// count events, or to pass permits to other threads, use a [`Semaphore`](crate::Semaphore).
///
/// It has no pointers. Put it in memory that several processes have mapped, registered as a
/// [`SharedRegion`](crate::SharedRegion) in each, or in an ordinary `static` or `Arc` between
/// threads. It takes 64 bytes, and 16 for each permit for which it has room. That is `CAPACITY`, a
/// multiple of 4 up to 128, by default 32.
///
/// Any thread can take a free permit. If there is none, one of the waiters has the turn and gets
/// the next permit; no thread overtakes it. The order in which waiters get the turn is not
/// specified.
///
/// # When a process dies
///
/// - While it holds a permit: the permit is free at once, and the waiter that has the turn gets it.
/// - While it waits: other threads are not affected. (If it dies just after it was woken, the next
///   waiter notices within 100 ms.)
///
/// There is no error for the next holder, so what the permit stands for has to be usable after the
/// death. The kernel detects the death (robust futexes, and `FUTEX_WAITV`; before Linux 5.16, the
/// waiter that has the turn looks for permits of dead threads every 100 ms). The limits are those
/// of [`Mutex`](crate::Mutex#limits), where each permit counts as a lock.
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
    /// Makes a semaphore with `permits` permits.
    ///
    /// # Panics
    ///
    /// If `permits` is zero or more than 32.
    pub const fn new(permits: u32) -> Self {
        Self::with_capacity(permits)
    }
}

impl<const CAPACITY: usize> RobustSemaphore<CAPACITY> {
    /// Makes a semaphore with room for `CAPACITY` permits. It does not compile unless that is a
    /// multiple of 4, from 4 to 128.
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
    /// If `permits` is zero or more than `CAPACITY`.
    pub const fn with_capacity(permits: u32) -> Self {
        Self { raw: RawRwLock::new(permits) }
    }

    /// Waits for a permit, and takes it.
    pub fn acquire(&self) -> RobustPermit<'_, CAPACITY> {
        loop {
            if let Some(permit) = self.acquire_until(Deadline::NEVER) {
                return permit;
            }
            // A thread of another PID namespace, with the thread ID of this one, has the turn.
            yield_now();
        }
    }

    /// Takes a permit if one is free and no other thread has the turn.
    pub fn try_acquire(&self) -> Option<RobustPermit<'_, CAPACITY>> {
        self.acquire_until(Deadline::PASSED)
    }

    /// Waits for a permit for `timeout` at most, and returns `None` if none was free in time. With
    /// a timeout of zero it is [`try_acquire`](Self::try_acquire).
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

    /// Returns how many permits are free. The number may have changed when the caller gets it, so
    /// it is for displays and tests.
    pub fn available(&self) -> usize {
        self.raw.free()
    }
}

impl<const CAPACITY: usize> fmt::Debug for RobustSemaphore<CAPACITY> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RobustSemaphore").field("available", &self.available()).finish_non_exhaustive()
    }
}

/// A permit of a [`RobustSemaphore`] that this thread holds. Dropping it, or the death of the
/// thread, releases it.
#[must_use = "dropping the permit releases it"]
pub struct RobustPermit<'a, const CAPACITY: usize = 32> {
    semaphore: &'a RobustSemaphore<CAPACITY>,
    slot: usize,
    /// Not `Send`, because the permit belongs to a thread.
    thread: PhantomData<*const ()>,
}

impl<const CAPACITY: usize> RobustPermit<'_, CAPACITY> {
    /// Keeps the permit until the process ends. No thread can release it before that.
    ///
    /// If this thread ends before its process, the permit is lost permanently.
    pub fn forget(self) {
        mem::forget(self);
    }
}

// SAFETY: the permit lends nothing.
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
