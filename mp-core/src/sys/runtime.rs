//! What std does before `main`, for a child, which never reaches `main`; and what `ps` shows.

use std::ffi::{CStr, c_char, c_int};
use std::io;
use std::os::fd::BorrowedFd;
use std::ptr;
use std::slice;
use std::sync::atomic::{AtomicPtr, Ordering};

use rustix::fs::{Mode, OFlags, open};

use super::fd::is_open;

/// Ignores SIGPIPE, as std does in every Rust program, so that writing to a closed pipe is an
/// error.
pub(crate) fn ignore_sigpipe() {
    // SAFETY: SIG_IGN is a valid disposition for SIGPIPE, and no handler of ours is replaced.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
}

/// Ignores SIGINT in this process from now on, and in the processes that it starts, unless they
/// change that.
pub fn ignore_interrupts() {
    // SAFETY: SIG_IGN is a valid disposition for SIGINT. A handler that was installed is not called
    // any more, as the caller wants.
    unsafe { libc::signal(libc::SIGINT, libc::SIG_IGN) };
}

/// Opens `/dev/null` for every standard stream that is closed, so that no other file gets its
/// number.
pub(crate) fn open_standard_streams() -> io::Result<()> {
    for number in 0..3 {
        // SAFETY: the borrow ends before any code could close the descriptor. If it is closed
        // already, the query fails with EBADF and does no harm.
        let stream = unsafe { BorrowedFd::borrow_raw(number) };
        if !is_open(stream) {
            // `open` returns the lowest free number. That is this one, because the numbers below it
            // are open.
            std::mem::forget(open("/dev/null", OFlags::RDWR, Mode::empty())?);
        }
    }
    Ok(())
}

/// Names the process (its main thread) for `ps -o comm` and `top`, with the first 15 bytes of
/// `name`.
pub(crate) fn set_name(name: &CStr) {
    // The name is only for display, so an error is ignored.
    let _ = rustix::thread::set_name(name);
}

/// Replaces the first of `count` arguments by `argument`, in the array that the program reads.
///
/// `ps` still shows the original, because the kernel reads the strings and not the array. So a
/// child starts with its title as the first argument, and then replaces that by the real one.
///
/// # Safety
///
/// `arguments` is the array of `count` strings that the C library passed to the constructors, and
/// no other thread reads it meanwhile.
pub(crate) unsafe fn replace_first_argument(count: c_int, arguments: *mut *const c_char, argument: &'static CStr) {
    if count > 0 && !arguments.is_null() {
        // SAFETY: as below.
        TITLE.store(unsafe { arguments.read() }.cast_mut(), Ordering::Relaxed);
        // SAFETY: the array has at least one element. It is on the initial stack, which is
        // writable.
        unsafe { arguments.write(argument.as_ptr()) };
    }
}

/// The string that `ps` shows first, if it is not the argument that the program reads.
static TITLE: AtomicPtr<c_char> = AtomicPtr::new(ptr::null_mut());

/// Changes the title of this process. It is cut off where the old one ended.
///
/// Only a process with one thread calls this.
pub(crate) fn set_title(title: &[u8]) {
    let place = TITLE.load(Ordering::Relaxed);
    if place.is_null() {
        return;
    }
    // SAFETY: the kernel put a C string there, of which this library alone has the address.
    let length = unsafe { CStr::from_ptr(place) }.count_bytes();
    // SAFETY: the string is that long, and it is on the initial stack, which is writable. Nothing
    // else reads it.
    let place = unsafe { slice::from_raw_parts_mut(place.cast::<u8>(), length) };
    let shown = title.len().min(length);
    place[..shown].copy_from_slice(&title[..shown]);
    place[shown..].fill(0);
}

/// Ends this process, and runs none of its code.
pub(crate) fn exit_at_once(code: i32) -> ! {
    // SAFETY: it does not return.
    unsafe { libc::_exit(code) }
}

/// Tells whether the calling thread is the first one of the process.
pub(crate) fn is_main_thread() -> bool {
    rustix::thread::gettid() == rustix::process::getpid()
}

/// Removes a variable from the environment of this process.
///
/// Call it only at the start of a process: see the safety comment.
pub(crate) fn remove_variable(name: &str) {
    // SAFETY: this runs before `main`, in its first line, or just before the process ends with an
    // error. std's lock excludes Rust code that reads the environment. Other code could read it at
    // the same time only on a thread that a library's constructor started.
    unsafe { std::env::remove_var(name) };
}
