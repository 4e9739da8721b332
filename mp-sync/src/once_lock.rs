//! `OnceLock`: a value that is written once.

use std::cell::UnsafeCell;
use std::convert::Infallible;
use std::fmt;
use std::mem::{ManuallyDrop, MaybeUninit, needs_drop, offset_of};
use std::time::Duration;

use crate::deadline::Deadline;
use crate::raw::mutex::Refused;
use crate::raw::once::{RawOnce, Writer};

/// A value that is made once, by the first process that needs it, and that all processes can read
/// then.
///
/// It has no pointers: it consists of 48 bytes and the value. Put it in memory that several
/// processes have mapped, registered as a [`SharedRegion`](crate::SharedRegion) in each, or in an
/// ordinary `static` or `Arc` between threads. It works like [`std::sync::OnceLock`]; Python's
/// `multiprocessing` has no counterpart.
///
/// # When a process dies
///
/// - While it makes the value, or if making it panics: there is no value, and the next caller makes
///   it; a waiting caller does so at once. Side effects of the dead process remain.
/// - While it waits: other threads are not affected.
///
/// A thread in [`wait`](Self::wait) does not make the value, but waits until another thread does.
///
/// # Panics
///
/// If the function that makes the value calls [`set`](Self::set),
/// [`get_or_init`](Self::get_or_init) or [`get_or_try_init`](Self::get_or_try_init) of the same
/// cell, the thread would wait for itself. They panic then, and there is no value. (`get` returns
/// `None`, and `wait` never returns.)
///
/// # Examples
///
/// ```
/// use mp_sync::OnceLock;
///
/// static SEED: OnceLock<u64> = OnceLock::new();
///
/// assert_eq!(SEED.get(), None);
/// assert_eq!(*SEED.get_or_init(|| 42), 42);
/// assert_eq!(SEED.set(43), Err(43));
/// assert_eq!(*SEED.wait(), 42);
/// ```
#[repr(C)]
pub struct OnceLock<T> {
    raw: RawOnce,
    value: UnsafeCell<MaybeUninit<T>>,
}

const _: () = assert!(size_of::<OnceLock<u64>>() == 56 && offset_of!(OnceLock<u64>, value) == 48);

// SAFETY: sending the cell sends the value.
unsafe impl<T: Send> Send for OnceLock<T> {}
// SAFETY: one thread writes the value, another one may drop it, and all read it.
unsafe impl<T: Send + Sync> Sync for OnceLock<T> {}

impl<T> OnceLock<T> {
    /// Makes an empty cell.
    pub const fn new() -> Self {
        Self { raw: RawOnce::new(), value: UnsafeCell::new(MaybeUninit::uninit()) }
    }

    /// Returns the value, if there is one.
    #[inline]
    pub fn get(&self) -> Option<&T> {
        // SAFETY: the value was written.
        self.raw.is_ready().then(|| unsafe { self.value_unchecked() })
    }

    /// Returns an exclusive reference to the value, if there is one.
    pub fn get_mut(&mut self) -> Option<&mut T> {
        // SAFETY: the value was written, and this is the only reference.
        self.raw.is_ready().then(|| unsafe { self.value.get_mut().assume_init_mut() })
    }

    /// Returns the value, if there is one. No other process can have the cell.
    pub fn into_inner(self) -> Option<T> {
        let this = ManuallyDrop::new(self);
        // SAFETY: the value was written, and is neither used nor dropped again.
        this.raw.is_ready().then(|| unsafe { this.value.get().cast::<T>().read() })
    }

    /// Writes the value. If another thread is making one, it waits for that.
    ///
    /// # Errors
    ///
    /// Returns `value` if the cell already has a value.
    ///
    /// # Panics
    ///
    /// If this thread is making the value: see [above](Self#panics).
    pub fn set(&self, value: T) -> Result<(), T> {
        match self.begin() {
            Some(writer) => {
                self.write(writer, value);
                Ok(())
            }
            None => Err(value),
        }
    }

    /// Returns the value, and makes it by calling `make` if there is none. If another thread is
    /// making it, it waits for that.
    ///
    /// # Panics
    ///
    /// If the function panics or uses this cell: see [above](Self#panics).
    #[inline]
    pub fn get_or_init(&self, make: impl FnOnce() -> T) -> &T {
        match self.get_or_try_init(|| Ok::<_, Infallible>(make())) {
            Ok(value) => value,
            Err(never) => match never {},
        }
    }

    /// Does the same with a function that can fail. After a failure there is no value, and the next
    /// caller makes it.
    ///
    /// ```
    /// use mp_sync::OnceLock;
    ///
    /// static NUMBER: OnceLock<u32> = OnceLock::new();
    /// assert!(NUMBER.get_or_try_init(|| "seven".parse()).is_err());
    /// assert_eq!(NUMBER.get_or_try_init(|| "7".parse())?, &7);
    /// # Ok::<(), std::num::ParseIntError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Returns the error of the function.
    ///
    /// # Panics
    ///
    /// As [`get_or_init`](Self::get_or_init).
    #[inline]
    pub fn get_or_try_init<E>(&self, make: impl FnOnce() -> Result<T, E>) -> Result<&T, E> {
        if !self.raw.is_ready() {
            if let Some(writer) = self.begin() {
                self.write(writer, make()?);
            }
        }
        // SAFETY: this thread or another one has written the value.
        Ok(unsafe { self.value_unchecked() })
    }

    /// Waits until another thread has written the value.
    pub fn wait(&self) -> &T {
        while !self.raw.wait(Deadline::NEVER) {}
        // SAFETY: the value was written.
        unsafe { self.value_unchecked() }
    }

    /// Waits until another thread has written the value, for `timeout` at most. Returns `None` if
    /// none has.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use mp_sync::OnceLock;
    ///
    /// static ANSWER: OnceLock<u32> = OnceLock::new();
    /// assert_eq!(ANSWER.wait_timeout(Duration::from_millis(1)), None);
    /// ```
    pub fn wait_timeout(&self, timeout: Duration) -> Option<&T> {
        // SAFETY: the value was written.
        self.raw.wait(Deadline::after(timeout)).then(|| unsafe { self.value_unchecked() })
    }

    #[cold]
    fn begin(&self) -> Option<Writer<'_>> {
        match self.raw.begin() {
            Ok(writer) => writer,
            Err(Refused::Own | Refused::Late) => {
                panic!("this thread is already making the value of the OnceLock")
            }
        }
    }

    fn write(&self, writer: Writer<'_>, value: T) {
        // SAFETY: no other thread may write, and none reads the value before it is marked as
        // written.
        unsafe { self.value.get().write(MaybeUninit::new(value)) };
        writer.finish();
    }

    /// # Safety
    ///
    /// The value was written.
    unsafe fn value_unchecked(&self) -> &T {
        // SAFETY: the value does not change while it is lent.
        let value = unsafe { &*self.value.get() };
        // SAFETY: the caller guarantees that.
        unsafe { value.assume_init_ref() }
    }
}

impl<T> Drop for OnceLock<T> {
    fn drop(&mut self) {
        if needs_drop::<T>() && self.raw.is_ready() {
            // SAFETY: the value was written, and is not used again.
            unsafe { self.value.get_mut().assume_init_drop() };
        }
    }
}

impl<T> Default for OnceLock<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> From<T> for OnceLock<T> {
    fn from(value: T) -> Self {
        let cell = Self::new();
        let _ = cell.set(value);
        cell
    }
}

impl<T: fmt::Debug> fmt::Debug for OnceLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.get() {
            Some(value) => f.debug_tuple("OnceLock").field(value).finish(),
            None => f.debug_tuple("OnceLock").field(&format_args!("<unset>")).finish(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::rc::Rc;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::thread;
    use std::time::Instant;

    use super::*;

    const LONG: Duration = Duration::from_secs(20);

    #[test]
    fn one_of_many_threads_makes_the_value() {
        for _ in 0..50 {
            let (cell, made) = (OnceLock::new(), AtomicU32::new(0));
            let make = || cell.get_or_init(|| made.fetch_add(1, Ordering::Relaxed) + 7);
            thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| assert_eq!(*make(), 7));
                }
                scope.spawn(|| assert_eq!(*cell.wait(), 7));
                scope.spawn(|| assert_eq!(cell.wait_timeout(LONG), Some(&7)));
            });
            assert_eq!((cell.get(), made.into_inner()), (Some(&7), 1));
        }
    }

    #[test]
    fn a_wait_ends_with_its_time() {
        let cell = OnceLock::<u32>::new();
        let (begun, time) = (Instant::now(), Duration::from_millis(20));
        assert_eq!(cell.wait_timeout(time), None);
        assert!(begun.elapsed() >= time);
        assert_eq!(cell.wait_timeout(Duration::ZERO), None);
        cell.set(1).unwrap();
        assert_eq!(cell.wait_timeout(Duration::ZERO), Some(&1));
        assert_eq!(cell.wait_timeout(Duration::MAX), Some(&1));
    }

    #[test]
    fn a_panic_leaves_the_value_to_those_who_wait() {
        let cell = OnceLock::new();
        let making = std::sync::Barrier::new(2);
        thread::scope(|scope| {
            let panics = scope.spawn(|| {
                cell.get_or_init(|| {
                    making.wait();
                    panic!("on purpose")
                })
            });
            making.wait();
            assert_eq!(*cell.get_or_init(|| 2), 2);
            assert!(panics.join().is_err());
        });
        assert_eq!(format!("{cell:?}"), "OnceLock(2)");
    }

    #[test]
    fn asking_for_what_one_makes_is_a_panic() {
        let cell = OnceLock::new();
        let recursion = || *cell.get_or_init(|| *cell.get_or_init(|| 1));
        assert!(catch_unwind(AssertUnwindSafe(recursion)).is_err());
        let set = || {
            *cell.get_or_init(|| {
                cell.set(1).unwrap();
                2
            })
        };
        assert!(catch_unwind(AssertUnwindSafe(set)).is_err());
        assert_eq!(format!("{cell:?}"), "OnceLock(<unset>)");
        assert_eq!(cell.set(3), Ok(()));
    }

    #[test]
    fn the_value_is_dropped_once() {
        let value = Rc::new(());
        let mut cell = OnceLock::from(Rc::clone(&value));
        assert!(cell.set(Rc::clone(&value)).is_err());
        assert_eq!(Rc::strong_count(&value), 2);
        assert!(cell.get_mut().is_some_and(|inside| Rc::ptr_eq(inside, &value)));
        let inside = cell.into_inner().unwrap();
        assert_eq!(Rc::strong_count(&value), 2);
        drop(OnceLock::from(inside));
        drop(OnceLock::<Rc<()>>::default());
        assert_eq!(Rc::strong_count(&value), 1);
    }
}
