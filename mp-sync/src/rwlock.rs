//! The public readers-writer lock: the raw one with what it protects.

use std::cell::UnsafeCell;
use std::fmt;
use std::marker::PhantomData;
use std::mem::{ManuallyDrop, offset_of};
use std::ops::{Deref, DerefMut};
use std::thread::panicking;
use std::time::Duration;

use crate::LockError;
use crate::deadline::Deadline;
use crate::raw::mutex::Refused;
use crate::raw::rwlock::{Entered, RawRwLock};

/// Many readers or one writer, of all processes that have mapped the memory it is in, with the
/// value that it protects.
///
/// It is a plain value without pointers, for any memory that several processes have mapped,
/// registered as a [`SharedRegion`](crate::SharedRegion) in each; or for an ordinary `static` or an
/// `Arc`, between threads. Python's `multiprocessing` has no counterpart.
///
/// # Readers, and what they cost
///
/// Each thread that reads holds a *slot*, which the kernel frees if the thread dies. `READERS` says
/// how many there are: a multiple of 4 up to 128, 32 if nobody says otherwise. If more want to read
/// at a time, they wait for their turn until a slot is free; those who come later do not overtake
/// them.
///
/// The lock takes 64 bytes, 16 for each slot, and the value. Threads use different slots where they
/// can, four of which share a cache line, so that readers seldom slow each other down. A writer
/// pays for that: it looks at every slot, which are 8 cache lines for 32.
///
/// # Whose turn it is
///
/// One writer at a time has the turn. From then on no new reader comes in; it writes when the last
/// one has gone out. Everybody else that waits, for reading or writing, waits for the turn, without
/// an order among them.
///
/// A thread that reads may read once more, even if a writer waits: it shares its slot. If it wants
/// to write before its guards are gone, it gets [`LockError::Deadlock`]; so does a thread that
/// writes, for whatever it wants.
///
/// # When a process dies
///
/// - A reader: its slot is free, and a writer that waits for it goes on, at once.
/// - A writer, while it had the value to itself: whoever comes next, to read or to write, gets
///   [`LockError::OwnerDied`] at once, and with it the guard; so do those who were waiting. The
///   value is as the dead left it: perhaps half changed. It stays so until somebody mends it and
///   calls [`RwLockWriteGuard::mark_consistent`]. A panic of a writer poisons the lock likewise;
///   one of a reader does not.
/// - A writer that waits, be it that it has the turn already; a reader that waits: nobody is held
///   up. (Should it die in the very moment in which it was woken, the next one notices within 100
///   ms.)
///
/// The kernel sees to that (robust futexes, and `FUTEX_WAITV` for one that waits for any of the
/// slots: before Linux 5.16, that one looks at all of them every 100 ms). The limits are those of
/// [`Mutex`](crate::Mutex#limits), where each slot counts as a lock.
///
/// # Examples
///
/// ```
/// use mp_sync::{LockError, RwLock};
///
/// static PRICES: RwLock<[u32; 2]> = RwLock::new([3, 5]);
///
/// let sum = PRICES.read()?.iter().sum::<u32>();
/// match PRICES.write() {
///     Ok(mut prices) => prices[0] = sum,
///     Err(LockError::OwnerDied(mut prices)) => {
///         *prices = [3, 5]; // whatever makes it right again
///         prices.mark_consistent();
///     }
///     Err(error) => return Err(error.to_string().into()),
/// }
/// assert_eq!(*PRICES.read()?, [8, 5]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[repr(C, align(64))]
pub struct RwLock<T: ?Sized, const READERS: usize = 32> {
    raw: RawRwLock<READERS>,
    value: UnsafeCell<T>,
}

const _: () = {
    assert!(
        offset_of!(RwLock<u64>, value) == 576 && size_of::<RwLock<u64>>() == 640 && align_of::<RwLock<u64>>() == 64
    );
    assert!(offset_of!(RwLock<u64, 4>, value) == 128);
};

// SAFETY: the value goes with the lock.
unsafe impl<T: ?Sized + Send, const READERS: usize> Send for RwLock<T, READERS> {}
// SAFETY: the value is lent to one thread at a time to change it, or to several to look at it.
unsafe impl<T: ?Sized + Send + Sync, const READERS: usize> Sync for RwLock<T, READERS> {}

impl<T> RwLock<T> {
    /// A lock that nobody holds, for 32 readers at a time.
    pub const fn new(value: T) -> Self {
        Self::with_readers(value)
    }
}

impl<T, const READERS: usize> RwLock<T, READERS> {
    /// A lock that nobody holds, for `READERS` readers at a time. It does not compile if that is no
    /// multiple of 4 from 4 to 128.
    ///
    /// ```
    /// use mp_sync::RwLock;
    ///
    /// static LOCK: RwLock<u64, 128> = RwLock::with_readers(0);
    /// assert_eq!(*LOCK.read()?, 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub const fn with_readers(value: T) -> Self {
        Self { raw: RawRwLock::new(READERS as u32), value: UnsafeCell::new(value) }
    }

    /// The value, of a lock that nobody else can see any more, in whatever state it is.
    pub fn into_inner(self) -> T {
        self.value.into_inner()
    }
}

type Read<'a, T, const READERS: usize> = RwLockReadGuard<'a, T, READERS>;
type Write<'a, T, const READERS: usize> = RwLockWriteGuard<'a, T, READERS>;

impl<T: ?Sized, const READERS: usize> RwLock<T, READERS> {
    /// Takes the lock for reading, waiting for as long as it takes.
    ///
    /// # Errors
    ///
    /// [`LockError::OwnerDied`] with the guard, see [above](Self#when-a-process-dies);
    /// [`LockError::Deadlock`] if this thread has the lock for writing.
    #[inline]
    pub fn read(&self) -> Result<Read<'_, T, READERS>, LockError<Read<'_, T, READERS>>> {
        match self.read_until(Deadline::NEVER) {
            Ok(Some(guard)) => Ok(guard),
            Ok(None) => unreachable!("never has passed"),
            Err(error) => Err(error),
        }
    }

    /// Takes the lock for reading if nobody has it for writing or waits for that with the turn, and
    /// a slot is free; otherwise `None`.
    ///
    /// # Errors
    ///
    /// [`LockError::OwnerDied`].
    #[inline]
    pub fn try_read(&self) -> Result<Option<Read<'_, T, READERS>>, LockError<Read<'_, T, READERS>>> {
        match self.read_until(Deadline::PASSED) {
            Err(LockError::Deadlock) => Ok(None),
            other => other,
        }
    }

    /// Takes the lock for reading, waiting no longer than that; `None` if it was not to be had in
    /// that time. No time at all is [`try_read`](Self::try_read), but for a lock that this thread
    /// has for writing.
    ///
    /// # Errors
    ///
    /// As for [`read`](Self::read).
    pub fn read_timeout(
        &self,
        timeout: Duration,
    ) -> Result<Option<Read<'_, T, READERS>>, LockError<Read<'_, T, READERS>>> {
        self.read_until(Deadline::after(timeout))
    }

    #[inline]
    fn read_until(&self, deadline: Deadline) -> Result<Option<Read<'_, T, READERS>>, LockError<Read<'_, T, READERS>>> {
        match self.raw.enter(deadline, true) {
            Ok(Entered { slot, in_order }) => {
                let guard = RwLockReadGuard { lock: self, slot, thread: PhantomData };
                if in_order { Ok(Some(guard)) } else { Err(LockError::OwnerDied(guard)) }
            }
            Err(Refused::Late) => Ok(None),
            Err(Refused::Own) => Err(LockError::Deadlock),
        }
    }

    /// Takes the lock for writing, waiting for as long as it takes.
    ///
    /// # Errors
    ///
    /// [`LockError::OwnerDied`] with the guard, see [above](Self#when-a-process-dies);
    /// [`LockError::Deadlock`] if this thread has the lock, for reading or for writing.
    #[inline]
    pub fn write(&self) -> Result<Write<'_, T, READERS>, LockError<Write<'_, T, READERS>>> {
        match self.write_until(Deadline::NEVER) {
            Ok(Some(guard)) => Ok(guard),
            Ok(None) => unreachable!("never has passed"),
            Err(error) => Err(error),
        }
    }

    /// Takes the lock for writing if it is free; `None` if somebody has it, be it this thread, or
    /// somebody else has the turn.
    ///
    /// # Errors
    ///
    /// [`LockError::OwnerDied`].
    #[inline]
    pub fn try_write(&self) -> Result<Option<Write<'_, T, READERS>>, LockError<Write<'_, T, READERS>>> {
        match self.write_until(Deadline::PASSED) {
            Err(LockError::Deadlock) => Ok(None),
            other => other,
        }
    }

    /// Takes the lock for writing, waiting no longer than that; `None` if it was not to be had in
    /// that time. No time at all is [`try_write`](Self::try_write), but for a lock that this thread
    /// has.
    ///
    /// # Errors
    ///
    /// As for [`write`](Self::write).
    pub fn write_timeout(
        &self,
        timeout: Duration,
    ) -> Result<Option<Write<'_, T, READERS>>, LockError<Write<'_, T, READERS>>> {
        self.write_until(Deadline::after(timeout))
    }

    #[inline]
    fn write_until(
        &self,
        deadline: Deadline,
    ) -> Result<Option<Write<'_, T, READERS>>, LockError<Write<'_, T, READERS>>> {
        let guard = || RwLockWriteGuard { lock: self, panicking: panicking(), thread: PhantomData };
        match self.raw.write(deadline) {
            Ok(true) => Ok(Some(guard())),
            Ok(false) => Err(LockError::OwnerDied(guard())),
            Err(Refused::Late) => Ok(None),
            Err(Refused::Own) => Err(LockError::Deadlock),
        }
    }

    /// Whether the last owner died or panicked while holding the lock, and nobody has said since
    /// that the value is in order, as std's. It may have changed when this returns.
    pub fn is_poisoned(&self) -> bool {
        self.raw.is_poisoned()
    }

    /// Says that the value is in order again, as std's: the next owner receives no error. With the
    /// guard at hand, it is the same as [`RwLockWriteGuard::mark_consistent`].
    ///
    /// It takes the lock for an instant, and waits while another thread has it, which std's does
    /// not. A thread that reads changes nothing by it: the value is not its to put in order.
    pub fn clear_poison(&self) {
        self.raw.clear_poison();
    }

    /// The value, of a lock that nobody else can see now.
    pub fn get_mut(&mut self) -> &mut T {
        self.value.get_mut()
    }
}

impl<T: Default, const READERS: usize> Default for RwLock<T, READERS> {
    fn default() -> Self {
        Self::with_readers(T::default())
    }
}

impl<T, const READERS: usize> From<T> for RwLock<T, READERS> {
    fn from(value: T) -> Self {
        Self::with_readers(value)
    }
}

impl<T: ?Sized + fmt::Debug, const READERS: usize> fmt::Debug for RwLock<T, READERS> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut output = f.debug_struct("RwLock");
        match self.try_read() {
            Ok(Some(guard)) => output.field("value", &&*guard),
            Err(LockError::OwnerDied(guard)) => output.field("owner_died", &true).field("value", &&*guard),
            _ => output.field("value", &format_args!("<locked>")),
        };
        output.finish()
    }
}

/// The lock, held for reading by this thread, and the value. Dropping it lets go of the lock.
#[must_use = "the lock is let go when the guard is dropped"]
pub struct RwLockReadGuard<'a, T: ?Sized, const READERS: usize = 32> {
    lock: &'a RwLock<T, READERS>,
    slot: usize,
    /// The slot belongs to a thread.
    thread: PhantomData<*const ()>,
}

// SAFETY: it lends the value, and nothing else that needs its thread.
unsafe impl<T: ?Sized + Sync, const READERS: usize> Sync for RwLockReadGuard<'_, T, READERS> {}

impl<T: ?Sized, const READERS: usize> Deref for RwLockReadGuard<'_, T, READERS> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the lock is held for reading, and the value is lent for as long as the guard is.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T: ?Sized, const READERS: usize> Drop for RwLockReadGuard<'_, T, READERS> {
    #[inline]
    fn drop(&mut self) {
        self.lock.raw.leave(self.slot);
    }
}

impl<T: ?Sized + fmt::Debug, const READERS: usize> fmt::Debug for RwLockReadGuard<'_, T, READERS> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: ?Sized + fmt::Display, const READERS: usize> fmt::Display for RwLockReadGuard<'_, T, READERS> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

/// The lock, held for writing by this thread, and the value. Dropping it lets go of the lock.
///
/// If it is dropped by a panic that began while it was held, the lock is poisoned:
/// [`LockError::OwnerDied`].
#[must_use = "the lock is let go when the guard is dropped"]
pub struct RwLockWriteGuard<'a, T: ?Sized, const READERS: usize = 32> {
    lock: &'a RwLock<T, READERS>,
    /// Whether a panic was under way when it was taken.
    panicking: bool,
    /// The lock belongs to a thread.
    thread: PhantomData<*const ()>,
}

// SAFETY: it lends the value, and nothing else that needs its thread.
unsafe impl<T: ?Sized + Sync, const READERS: usize> Sync for RwLockWriteGuard<'_, T, READERS> {}

impl<'a, T: ?Sized, const READERS: usize> RwLockWriteGuard<'a, T, READERS> {
    /// Says that the value is in order again: nobody is told of a death any more.
    pub fn mark_consistent(&mut self) {
        self.lock.raw.set_poisoned(false);
    }

    /// Goes on reading, without letting another writer in between. A value that nobody said is in
    /// order stays so.
    ///
    /// ```
    /// use mp_sync::{RwLock, RwLockWriteGuard};
    ///
    /// static LOCK: RwLock<u32> = RwLock::new(1);
    /// let mut value = LOCK.write()?;
    /// *value += 1;
    /// let value = RwLockWriteGuard::downgrade(value);
    /// assert_eq!((*value, *LOCK.read()?), (2, 2));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn downgrade(guard: Self) -> RwLockReadGuard<'a, T, READERS> {
        let guard = ManuallyDrop::new(guard);
        guard.settle();
        RwLockReadGuard { lock: guard.lock, slot: guard.lock.raw.downgrade(), thread: PhantomData }
    }

    fn settle(&self) {
        if panicking() && !self.panicking {
            self.lock.raw.set_poisoned(true);
        }
    }
}

impl<T: ?Sized, const READERS: usize> Deref for RwLockWriteGuard<'_, T, READERS> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the lock is held for writing, and the value is lent for as long as the guard is.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T: ?Sized, const READERS: usize> DerefMut for RwLockWriteGuard<'_, T, READERS> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as above, and the guard is lent exclusively.
        unsafe { &mut *self.lock.value.get() }
    }
}

impl<T: ?Sized, const READERS: usize> Drop for RwLockWriteGuard<'_, T, READERS> {
    #[inline]
    fn drop(&mut self) {
        self.settle();
        self.lock.raw.unlock();
    }
}

impl<T: ?Sized + fmt::Debug, const READERS: usize> fmt::Debug for RwLockWriteGuard<'_, T, READERS> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: ?Sized + fmt::Display, const READERS: usize> fmt::Display for RwLockWriteGuard<'_, T, READERS> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::mpsc;
    use std::thread;
    use std::time::Instant;

    use super::*;

    const LONG: Duration = Duration::from_secs(20);
    const SHORT: Duration = Duration::from_millis(20);

    #[test]
    fn readers_come_in_together_and_a_writer_alone() {
        let lock = RwLock::new(1);
        let (first, second) = (lock.read().unwrap(), lock.read().unwrap());
        assert_eq!(*first + *second, 2);
        let other = || {
            assert_eq!(lock.try_read().unwrap().as_deref(), Some(&1));
            assert!(lock.try_write().unwrap().is_none());
            let begun = Instant::now();
            assert!(lock.write_timeout(SHORT).unwrap().is_none() && begun.elapsed() >= SHORT);
            assert!(lock.write_timeout(Duration::ZERO).unwrap().is_none());
            assert_eq!(*lock.read_timeout(Duration::MAX).unwrap().unwrap(), 1, "it is open again");
        };
        thread::scope(|scope| scope.spawn(other).join().unwrap());
        drop((first, second));
        let guard = lock.write().unwrap();
        let other = || {
            assert!(lock.try_read().unwrap().is_none() && lock.try_write().unwrap().is_none());
            let begun = Instant::now();
            assert!(lock.read_timeout(SHORT).unwrap().is_none() && begun.elapsed() >= SHORT);
            assert!(lock.read_timeout(Duration::ZERO).unwrap().is_none());
        };
        thread::scope(|scope| scope.spawn(other).join().unwrap());
        assert_eq!(format!("{lock:?}"), "RwLock { value: <locked> }");
        drop(guard);
        assert_eq!(format!("{lock:?}"), "RwLock { value: 1 }");
    }

    #[test]
    fn nobody_waits_for_itself() {
        let lock = RwLock::new(());
        let reads = lock.read().unwrap();
        assert!(matches!(lock.write(), Err(LockError::Deadlock)));
        assert!(matches!(lock.write_timeout(LONG), Err(LockError::Deadlock)));
        assert!(lock.try_write().unwrap().is_none());
        drop(reads);
        let writes = lock.write().unwrap();
        assert!(matches!(lock.write(), Err(LockError::Deadlock)));
        assert!(matches!(lock.read(), Err(LockError::Deadlock)));
        assert!(lock.try_read().unwrap().is_none());
        drop(writes);
        drop(lock.write().unwrap());
    }

    #[test]
    fn a_reader_is_refused_while_a_writer_waits_for_it() {
        let lock = RwLock::new(0);
        thread::scope(|scope| {
            let reads = lock.read().unwrap();
            scope.spawn(|| *lock.write().unwrap() += 1);
            // Until the writer has the turn.
            while thread::scope(|scope| scope.spawn(|| lock.try_read().unwrap().is_some()).join().unwrap()) {
                thread::yield_now();
            }
            let begun = Instant::now();
            assert!(matches!(lock.write_timeout(LONG), Err(LockError::Deadlock)));
            assert!(lock.try_write().unwrap().is_none() && begun.elapsed() < LONG);
            drop(reads);
        });
        assert_eq!(*lock.write().unwrap(), 1);
    }

    #[test]
    fn a_reader_reads_again_while_a_writer_waits() {
        let lock = RwLock::new(0);
        thread::scope(|scope| {
            let first = lock.read().unwrap();
            scope.spawn(|| *lock.write().unwrap() += 1);
            // Until the writer has the turn.
            while thread::scope(|scope| scope.spawn(|| lock.try_read().unwrap().is_some()).join().unwrap()) {
                thread::yield_now();
            }
            let second = lock.read_timeout(LONG).unwrap().expect("it is in already");
            drop(first);
            assert_eq!(*second, 0);
            assert_eq!(*lock.try_read().unwrap().expect("it is still in"), 0);
        });
        assert_eq!(*lock.read().unwrap(), 1);
    }

    #[test]
    fn more_readers_than_slots_wait_for_one() {
        let lock = RwLock::<u32, 4>::with_readers(7);
        let (leave, left) = mpsc::channel::<()>();
        let left = std::sync::Mutex::new(left);
        let (entered, enter) = mpsc::channel();
        thread::scope(|scope| {
            for _ in 0..4 {
                let (lock, left, entered) = (&lock, &left, entered.clone());
                scope.spawn(move || {
                    let guard = lock.read().unwrap();
                    entered.send(()).unwrap();
                    left.lock().unwrap().recv().unwrap();
                    assert_eq!(*guard, 7);
                });
            }
            (0..4).for_each(|_| enter.recv().unwrap());
            assert!(lock.try_read().unwrap().is_none());
            assert!(lock.read_timeout(SHORT).unwrap().is_none());
            let fifth = scope.spawn(|| *lock.read_timeout(LONG).unwrap().expect("a slot becomes free"));
            leave.send(()).unwrap();
            assert_eq!(fifth.join().unwrap(), 7);
            (0..3).for_each(|_| leave.send(()).unwrap());
        });
        assert!(lock.try_write().unwrap().is_some());
    }

    #[test]
    fn a_writer_that_panics_poisons_and_a_reader_does_not() {
        let lock = RwLock::new(0);
        let _ = catch_unwind(AssertUnwindSafe(|| {
            let _guard = lock.read().unwrap();
            panic!("on purpose");
        }));
        let _ = catch_unwind(AssertUnwindSafe(|| {
            *lock.write().unwrap() = 1;
            let _guard = lock.write().unwrap();
            panic!("on purpose");
        }));
        let Err(LockError::OwnerDied(guard)) = lock.read() else { panic!("it is poisoned") };
        assert_eq!(*guard, 1);
        drop(guard);
        let Err(LockError::OwnerDied(guard)) = lock.write() else { panic!("it stays poisoned") };
        drop(RwLockWriteGuard::downgrade(guard));
        assert_eq!(format!("{lock:?}"), "RwLock { owner_died: true, value: 1 }");
        let Err(LockError::OwnerDied(mut guard)) = lock.try_write() else { panic!("it stays poisoned") };
        guard.mark_consistent();
        drop(guard);
        assert_eq!(*lock.read().unwrap(), 1);
        assert_eq!(lock.into_inner(), 1);
    }

    #[test]
    fn a_writer_becomes_a_reader() {
        let mut lock = RwLock::new(0);
        thread::scope(|scope| {
            let mut guard = lock.write().unwrap();
            let writer = scope.spawn(|| *lock.write().unwrap() *= 10);
            *guard += 1;
            let guard = RwLockWriteGuard::downgrade(guard);
            assert_eq!(*guard, 1);
            assert!(!writer.is_finished() && *guard == 1);
            drop(guard);
        });
        assert_eq!(*lock.get_mut(), 10);
    }

    #[test]
    fn threads_that_read_and_write_see_whole_values() {
        let lock = RwLock::<[u64; 8], 4>::default();
        thread::scope(|scope| {
            for number in 0..6 {
                let lock = &lock;
                scope.spawn(move || {
                    for round in 0..2_000_u64 {
                        if (round + number) % 8 == 0 {
                            lock.write().unwrap().iter_mut().for_each(|value| *value += 1);
                        } else {
                            let value = lock.read().unwrap();
                            assert!(value.iter().all(|other| *other == value[0]));
                        }
                    }
                });
            }
        });
        assert_eq!(lock.into_inner(), [6 * 2_000 / 8; 8]);
    }
}
