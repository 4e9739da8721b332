//! Processes that this thread traces with ptrace(2), from one system call to the next.

use std::io;
use std::ptr::null_mut;

use mp_testing::procfs;

/// What waitpid(2) adds to the signal of a stop at a system call.
const SYSCALL: libc::c_int = libc::SIGTRAP | 0x80;

/// A process that is traced, and stopped.
pub(crate) struct Traced(libc::pid_t);

/// Returns the signal of a stop, and the event, which is 0 for most stops. `None` if the process
/// has ended.
fn wait(pid: libc::pid_t) -> Option<(libc::c_int, libc::c_int)> {
    let mut status = 0;
    // SAFETY: the place is valid. What may be reaped is a process that this thread traces.
    let waited = unsafe { libc::waitpid(pid, &raw mut status, libc::__WALL) };
    (waited == pid && libc::WIFSTOPPED(status)).then(|| (libc::WSTOPSIG(status), status >> 16))
}

impl Traced {
    /// Begins to trace a process, and stops it. `None`, which is said, if the system forbids it.
    pub(crate) fn stop(pid: u32) -> Option<Self> {
        let pid = procfs::number_of(pid).as_raw_nonzero().get();
        let options = libc::c_long::from(libc::PTRACE_O_TRACESYSGOOD);
        // SAFETY: it changes nothing in the memory of this process.
        if unsafe { libc::ptrace(libc::PTRACE_SEIZE, pid, 0, options) } != 0 {
            println!("SKIPPED: no process can be traced here: {}", io::Error::last_os_error());
            return None;
        }
        // SAFETY: as above.
        assert_eq!(unsafe { libc::ptrace(libc::PTRACE_INTERRUPT, pid, 0, 0) }, 0);
        wait(pid).unwrap();
        Some(Self(pid))
    }

    /// Lets the process run until it forks, and go. Returns the copy, which has done nothing yet.
    pub(crate) fn fork(self) -> Self {
        let options = libc::PTRACE_O_TRACESYSGOOD | libc::PTRACE_O_TRACEFORK;
        assert!(self.go(libc::PTRACE_SETOPTIONS, options) && self.go(libc::PTRACE_CONT, 0));
        assert_eq!(wait(self.0), Some((libc::SIGTRAP, libc::PTRACE_EVENT_FORK)));
        let mut copy: libc::c_ulong = 0;
        // SAFETY: the place is valid, and the process is stopped at the event.
        assert_eq!(unsafe { libc::ptrace(libc::PTRACE_GETEVENTMSG, self.0, null_mut::<u8>(), &raw mut copy) }, 0);
        let copy = copy as libc::pid_t;
        wait(copy).unwrap();
        self.let_go();
        Self(copy)
    }

    /// Lets the process run until it begins or ends its next system call. Returns false if it has
    /// ended.
    pub(crate) fn step(&self) -> bool {
        let mut signal = 0;
        loop {
            self.go(libc::PTRACE_SYSCALL, signal);
            signal = match wait(self.0) {
                Some((SYSCALL, 0)) => return true,
                Some((signal, 0)) => signal,
                Some(_) => 0,
                None => return false,
            };
        }
    }

    /// Ends the tracing. If the process was killed, takes note of its end, so that its parent can.
    pub(crate) fn let_go(self) {
        if !self.go(libc::PTRACE_DETACH, 0) {
            while wait(self.0).is_some() {}
        }
    }

    /// Fails if the process was killed.
    fn go(&self, how: libc::c_uint, with: libc::c_int) -> bool {
        // SAFETY: it changes nothing in the memory of this process.
        unsafe { libc::ptrace(how, self.0, 0, libc::c_long::from(with)) == 0 }
    }
}
