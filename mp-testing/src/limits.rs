//! Running out of things on purpose.

use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::leaks::{descriptors, status_kib};

/// Runs `body` while this process may open `more` descriptors than it has.
pub fn with_descriptors<R>(more: usize, body: impl FnOnce() -> R) -> R {
    // The limit is on numbers, so those below the highest are filled first.
    let highest = *descriptors().last_key_value().unwrap().0;
    let null = File::open("/dev/null").unwrap();
    let mut fill: Vec<OwnedFd> = Vec::new();
    loop {
        let copy = rustix::io::fcntl_dupfd_cloexec(&null, 3).unwrap();
        if copy.as_raw_fd() > highest {
            break;
        }
        fill.push(copy);
    }
    let first_free = 1 + (*descriptors().last_key_value().unwrap().0 as u64);
    with_limit(Resource::Nofile, first_free + more as u64, body)
}

/// Lets this process and its children have `count` descriptors. Returns false, and prints why, if
/// it may not.
pub fn allow_descriptors(count: u64) -> bool {
    let before = getrlimit(Resource::Nofile);
    if before.current.is_none_or(|current| current >= count) {
        return true;
    }
    let maximum = before.maximum.map(|maximum| maximum.max(count));
    let allowed = setrlimit(Resource::Nofile, Rlimit { current: Some(count), maximum }).is_ok();
    if !allowed {
        eprintln!("SKIPPED: this user may not have {count} descriptors");
    }
    allowed
}

/// Runs `body` while this process may map `more` KiB of address space than it has.
pub fn with_memory<R>(more: u64, body: impl FnOnce() -> R) -> R {
    with_limit(Resource::As, (status_kib("VmSize") + more) << 10, body)
}

/// Makes this process, which is root's and has one thread, one of a user that has no other process.
///
/// The kernel counts the processes of a user, so tests that count them must not share a user, even
/// with another run on the same machine. The numbers are below 65536, because a container may have
/// no others.
pub fn become_a_user_of_its_own() {
    let user = 20_000 + std::process::id() % 40_000;
    // SAFETY: the call changes the user of this process, which has one thread.
    assert_eq!(unsafe { libc::setresuid(user, user, user) }, 0);
}

/// Runs `body` under a limit. Processes that it starts inherit it.
pub fn with_limit<R>(resource: Resource, limit: u64, body: impl FnOnce() -> R) -> R {
    let before = getrlimit(resource);
    setrlimit(resource, Rlimit { current: Some(limit), maximum: before.maximum }).unwrap();
    let result = body();
    setrlimit(resource, before).unwrap();
    result
}

/// Makes the kernel refuse a system call of this process and of those that it starts, with EPERM,
/// as filters of containers do.
pub fn refuse_system_call(number: libc::c_long) {
    filter(&mut [
        step(LOAD, 0, 0, 0),
        step(IF_EQUAL, 0, 1, number as u32),
        step(RETURN, 0, 0, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32),
        step(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW),
    ]);
}

/// Makes the kernel one that does not tell how a process ended that is not a child of who asks, as
/// before Linux 6.15, for this process and those that it starts.
pub fn refuse_pidfd_info() {
    /// `PIDFD_GET_INFO` with the struct that mp-core passes.
    const GET_INFO: u32 = 0xC040_FF0B;
    /// Where the second argument of a system call is.
    const SECOND: u32 = std::mem::offset_of!(libc::seccomp_data, args) as u32 + 8;
    filter(&mut [
        step(LOAD, 0, 0, 0),
        step(IF_EQUAL, 0, 3, libc::SYS_ioctl as u32),
        step(LOAD, 0, 0, SECOND),
        step(IF_EQUAL, 0, 1, GET_INFO),
        step(RETURN, 0, 0, libc::SECCOMP_RET_ERRNO | libc::ENOTTY as u32),
        step(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW),
    ]);
}

const LOAD: u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
const IF_EQUAL: u32 = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
const RETURN: u32 = libc::BPF_RET | libc::BPF_K;

fn step(code: u32, jt: u8, jf: u8, k: u32) -> libc::sock_filter {
    libc::sock_filter { code: code as u16, jt, jf, k }
}

/// Lets the kernel run this program before each system call.
fn filter(program: &mut [libc::sock_filter]) {
    let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: the kernel copies the program, which is valid during the call.
    let set = || unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const filter) };
    if set() != 0 {
        // Only a privileged process may do it as it is. SAFETY: it takes integers.
        unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
        assert_eq!(set(), 0, "{}", std::io::Error::last_os_error());
    }
}
