//! What a fork server does with the operating system, and a copy of it with itself.
//!
//! A fork server has one thread, so none of these functions has to think of others. The copies are
//! made by the C library's `fork`, which gives the copy a new thread ID and robust list, and runs
//! the handlers that libraries have registered.

use std::ffi::{CString, OsStr, c_char, c_int};
use std::fs;
use std::io::{self, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::ptr;

use rustix::fs::{FileType, OFlags, SealFlags, fcntl_get_seals, fcntl_getfl, fstat};
use rustix::process::Pid;

use super::poll::{Deadline, readable};
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

/// The signals of a fork server: it ignores SIGINT, which is for its owner, and SIGPIPE, and is
/// woken when a child ends.
///
/// SIGINT is blocked as well, so that one for a copy that has just been made stays pending until
/// the copy has its own disposition.
pub(crate) struct Signals {
    interrupt: Disposition,
    pipe: Disposition,
    child: Disposition,
}

impl Signals {
    pub(crate) fn take() -> Self {
        set_mask(libc::SIG_BLOCK, &[libc::SIGCHLD, libc::SIGINT]);
        Self {
            interrupt: Disposition::set(libc::SIGINT, libc::SIG_IGN),
            pipe: Disposition::set(libc::SIGPIPE, libc::SIG_IGN),
            child: Disposition::set(libc::SIGCHLD, wake as *const () as libc::sighandler_t),
        }
    }

    /// Gives a copy the signals that a new process has.
    pub(crate) fn give_back(&self) {
        self.interrupt.restore(libc::SIGINT);
        self.pipe.restore(libc::SIGPIPE);
        self.child.restore(libc::SIGCHLD);
        set_mask(libc::SIG_SETMASK, &[]);
    }

    /// Waits until `fd`, if there is one, is readable or a child has ended, and tells whether `fd`
    /// is.
    pub(crate) fn wait(&self, fd: Option<BorrowedFd<'_>>) -> io::Result<bool> {
        let blocked = set_of(&[libc::SIGINT]);
        // The kernel ignores a negative number.
        let fd = fd.map_or(-1, |fd| fd.as_raw_fd());
        let mut polled = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
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

/// Makes a copy of this process. Returns `None` in the copy.
///
/// What std and the C library have not yet written is written first, so that the copy does not
/// write it again.
pub(crate) fn fork() -> io::Result<Option<Pid>> {
    let _ = io::stdout().flush();
    // SAFETY: null means all streams that were written to.
    unsafe { libc::fflush(ptr::null_mut()) };
    // SAFETY: this process has one thread, so the copy is complete: no other thread holds a lock.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        child => Ok(Pid::from_raw(child)),
    }
}

/// Reaps a child that has ended: its pid, and its status as wait(2) returns it.
pub(crate) fn reap_any() -> Option<(Pid, i32)> {
    let mut status = 0;
    // SAFETY: the place is valid.
    let child = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) };
    if child > 0 { Some((Pid::from_raw(child)?, status)) } else { None }
}

/// Tells the process that has asked for a child how the child ended.
pub(crate) fn report_status(report: OwnedFd, status: i32) {
    // It fails if the process does not want to know any more. The pipe is empty, so it does not
    // wait.
    let _ = fs::File::from(report).write_all(&status.to_ne_bytes());
}

/// Receives what [`report_status`] sends. `None` if that does not come in time, or the server has
/// ended.
pub(crate) fn reported_status(report: &OwnedFd, deadline: Deadline) -> Option<ExitStatus> {
    let mut status = [0; 4];
    let arrived = readable(report.as_fd(), deadline).ok()? && rustix::io::read(report, &mut status) == Ok(status.len());
    arrived.then(|| ExitStatus::from_wait(i32::from_ne_bytes(status)))
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

/// Replaces the environment of this process by `variables`, each of the form `NAME=value`.
pub(crate) fn set_environment(variables: Vec<CString>) {
    let strings = variables.into_iter().map(CString::into_raw);
    let array: Box<[*mut c_char]> = strings.chain([ptr::null_mut()]).collect();
    // It stays for as long as the process, as do the strings. SAFETY: a program may set this
    // variable. No other thread reads it, because there is none.
    unsafe { environ = Box::leak(array).as_mut_ptr() };
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
