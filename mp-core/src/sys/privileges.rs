//! The user, the groups and the privileges of this process.

use std::io;

/// Sets the real, effective and saved user of every thread of this process.
pub(crate) fn set_user(user: u32) -> io::Result<()> {
    // SAFETY: setresuid(3) takes three integers and changes who this process is, as the caller
    // wants.
    check(unsafe { libc::setresuid(user, user, user) })
}

/// Sets the real, effective and saved group of every thread of this process.
pub(crate) fn set_group(group: u32) -> io::Result<()> {
    // SAFETY: as in `set_user`.
    check(unsafe { libc::setresgid(group, group, group) })
}

/// Leaves all supplementary groups, if this process runs as root. Other users may not.
pub(crate) fn leave_groups() -> io::Result<()> {
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    // SAFETY: for a list of length 0 the pointer is not read.
    check(unsafe { libc::setgroups(0, std::ptr::null()) })
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
