//! A marker that the parent did not set opens no door: the process ends with 125, says why, and has
//! run nothing.

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use mp_testing::{MARKER, scenario, this_executable};
use rustix::fs::StatVfsMountFlags;
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, send, socketpair};

/// Users that own nothing.
const NOBODY: u32 = 65534;
const SOMEBODY: u32 = 65533;

/// Runs this executable, which would list its tests if its `main` ran, with a marker.
fn with_marker(marker: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(this_executable());
    command.arg("--list").env(MARKER, marker).stdin(Stdio::null());
    command
}

/// Runs it as the child of a shell that first runs `preparation`.
fn below_a_shell(preparation: &str, marker: &str) -> Command {
    let mut command = Command::new("sh");
    // The second command keeps the shell from becoming the program instead of its parent.
    command.arg("-c").arg(format!("{preparation}; \"$0\" --list; exit $?")).arg(this_executable());
    command.env(MARKER, marker).stdin(Stdio::null());
    command
}

#[track_caller]
fn assert_refused(output: &Output, why: &str) {
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(125), "{output:?}");
    assert!(text.contains(MARKER) && text.contains(why), "{why} is not said: {text}");
    assert!(output.stdout.is_empty(), "it went on to `main`");
}

/// A pair of packet sockets of this process, the second of which programs inherit.
fn inherited_pair() -> (OwnedFd, OwnedFd) {
    let pair = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
    fcntl_setfd(&pair.1, FdFlags::empty()).unwrap();
    pair
}

scenario!(a_marker_without_a_descriptor_is_refused, {
    assert_refused(&with_marker("3").output().unwrap(), "not a packet socket");
    assert_refused(&with_marker("1000000").output().unwrap(), "not a packet socket");
    assert_refused(&with_marker(i32::MAX.to_string()).output().unwrap(), "not a packet socket");
});

scenario!(a_marker_that_is_no_number_is_refused, {
    for text in ["", " ", "three", "3 ", "3.0", "0x3", "99999999999", "-99999999999", "stream", "stream x", "stream -1"]
    {
        assert_refused(&with_marker(text).output().unwrap(), "is not the number of a descriptor");
    }
    assert_refused(&with_marker(OsStr::from_bytes(b"\xFF")).output().unwrap(), "is not the number of a descriptor");
});

scenario!(the_number_of_a_standard_stream_is_refused, {
    for text in ["0", "1", "2", "-0", "-1", "-2147483648", "+1"] {
        let (mine, theirs) = inherited_pair();
        let output = with_marker(text).stdin(theirs).output().unwrap();
        assert_refused(&output, "standard stream");
        drop(mine);
    }
});

scenario!(a_descriptor_that_is_no_socket_is_refused, {
    assert_refused(&below_a_shell("exec 3</dev/null", "3").output().unwrap(), "not a packet socket");
    let (_mine, theirs) = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::empty(), None).unwrap();
    let output = with_marker(theirs.as_raw_fd().to_string()).output().unwrap();
    assert_refused(&output, "not a packet socket");
});

scenario!(a_socket_of_the_grandparent_is_refused, {
    let (_mine, theirs) = inherited_pair();
    let marker = theirs.as_raw_fd().to_string();
    assert_refused(&below_a_shell(":", &marker).output().unwrap(), "does not belong to the parent");
});

scenario!(a_socket_of_another_user_is_refused, {
    if !rustix::process::geteuid().is_root() {
        println!("not tested: only root can run a program as somebody else");
        return;
    }
    let copy = Copy::new();
    let (_mine, theirs) = inherited_pair();
    let mut command = copy.command(&theirs.as_raw_fd().to_string());
    assert_refused(&command.uid(NOBODY).output().unwrap(), "another user");
});

scenario!(a_privileged_process_believes_no_marker, {
    if !rustix::process::geteuid().is_root() {
        println!("not tested: only root can make a program that changes its user");
        return;
    }
    let copy = Copy::new();
    if !copy.can_change_its_user() {
        println!("not tested: set-user-ID has no effect here");
        return;
    }
    chown(&copy.path, Some(NOBODY), None).unwrap();
    fs::set_permissions(&copy.path, Permissions::from_mode(0o4755)).unwrap();
    let (_mine, theirs) = inherited_pair();
    let output = copy.command(&theirs.as_raw_fd().to_string()).uid(SOMEBODY).output().unwrap();
    assert_refused(&output, "privileges");
});

/// A copy of this executable that every user can run.
struct Copy {
    path: std::path::PathBuf,
    _directory: tempfile::TempDir,
}

impl Copy {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).unwrap();
        let path = directory.path().join("copy");
        fs::copy(this_executable(), &path).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
        Self { path, _directory: directory }
    }

    fn can_change_its_user(&self) -> bool {
        let mount = rustix::fs::statvfs(&self.path).unwrap();
        !mount.f_flag.contains(StatVfsMountFlags::NOSUID) && !rustix::thread::no_new_privs().unwrap()
    }

    fn command(&self, marker: &str) -> Command {
        let mut command = Command::new(&self.path);
        command.arg("--list").env(MARKER, marker).stdin(Stdio::null()).current_dir(Path::new("/"));
        command
    }
}

// The parent itself may start a child by hand, and say something else than expected.
scenario!(a_child_that_is_told_nonsense_ends_without_running_anything, {
    let garbage: [&[u8]; 5] = [b"", b"x", &[0; 16], &[0xFF; 64], &[b'a'; 50_000]];
    for packet in garbage {
        let (mine, theirs) = inherited_pair();
        send(&mine, packet, SendFlags::empty()).unwrap();
        let output = with_marker(theirs.as_raw_fd().to_string()).output().unwrap();
        assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0), "{output:?}");
    }
    // Nor does it wait for a parent that has gone.
    let (mine, theirs) = inherited_pair();
    drop(mine);
    let output = with_marker(theirs.as_fd().as_raw_fd().to_string()).output().unwrap();
    assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0), "{output:?}");
});
