//! What a fork server does with the operating system, and a copy of it with itself.
//!
//! A fork server has one thread, so none of these functions has to think of others. The copies are
//! made by the C library's `fork`, which gives the copy a new thread ID and robust list, and runs
//! the handlers that libraries have registered.

use std::ffi::{OsStr, c_char, c_int};
use std::fs;
use std::io::{self, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::ptr;

use rustix::fs::{FileType, OFlags, SealFlags, fcntl_get_seals, fcntl_getfl, fstat};
use rustix::io::retry_on_intr;
use rustix::process::{Pid, WaitOptions, waitpid};

use super::poll::Deadline;
use super::process;
use super::strings::Strings;
use crate::exit_status::ExitStatus;

/// How a process reacts to a signal.
struct Disposition(libc::sigaction);

impl Disposition {
    /// Sets how this process reacts to `signal`, and returns how it did before.
    fn set(signal: c_int, handler: libc::sighandler_t) -> Self {
        // SAFETY: a struct of integers and an optional function pointer, for which zero is valid.
        let mut new: libc::sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
        new.sa_sigaction = handler;
        // SAFETY: as above.
        let mut old: libc::sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
        // It cannot fail for a signal that may be handled. SAFETY: `handler` is SIG_IGN or a
        // function that does nothing, and both places are valid.
        unsafe { libc::sigaction(signal, &raw const new, &raw mut old) };
        Self(old)
    }

    fn restore(&self, signal: c_int) {
        // SAFETY: the kernel gave us the disposition, and its function still exists.
        unsafe { libc::sigaction(signal, &raw const self.0, ptr::null_mut()) };
    }
}

extern "C" fn wake(_signal: c_int) {}

/// The signals of a fork server: it ignores SIGINT, which is for its owner. It ignores SIGCHLD as
/// well, so that the kernel reaps its children, or is woken by it.
///
/// SIGINT is blocked as well, so that one for a copy that has just been made stays pending until
/// the copy has its own disposition.
pub(crate) struct Signals {
    interrupt: Disposition,
    child: Disposition,
}

impl Signals {
    pub(crate) fn take(ignores_children: bool) -> Self {
        set_mask(libc::SIG_BLOCK, &[libc::SIGCHLD, libc::SIGINT]);
        let wake = wake as *const () as libc::sighandler_t;
        Self {
            interrupt: Disposition::set(libc::SIGINT, libc::SIG_IGN),
            child: Disposition::set(libc::SIGCHLD, if ignores_children { libc::SIG_IGN } else { wake }),
        }
    }

    /// Gives a copy the signals that a new process has.
    pub(crate) fn give_back(&self) {
        self.interrupt.restore(libc::SIGINT);
        self.child.restore(libc::SIGCHLD);
        set_mask(libc::SIG_SETMASK, &[]);
    }

    /// Waits until `fd` is readable or a child has ended, and tells whether `fd` is readable.
    pub(crate) fn wait(&self, fd: BorrowedFd<'_>) -> io::Result<bool> {
        let blocked = set_of(&[libc::SIGINT]);
        let mut polled = libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SIGCHLD is blocked but for this call, so none is missed. SAFETY: both places are valid.
        let ready = unsafe { libc::ppoll(&raw mut polled, 1, ptr::null(), &raw const blocked) };
        match ready {
            -1 => match io::Error::last_os_error() {
                error if error.kind() == io::ErrorKind::Interrupted => Ok(false),
                error => Err(error),
            },
            ready => Ok(ready > 0),
        }
    }
}

fn set_of(signals: &[c_int]) -> libc::sigset_t {
    let mut set = MaybeUninit::uninit();
    // SAFETY: the call initialises the set, and cannot fail for a valid pointer.
    unsafe { libc::sigemptyset(set.as_mut_ptr()) };
    // SAFETY: the set was just initialised.
    let mut set = unsafe { set.assume_init() };
    for &signal in signals {
        // SAFETY: the set is initialised, and the signal exists.
        unsafe { libc::sigaddset(&raw mut set, signal) };
    }
    set
}

fn set_mask(how: c_int, signals: &[c_int]) {
    let set = set_of(signals);
    // It cannot fail for a valid `how`. SAFETY: the set is initialised, and null is allowed.
    unsafe { libc::pthread_sigmask(how, &raw const set, ptr::null_mut()) };
}

/// Writes what std and the C library have not yet written, so that no copy writes it again.
pub(crate) fn flush() {
    let _ = io::stdout().flush();
    // SAFETY: null means all streams that were written to.
    unsafe { libc::fflush(ptr::null_mut()) };
}

/// Makes a copy of this process. Returns `None` in the copy.
pub(crate) fn fork() -> io::Result<Option<Pid>> {
    // SAFETY: this process has one thread, so the copy is complete: no other thread holds a lock.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        child => Ok(Pid::from_raw(child)),
    }
}

/// Tells whether the kernel says how a process ended that is not a child of who asks, as it does
/// since Linux 6.15.
pub(crate) fn kernel_tells_status() -> bool {
    let child = match fork() {
        Ok(Some(child)) => child,
        Ok(None) => super::runtime::exit_at_once(0),
        Err(_) => return false,
    };
    let pidfd = process::open(child);
    // It fails if the kernel has reaped the child, because SIGCHLD is ignored.
    let _ = retry_on_intr(|| waitpid(Some(child), WaitOptions::empty()));
    pidfd.is_ok_and(|pidfd| process::status_of_other(pidfd.as_fd(), Deadline::PASSED) == ExitStatus::Code(0))
}

/// Closes descriptors of the server in a copy of it.
pub(crate) fn close(descriptors: &[RawFd]) {
    for &number in descriptors {
        // SAFETY: they are those of the server, which the copy does not use: their owners are on
        // the stack of the server, to which the copy does not return, or were replaced.
        unsafe { libc::close(number) };
    }
}

/// Makes `stream` the descriptor `number` of this process; without one, closes it.
pub(crate) fn set_standard_stream(number: RawFd, stream: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let result = match stream {
        // SAFETY: the numbers of the standard streams belong to nobody in particular.
        Some(stream) => unsafe { libc::dup2(stream.as_raw_fd(), number) },
        // SAFETY: as above.
        None => unsafe { libc::close(number) },
    };
    if stream.is_some() && result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

unsafe extern "C" {
    /// The C library's pointer to the environment.
    static mut environ: *mut *mut c_char;
}

/// Replaces the environment of this process.
pub(crate) fn set_environment(variables: Strings) {
    // Both stay for as long as the process.
    let array = Vec::leak(Box::leak(Box::new(variables)).pointers());
    // SAFETY: a program may set this variable, to an array of strings that ends with a null
    // pointer. No other thread reads it, because there is none.
    unsafe { environ = array.as_mut_ptr() };
}

/// The names of the threads of this process but the first.
pub(crate) fn other_threads() -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for thread in fs::read_dir("/proc/self/task")? {
        let thread = thread?;
        if thread.file_name() != OsStr::new(&std::process::id().to_string()) {
            // It may end meanwhile.
            let name = fs::read_to_string(thread.path().join("comm"));
            names.extend(name.map(|name| name.trim_end().to_owned()));
        }
    }
    Ok(names)
}

/// The numbers of the descriptors that are open in this process.
pub(crate) fn open_descriptors() -> io::Result<Vec<RawFd>> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir("/proc/self/fd")? {
        numbers.extend(entry?.file_name().to_str().and_then(|name| name.parse::<RawFd>().ok()));
    }
    // The one that lists them is closed by now.
    // SAFETY: the borrow ends with the query, which fails for a descriptor that is not open.
    numbers.retain(|&number| super::fd::is_open(unsafe { BorrowedFd::borrow_raw(number) }));
    Ok(numbers)
}

/// Describes a descriptor that copies of this process would share by accident: anything but a file
/// that is open to be read, or to be appended to, or is sealed against writing, a directory, and a
/// device.
pub(crate) fn shared_by_accident(number: RawFd) -> Option<String> {
    // SAFETY: the borrow ends with the function. If the descriptor is not open, the queries fail.
    let fd = unsafe { BorrowedFd::borrow_raw(number) };
    let (flags, metadata) = (fcntl_getfl(fd).ok()?, fstat(fd).ok()?);
    let writes = flags.intersects(OFlags::WRONLY | OFlags::RDWR)
        && !flags.contains(OFlags::APPEND)
        && !fcntl_get_seals(fd).is_ok_and(|seals| seals.contains(SealFlags::WRITE));
    let shared = match FileType::from_raw_mode(metadata.st_mode) {
        FileType::RegularFile => writes,
        FileType::Directory | FileType::CharacterDevice | FileType::BlockDevice | FileType::Symlink => false,
        _ => true,
    };
    let name = fs::read_link(super::fd::path_of(fd)).unwrap_or_default();
    shared.then(|| String::from_utf8_lossy(name.as_os_str().as_bytes()).into_owned())
}
