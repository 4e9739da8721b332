//! What std does before `main`, for a process that never reaches it; and what `ps` shows.

use std::ffi::{CStr, c_char, c_int};
use std::io;
use std::os::fd::BorrowedFd;

use rustix::fs::{Mode, OFlags, open};

use super::fd::is_open;

/// Makes a write into a closed pipe an error instead of a signal, as std does for every Rust
/// program.
pub(crate) fn ignore_sigpipe() {
    // SAFETY: SIG_IGN is a valid disposition for SIGPIPE, and no handler of ours is replaced.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
}

/// Opens `/dev/null` in place of every standard stream that is closed, so that no other file gets
/// its number.
pub(crate) fn open_standard_streams() -> io::Result<()> {
    for number in 0..3 {
        // SAFETY: the borrow ends before anything could close the number, and asking about a closed
        // one is harmless: it fails with EBADF.
        let stream = unsafe { BorrowedFd::borrow_raw(number) };
        if !is_open(stream) {
            // The lowest free number is this one: those below it are open by now.
            std::mem::forget(open("/dev/null", OFlags::RDWR, Mode::empty())?);
        }
    }
    Ok(())
}

/// Names the process (its main thread), as `ps -o comm` and `top` show it: the first 15 bytes of
/// `name`.
pub(crate) fn set_name(name: &CStr) {
    // A name is a help, not a promise: failing to set it fails nothing.
    let _ = rustix::thread::set_name(name);
}

/// Puts `argument` in place of the first of `count` arguments, which the program reads through
/// `arguments`.
///
/// The kernel goes on showing the original, which is why a child is started with its title in that
/// place.
///
/// # Safety
///
/// `arguments` is the array that the C library passed to the constructors, no other thread reads it
/// meanwhile, and it holds `count` strings.
pub(crate) unsafe fn replace_first_argument(count: c_int, arguments: *mut *const c_char, argument: &'static CStr) {
    if count > 0 && !arguments.is_null() {
        // SAFETY: the array has at least one element and is on the stack that the kernel set up,
        // which is writable.
        unsafe { arguments.write(argument.as_ptr()) };
    }
}

/// Whether the calling thread is the one that the process began with.
pub(crate) fn is_main_thread() -> bool {
    rustix::thread::gettid() == rustix::process::getpid()
}

/// Removes a variable from the environment of this process.
///
/// Only for the beginning of a process: see the safety comment.
pub(crate) fn remove_variable(name: &str) {
    // SAFETY: this runs before `main` or in its first line, or in a process that refuses to spawn.
    // Rust's own readers of the environment are excluded by std's lock; foreign code that reads it
    // at the same time would have to be a thread that a library's constructor started.
    unsafe { std::env::remove_var(name) };
}
