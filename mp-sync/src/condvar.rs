//! `Condvar`: a condition variable.

use std::fmt;
use std::time::Duration;

use crate::deadline::Deadline;
use crate::error::LockGuard;
use crate::primitive::Slept;
use crate::raw::condvar::RawCondvar;
use crate::{LockError, Mutex, MutexGuard, ReentrantMutex, ReentrantMutexGuard};

/// A condition variable for [`Mutex`] and [`ReentrantMutex`]: it releases the lock while it waits
/// for a change that another thread makes under the lock.
///
/// It has 8 bytes and no pointers, for shared memory or a `static`. Use it with one mutex at a
/// time. To notify, change the state under the lock, and then call a notify method, with or without
/// the lock. No such notification is lost.
///
/// A wait can return without a notification, so wait in a loop or with
/// [`wait_while`](Self::wait_while).
///
/// # When a process dies
///
/// - While it waits: other waiters are not affected. If [`notify_one`](Self::notify_one) had
///   already chosen it, that notification is lost, as if it had died right after its wait.
/// - Between its change and its notification: waiters in [`wait_while`](Self::wait_while) see the
///   change within 100 ms. Waiters in [`wait`](Self::wait) are not woken.
/// - While it holds the lock: a waiter whose wait ends gets [`LockError::OwnerDied`], as from
///   [`Mutex::lock`].
///
/// ```
/// use std::thread;
///
/// use mp_sync::{Condvar, Mutex};
///
/// static JOBS: Mutex<Vec<u32>> = Mutex::new(Vec::new());
/// static MORE: Condvar = Condvar::new();
///
/// let worker = thread::spawn(|| {
///     let jobs = JOBS.lock().unwrap();
///     let mut jobs = MORE.wait_while(jobs, |jobs| jobs.is_empty()).unwrap();
///     jobs.pop()
/// });
/// JOBS.lock()?.push(7);
/// MORE.notify_one();
/// assert_eq!(worker.join().unwrap(), Some(7));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[repr(C)]
pub struct Condvar {
    raw: RawCondvar,
}

const _: () = assert!(size_of::<Condvar>() == 8 && align_of::<Condvar>() == 4);

/// Tells whether a wait timed out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WaitTimeoutResult(bool);

impl<G: LockGuard> LockGuard for (G, WaitTimeoutResult) {}

impl WaitTimeoutResult {
    /// Tells whether the wait returned because of the timeout, and not because of a notification.
    pub fn timed_out(self) -> bool {
        self.0
    }
}

impl Condvar {
    /// Makes a condition variable.
    pub const fn new() -> Self {
        Self { raw: RawCondvar::new() }
    }

    /// Releases the lock, waits for a notification, and takes the lock again.
    ///
    /// # Errors
    ///
    /// [`LockError::OwnerDied`] with the guard, if the owner of the lock died meanwhile.
    /// [`LockError::Depth`] if this thread holds a [`ReentrantMutex`] more than once, because the
    /// value that its other guards lend would change. This guard is dropped then.
    pub fn wait<G: Guard>(&self, guard: G) -> Result<G, LockError<G>> {
        let waiter = self.raw.enter();
        let lock = guard.release()?;
        waiter.wait(Deadline::NEVER);
        drop(waiter);
        G::take(lock)
    }

    /// Waits like [`wait`](Self::wait), for `timeout` at most. Taking the lock again can take
    /// longer.
    ///
    /// # Errors
    ///
    /// As for [`wait`](Self::wait).
    pub fn wait_timeout<G: Guard>(
        &self,
        guard: G,
        timeout: Duration,
    ) -> Result<(G, WaitTimeoutResult), LockError<(G, WaitTimeoutResult)>> {
        let deadline = Deadline::after(timeout);
        let in_time = WaitTimeoutResult(false);
        let waiter = self.raw.enter();
        let lock = guard.release().map_err(|error| error.map(|guard| (guard, in_time)))?;
        let result = WaitTimeoutResult(waiter.wait(deadline) == Slept::Late);
        drop(waiter);
        G::take(lock).map(|guard| (guard, result)).map_err(|error| error.map(|guard| (guard, result)))
    }

    /// Waits until the condition is false. It checks the condition under the lock, first and after
    /// each notification. It also checks it every 100 ms, in case the notifying process died.
    ///
    /// # Errors
    ///
    /// As for [`wait`](Self::wait). After [`LockError::OwnerDied`] the condition may still be true.
    pub fn wait_while<G: Guard>(
        &self,
        mut guard: G,
        mut condition: impl FnMut(&mut G::Lent) -> bool,
    ) -> Result<G, LockError<G>> {
        while condition(guard.lend()) {
            let waiter = self.raw.enter();
            let lock = guard.release()?;
            waiter.wait_a_while(Deadline::NEVER);
            drop(waiter);
            guard = G::take(lock)?;
        }
        Ok(guard)
    }

    /// Waits like [`wait_while`](Self::wait_while), for `timeout` at most in all. If it
    /// [`timed_out`](WaitTimeoutResult::timed_out), the condition was still true at the end.
    ///
    /// # Errors
    ///
    /// As for [`wait`](Self::wait).
    pub fn wait_timeout_while<G: Guard>(
        &self,
        mut guard: G,
        timeout: Duration,
        mut condition: impl FnMut(&mut G::Lent) -> bool,
    ) -> Result<(G, WaitTimeoutResult), LockError<(G, WaitTimeoutResult)>> {
        let deadline = Deadline::after(timeout);
        let mut late = deadline == Deadline::PASSED;
        while condition(guard.lend()) {
            let result = WaitTimeoutResult(late);
            if late {
                return Ok((guard, result));
            }
            let waiter = self.raw.enter();
            let lock = guard.release().map_err(|error| error.map(|guard| (guard, result)))?;
            late = waiter.wait_a_while(deadline) == Slept::Late;
            drop(waiter);
            let result = WaitTimeoutResult(late);
            guard = G::take(lock).map_err(|error| error.map(|guard| (guard, result)))?;
        }
        Ok((guard, WaitTimeoutResult(false)))
    }

    /// Wakes one waiter, if there is one.
    pub fn notify_one(&self) {
        self.raw.notify(1);
    }

    /// Wakes `count` waiters, or all if there are fewer.
    pub fn notify_n(&self, count: u32) {
        self.raw.notify(count.min(i32::MAX as u32));
    }

    /// Wakes all waiters.
    pub fn notify_all(&self) {
        self.raw.notify(i32::MAX as u32);
    }
}

impl Default for Condvar {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Condvar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Condvar").finish_non_exhaustive()
    }
}

/// A guard with which a [`Condvar`] can wait: that of a [`Mutex`] or a [`ReentrantMutex`].
pub trait Guard: sealed::Guard {
    /// What a condition can access: the value of a mutex, or the guard of a reentrant mutex, which
    /// lends the value shared.
    type Lent: ?Sized;

    #[doc(hidden)]
    fn lend(&mut self) -> &mut Self::Lent;
}

mod sealed {
    use crate::LockError;

    pub trait Guard: Sized {
        type Lock;

        /// Releases the lock. This does not count as a drop by a panic.
        fn release(self) -> Result<Self::Lock, LockError<Self>>;

        fn take(lock: Self::Lock) -> Result<Self, LockError<Self>>;
    }
}

impl<'m, T: ?Sized> sealed::Guard for MutexGuard<'m, T> {
    type Lock = &'m Mutex<T>;

    fn release(self) -> Result<Self::Lock, LockError<Self>> {
        let mutex = self.mutex();
        std::mem::forget(self);
        mutex.raw().unlock();
        Ok(mutex)
    }

    fn take(lock: Self::Lock) -> Result<Self, LockError<Self>> {
        lock.lock()
    }
}

impl<T: ?Sized> Guard for MutexGuard<'_, T> {
    type Lent = T;

    fn lend(&mut self) -> &mut T {
        self
    }
}

impl<'m, T: ?Sized> sealed::Guard for ReentrantMutexGuard<'m, T> {
    type Lock = &'m ReentrantMutex<T>;

    fn release(self) -> Result<Self::Lock, LockError<Self>> {
        let mutex = self.mutex();
        if mutex.raw().depth() > 0 {
            return Err(LockError::Depth);
        }
        std::mem::forget(self);
        mutex.raw().unlock();
        Ok(mutex)
    }

    fn take(lock: Self::Lock) -> Result<Self, LockError<Self>> {
        lock.lock()
    }
}

impl<T: ?Sized> Guard for ReentrantMutexGuard<'_, T> {
    type Lent = Self;

    fn lend(&mut self) -> &mut Self {
        self
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::thread;
    use std::time::Instant;

    use super::*;

    #[test]
    fn a_wait_ends_with_its_time() {
        let (mutex, condvar) = (Mutex::new(1), Condvar::new());
        let guard = mutex.lock().unwrap();
        let begun = Instant::now();
        let (guard, result) = condvar.wait_timeout(guard, Duration::from_millis(20)).unwrap();
        assert!(result.timed_out() && begun.elapsed() >= Duration::from_millis(20));
        let (guard, result) = condvar.wait_timeout(guard, Duration::ZERO).unwrap();
        assert!(result.timed_out());
        let mut looks = 0;
        let watch = |value: &mut i32| {
            looks += 1;
            *value == 1
        };
        let (guard, result) = condvar.wait_timeout_while(guard, Duration::from_millis(20), watch).unwrap();
        assert!(result.timed_out() && *guard == 1);
        assert_eq!(looks, 2, "at first and at the end");
        let (_guard, result) = condvar.wait_timeout_while(guard, Duration::MAX, |value| *value != 1).unwrap();
        assert!(!result.timed_out(), "it need not wait");
    }

    #[test]
    fn a_reentrant_mutex_waits_when_it_is_held_once() {
        let (mutex, condvar) = (ReentrantMutex::new(Cell::new(0)), Condvar::new());
        thread::scope(|scope| {
            let guard = mutex.lock().unwrap();
            scope.spawn(|| {
                mutex.lock().unwrap().set(1);
                condvar.notify_all();
            });
            let guard = condvar.wait_while(guard, |value| value.get() == 0).unwrap();
            assert_eq!(guard.get(), 1);
            let again = mutex.lock().unwrap();
            let error = condvar.wait(again).unwrap_err();
            assert!(matches!(error, LockError::Depth), "{error}");
            drop(guard);
            assert!(!mutex.is_locked());
        });
    }

    #[test]
    fn a_panic_elsewhere_does_not_poison_what_a_wait_lets_go() {
        struct WaitsInDrop<'a>(Option<MutexGuard<'a, ()>>, &'a Condvar);
        impl Drop for WaitsInDrop<'_> {
            fn drop(&mut self) {
                let guard = self.0.take().unwrap();
                drop(self.1.wait_timeout(guard, Duration::from_millis(1)).map(|(guard, _)| guard).unwrap());
            }
        }
        let (mutex, condvar) = (Mutex::new(()), Condvar::new());
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _waits = WaitsInDrop(Some(mutex.lock().unwrap()), &condvar);
            panic!("on purpose");
        }));
        assert!(result.is_err());
        drop(mutex.lock().expect("the lock was taken again during the panic"));
    }
}
