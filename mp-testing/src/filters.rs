//! Kernels that do not have everything, played by filters of system calls.

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
