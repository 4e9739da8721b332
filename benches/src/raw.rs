//! The kernel's interface without a library.

use std::ffi::{CStr, CString, c_char};
use std::io;
use std::ptr;

use rustix::process::{Pid, WaitOptions, waitpid};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

unsafe extern "C" {
    /// The environment of this process, which the C library keeps.
    static environ: *const *mut c_char;
}

/// Starts a program with posix_spawn(3), with this process's environment and nothing else asked
/// for.
pub fn spawn(program: &CStr, arguments: &[CString]) -> io::Result<Pid> {
    let pointers: Vec<*mut c_char> =
        arguments.iter().map(|argument| argument.as_ptr().cast_mut()).chain([ptr::null_mut()]).collect();
    let mut child = 0;
    // SAFETY: the benchmarks never change the environment, so the pointer is valid and nobody
    // writes to it.
    let environment = unsafe { environ };
    // SAFETY: the program is a C string, both arrays end with a null pointer, their other elements
    // are C strings, and all outlive the call. No actions and no attributes are null pointers.
    let result = unsafe {
        libc::posix_spawn(&raw mut child, program.as_ptr(), ptr::null(), ptr::null(), pointers.as_ptr(), environment)
    };
    if result != 0 {
        return Err(io::Error::from_raw_os_error(result));
    }
    Pid::from_raw(child).ok_or_else(|| io::Error::other("posix_spawn returned no process"))
}

/// Forks; the copy exits at once.
pub fn fork() -> io::Result<Pid> {
    // SAFETY: the copy calls one function, which may be called after a fork.
    match unsafe { libc::fork() } {
        // SAFETY: it ends the copy without running anything of this process.
        0 => unsafe { libc::_exit(0) },
        child => Pid::from_raw(child).filter(|_| child > 0).ok_or_else(io::Error::last_os_error),
    }
}

/// Waits with waitpid(2) until the child has ended, which it has to do with success.
pub fn wait(child: Pid) -> io::Result<()> {
    let ended = rustix::io::retry_on_intr(|| waitpid(Some(child), WaitOptions::empty()))?;
    match ended {
        Some((_, status)) if status.exit_status() == Some(0) => Ok(()),
        _ => Err(io::Error::other("a program that does nothing failed")),
    }
}

/// The time, in nanoseconds, on the clock that all processes share.
pub fn now() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` may be written to. This clock always exists, and the call needs nothing that
    // std sets up.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs()
}

/// This thread, and the processes that it starts meanwhile, may use one core only.
pub struct Pinned {
    before: CpuSet,
}

impl Pinned {
    pub fn to_one_core() -> io::Result<Self> {
        let before = sched_getaffinity(None)?;
        let first = (0..CpuSet::MAX_CPU).find(|&core| before.is_set(core));
        let mut one = CpuSet::new();
        one.set(first.ok_or_else(|| io::Error::other("this process may use no core"))?);
        sched_setaffinity(None, &one)?;
        Ok(Self { before })
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        if let Err(error) = sched_setaffinity(None, &self.before) {
            eprintln!("this process stays on one core: {error}");
        }
    }
}
