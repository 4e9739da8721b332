//! Starting a program, mostly this same executable, with posix_spawn(3).
//!
//! glibc and musl implement it as `clone(CLONE_VM | CLONE_VFORK)`: the child runs in the parent's
//! memory until it calls exec. So the cost does not grow with the parent's memory, and no state of
//! other threads is copied.
//!
//! The child gets exactly four descriptors: 0, 1 and 2 as requested, and [`control::NUMBER`]. This
//! library opens every descriptor close-on-exec. `closefrom`, in the child's copy of the descriptor
//! table, closes those that other code left open.

use std::ffi::{CStr, c_int};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::OnceLock;

use rustix::process::Pid;

use super::control;
use super::process;
use super::strings::Strings;

/// What a child is started with.
pub(crate) struct Request<'a> {
    pub(crate) program: &'a CStr,
    pub(crate) arguments: &'a Strings,
    pub(crate) environment: &'a Strings,
    pub(crate) directory: Option<&'a CStr>,
    /// The descriptors that become 0, 1 and 2; `None` keeps the parent's.
    pub(crate) standard_streams: [Option<BorrowedFd<'a>>; 3],
    pub(crate) control: BorrowedFd<'a>,
    /// Whether the child leads a session of its own.
    pub(crate) new_session: bool,
    /// Whether the child leads a process group of its own.
    pub(crate) new_group: bool,
}

/// A step that failed, and why.
pub(crate) type Failure = (&'static str, io::Error);

/// Starts the child and opens its pidfd. On an error there is no child.
pub(crate) fn spawn(request: &Request<'_>) -> Result<(Pid, OwnedFd), Failure> {
    let child = start(request).map_err(|error| ("posix_spawn", error))?;
    // If this fails, no code of the user has run, because the child waits for its start message.
    let pidfd = process::open(child).map_err(|error| {
        // If the child no longer exists, other code reaped it, and its pid may now belong to
        // another process.
        if error.raw_os_error() != Some(libc::ESRCH) {
            process::discard(child);
        }
        ("pidfd_open", error)
    })?;
    Ok((child, pidfd))
}

fn start(request: &Request<'_>) -> io::Result<Pid> {
    let mut actions = FileActions::new()?;
    if let Some(directory) = request.directory {
        actions.change_directory(directory)?;
    }
    for (number, stream) in (0..).zip(request.standard_streams) {
        if let Some(stream) = stream {
            actions.duplicate(stream, number)?;
        }
    }
    // After the streams, because one of them may have the number that the control socket gets.
    actions.duplicate(request.control, control::NUMBER)?;
    actions.close_from(control::NUMBER + 1)?;
    let attributes = Attributes::with_empty_signal_mask(request.new_session, request.new_group)?;

    let arguments = request.arguments.pointers();
    let environment = request.environment.pointers();
    let mut child = 0;
    // SAFETY: `actions` and `attributes` are initialised and outlive the call. Both arrays end with
    // a null pointer, and their other elements point at the C strings that `request` borrows.
    // posix_spawn does not write to them, although its parameters are not const.
    let result = unsafe {
        libc::posix_spawn(
            &raw mut child,
            request.program.as_ptr(),
            &raw const actions.0,
            &raw const attributes.0,
            arguments.as_ptr(),
            environment.as_ptr(),
        )
    };
    check(result)?;
    Pid::from_raw(child).ok_or_else(|| io::Error::other("posix_spawn returned no process"))
}

/// posix_spawn and its functions return the error instead of setting errno.
fn check(result: c_int) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(result)) }
}

struct FileActions(libc::posix_spawn_file_actions_t);

impl FileActions {
    fn new() -> io::Result<Self> {
        let mut actions = MaybeUninit::uninit();
        // SAFETY: the call initialises the value.
        check(unsafe { libc::posix_spawn_file_actions_init(actions.as_mut_ptr()) })?;
        // SAFETY: the call succeeded, so the value is initialised.
        Ok(Self(unsafe { actions.assume_init() }))
    }

    fn change_directory(&mut self, directory: &CStr) -> io::Result<()> {
        // SAFETY: `self.0` is initialised; the call copies the string.
        check(unsafe { libc::posix_spawn_file_actions_addchdir_np(&raw mut self.0, directory.as_ptr()) })
    }

    /// Makes `from` the child's descriptor `to`, not close-on-exec, even if both are the same
    /// number.
    fn duplicate(&mut self, from: BorrowedFd<'_>, to: RawFd) -> io::Result<()> {
        // SAFETY: `self.0` is initialised; the call records two integers.
        check(unsafe { libc::posix_spawn_file_actions_adddup2(&raw mut self.0, from.as_raw_fd(), to) })
    }

    fn close(&mut self, fd: RawFd) -> io::Result<()> {
        // SAFETY: `self.0` is initialised; the call records an integer. The descriptor is closed in
        // the child's copy of the table.
        check(unsafe { libc::posix_spawn_file_actions_addclose(&raw mut self.0, fd) })
    }

    /// Closes every descriptor from `lowest` on, in the child.
    fn close_from(&mut self, lowest: RawFd) -> io::Result<()> {
        if let Some(close_from) = close_from_function() {
            // SAFETY: `close_from` is the C library's function of that name and type; `self.0` is
            // initialised.
            return check(unsafe { close_from(&raw mut self.0, lowest) });
        }
        self.close_those_open(lowest)
    }

    /// Does the same with an older C library.
    fn close_those_open(&mut self, lowest: RawFd) -> io::Result<()> {
        // Another thread may open a descriptor after this. If it does so through std, it is
        // close-on-exec. Closing a number that is no longer open is not an error in the child.
        for entry in std::fs::read_dir("/proc/thread-self/fd")? {
            if let Some(fd) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) {
                if fd >= lowest {
                    self.close(fd)?;
                }
            }
        }
        Ok(())
    }
}

impl Drop for FileActions {
    fn drop(&mut self) {
        // SAFETY: `self.0` is initialised and not used again. The call always succeeds in glibc and
        // musl.
        unsafe { libc::posix_spawn_file_actions_destroy(&raw mut self.0) };
    }
}

type CloseFrom = unsafe extern "C" fn(*mut libc::posix_spawn_file_actions_t, c_int) -> c_int;

/// Finds `posix_spawn_file_actions_addclosefrom_np`, which glibc has since 2.34 and musl does not
/// have. It is looked up at run time, so that one executable runs with older versions too.
fn close_from_function() -> Option<CloseFrom> {
    static FUNCTION: OnceLock<Option<CloseFrom>> = OnceLock::new();
    *FUNCTION.get_or_init(|| {
        let name = c"posix_spawn_file_actions_addclosefrom_np";
        // SAFETY: `name` is a C string, and looking up a symbol does not call it.
        let symbol = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
        // SAFETY: if the symbol exists, it is a function of this type (glibc's spawn.h). A null
        // pointer becomes `None`.
        unsafe { std::mem::transmute::<*mut libc::c_void, Option<CloseFrom>>(symbol) }
    })
}

struct Attributes(libc::posix_spawnattr_t);

impl Attributes {
    /// The child's signal mask is empty, as with `std::process::Command`. Otherwise a thread that
    /// blocks signals would start children that SIGTERM cannot end.
    fn with_empty_signal_mask(new_session: bool, new_group: bool) -> io::Result<Self> {
        let mut attributes = MaybeUninit::uninit();
        // SAFETY: the call initialises the value.
        check(unsafe { libc::posix_spawnattr_init(attributes.as_mut_ptr()) })?;
        // SAFETY: the call succeeded, so the value is initialised.
        let mut attributes = Self(unsafe { attributes.assume_init() });
        let mut mask = MaybeUninit::uninit();
        // SAFETY: the call initialises the value and cannot fail for a valid pointer.
        unsafe { libc::sigemptyset(mask.as_mut_ptr()) };
        // SAFETY: both are initialised; the call copies the mask.
        check(unsafe { libc::posix_spawnattr_setsigmask(&raw mut attributes.0, mask.as_ptr()) })?;
        let alone = match (new_session, new_group) {
            // The leader of a session leads a group as well, and cannot be put into one.
            (true, _) => i32::from(libc::POSIX_SPAWN_SETSID),
            // The group of an initialised value is 0, which means a new one.
            (false, true) => libc::POSIX_SPAWN_SETPGROUP,
            (false, false) => 0,
        };
        let flags = libc::POSIX_SPAWN_SETSIGMASK | alone;
        // SAFETY: `attributes` is initialised; the call records the flags.
        check(unsafe { libc::posix_spawnattr_setflags(&raw mut attributes.0, flags as _) })?;
        Ok(attributes)
    }
}

impl Drop for Attributes {
    fn drop(&mut self) {
        // SAFETY: `self.0` is initialised and not used again. The call always succeeds in glibc and
        // musl.
        unsafe { libc::posix_spawnattr_destroy(&raw mut self.0) };
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::AsFd;

    use super::*;

    /// Starts a program with these actions and returns the descriptors that it finds open.
    fn found_with(close: impl FnOnce(&mut FileActions) -> io::Result<()>) -> Vec<RawFd> {
        let (reader, writer) = crate::sys::fd::pipe().unwrap();
        let mut actions = FileActions::new().unwrap();
        actions.duplicate(writer.as_fd(), 1).unwrap();
        actions.duplicate(writer.as_fd(), control::NUMBER).unwrap();
        close(&mut actions).unwrap();
        let attributes = Attributes::with_empty_signal_mask(false, false).unwrap();
        let strings = |all: &[&str]| {
            let mut strings = Strings::default();
            all.iter().for_each(|string| strings.push(&[string.as_bytes()]).unwrap());
            strings
        };
        let arguments = strings(&["sh", "-c", "for fd in /proc/$$/fd/*; do echo ${fd##*/}; done"]);
        let environment = strings(&["PATH=/usr/bin:/bin"]);
        let mut child = 0;
        // SAFETY: as in `spawn`.
        let result = unsafe {
            libc::posix_spawn(
                &raw mut child,
                c"/bin/sh".as_ptr(),
                &raw const actions.0,
                &raw const attributes.0,
                arguments.pointers().as_ptr(),
                environment.pointers().as_ptr(),
            )
        };
        check(result).unwrap();
        drop(writer);
        let text = io::read_to_string(File::from(reader)).unwrap();
        let child = Pid::from_raw(child).unwrap();
        rustix::io::retry_on_intr(|| {
            rustix::process::waitid(rustix::process::WaitId::Pid(child), rustix::process::WaitIdOptions::EXITED)
        })
        .unwrap();
        text.lines().map(|line| line.parse().unwrap()).collect()
    }

    #[test]
    fn either_way_of_closing_closes_what_others_left_open() {
        let file = File::open("/dev/null").unwrap();
        // Not close-on-exec.
        let open: Vec<_> = (0..50).map(|_| rustix::io::dup(&file).unwrap()).collect();
        let inherited = open.iter().map(AsRawFd::as_raw_fd).max().unwrap();
        assert!(found_with(|_| Ok(())).contains(&inherited));
        let lowest = control::NUMBER + 1;
        for found in
            [found_with(|actions| actions.close_from(lowest)), found_with(|actions| actions.close_those_open(lowest))]
        {
            // The shell opens the directory that it lists.
            let beside: Vec<_> = found.iter().filter(|&&fd| fd > control::NUMBER && fd < 10).collect();
            assert!((0..lowest).all(|fd| found.contains(&fd)) && beside.len() <= 1, "{found:?}");
            assert!(!found.contains(&inherited), "{found:?}");
        }
    }
}
