//! What holds in a process that is a copy of another one, made by `fork` without exec.
//!
//! A copy has the memory and the descriptors of its original, but none of its threads. What belongs
//! to a process (its children, its pool, its half of a report) is inert in a copy, or an error:
//! otherwise the copy would take messages that are for the original, release what the original
//! holds, or wait for a thread that it does not have. What makes such a value keeps [`forks`]
//! beside it, and compares it later.
//!
//! A pid would not do: the copy that is the first process of a PID namespace has the pid 1, as its
//! original may have.

use std::ptr;
use std::sync::Once;
use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

static FORKS: AtomicU32 = AtomicU32::new(0);

extern "C" fn was_forked() {
    FORKS.fetch_add(1, Ordering::Relaxed);
}

/// Counts the calls of `fork` between the first process that called this and this one: in a copy
/// of a process the number is another than it was.
///
/// A copy that the system call `clone` makes without the C library is not noticed.
pub fn forks() -> u32 {
    static COUNTING: Once = Once::new();
    if !COUNTING.is_completed() {
        COUNTING.call_once(|| {
            // It fails for lack of memory alone, and then nothing is noticed. SAFETY: the function
            // changes an atomic, which may be done in the child of a fork.
            let _ = unsafe { libc::pthread_atfork(None, None, Some(was_forked)) };
        });
    }
    FORKS.load(Ordering::Relaxed)
}

/// A static value of which each process has its own: a copy begins with a new one.
///
/// The copy never uses the original's value, which may contain a lock that a thread of the original
/// held during the fork. It is not dropped, because other values of the copy may refer to it.
pub(crate) struct PerProcess<T: 'static> {
    make: fn() -> T,
    current: AtomicPtr<Made<T>>,
}

struct Made<T> {
    forks: u32,
    value: T,
}

impl<T: Sync + 'static> PerProcess<T> {
    pub(crate) const fn new(make: fn() -> T) -> Self {
        Self { make, current: AtomicPtr::new(ptr::null_mut()) }
    }

    /// Returns the value of this process.
    pub(crate) fn get(&self) -> &'static T {
        let forks = forks();
        let found = self.current.load(Ordering::Acquire);
        // SAFETY: the pointer is null, or it is one that was stored below: to a value that is never
        // freed or changed.
        if let Some(made) = unsafe { found.as_ref::<'static>() }.filter(|made| made.forks == forks) {
            return &made.value;
        }
        let new = Box::into_raw(Box::new(Made { forks, value: (self.make)() }));
        let made = match self.current.compare_exchange(found, new, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => new,
            Err(other) => {
                // Another thread of this process was faster. SAFETY: the value was just made by
                // `Box`, and was not stored.
                drop(unsafe { Box::from_raw(new) });
                other
            }
        };
        // SAFETY: both are pointers that are stored, and so to a value that is never freed or
        // changed.
        let made: &'static Made<T> = unsafe { &*made };
        &made.value
    }
}

/// A static value that says what this process is. A process sets it at its start. The copy of a
/// fork server, which becomes a process of its own, sets it again. Any other copy keeps it.
pub(crate) struct Replaceable<T: 'static>(AtomicPtr<T>);

impl<T: Sync + 'static> Replaceable<T> {
    pub(crate) const fn new() -> Self {
        Self(AtomicPtr::new(ptr::null_mut()))
    }

    /// Returns the value, if it was set.
    pub(crate) fn get(&self) -> Option<&'static T> {
        // SAFETY: the pointer is null, or it is one that `set` stored: to a value that is never
        // freed or changed.
        unsafe { self.0.load(Ordering::Acquire).as_ref::<'static>() }
    }

    /// Sets the value. An earlier one is not dropped, because it may be in use.
    pub(crate) fn set(&self, value: T) -> &'static T {
        let value: &'static T = Box::leak(Box::new(value));
        self.0.store(ptr::from_ref(value).cast_mut(), Ordering::Release);
        value
    }
}
