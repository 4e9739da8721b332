//! Threads of the library itself, which handle no signals.

use std::io;
use std::mem::MaybeUninit;
use std::ptr;
use std::thread;

/// Starts a thread that blocks every signal, so that the kernel delivers the program's signals to
/// the program's own threads.
pub(crate) fn spawn_without_signals(name: &str, body: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let mut all = MaybeUninit::uninit();
    // SAFETY: the pointer is valid for writing a signal set.
    unsafe { libc::sigfillset(all.as_mut_ptr()) };
    let mut before = MaybeUninit::uninit();
    // A thread inherits the mask of the thread that starts it. SAFETY: `sigfillset` initialised
    // `all`, because it cannot fail for a valid pointer, and `before` has room for a set.
    let error = unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, all.as_ptr(), before.as_mut_ptr()) };
    if error != 0 {
        return Err(io::Error::from_raw_os_error(error));
    }
    let started = thread::Builder::new().name(name.to_owned()).spawn(body);
    // It cannot fail, because SIG_SETMASK is valid. SAFETY: the successful call above initialised
    // `before`, and a null pointer is allowed as the last argument.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, before.as_ptr(), ptr::null_mut()) };
    started.map(drop)
}
