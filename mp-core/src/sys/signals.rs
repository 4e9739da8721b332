//! Threads of the library's own, which signals pass by.

use std::io;
use std::mem::MaybeUninit;
use std::ptr;
use std::thread;

/// Starts a thread that has every signal blocked: those that the program gets are for the threads
/// of the program.
pub(crate) fn spawn_deaf_thread(name: &str, body: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let mut all = MaybeUninit::uninit();
    // SAFETY: it writes a set of signals to the place that the pointer is to, which is large enough
    // and ours.
    unsafe { libc::sigfillset(all.as_mut_ptr()) };
    let mut before = MaybeUninit::uninit();
    // A thread begins with the mask of the one that starts it. SAFETY: `all` was initialised by
    // `sigfillset`, which cannot fail for a valid pointer, and `before` has room for a set.
    let error = unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, all.as_ptr(), before.as_mut_ptr()) };
    if error != 0 {
        return Err(io::Error::from_raw_os_error(error));
    }
    let started = thread::Builder::new().name(name.to_owned()).spawn(body);
    // It cannot fail: the way to change the mask is a valid one. SAFETY: `before` was initialised
    // by the call that has succeeded above, and the null pointer asks for nothing back.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, before.as_ptr(), ptr::null_mut()) };
    started.map(drop)
}
