//! Names for the segments of a test, and what is left of them.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use mp_testing::start_method::is_not_for_fork_server;

/// A name that holds the number of this process, so that what is left of it is found.
pub(crate) fn own(what: &str) -> String {
    format!("shm-test-{what}-{}", std::process::id())
}

/// The file of a segment.
pub(crate) fn path(name: &str) -> PathBuf {
    PathBuf::from("/dev/shm").join(name)
}

pub(crate) fn exists(name: &str) -> bool {
    path(name).symlink_metadata().is_ok()
}

/// All names of the file that a name leads to.
pub(crate) fn all_of(name: &str) -> Vec<String> {
    let inode = path(name).symlink_metadata().unwrap().ino();
    let mut names = list();
    names.retain(|each| path(each).symlink_metadata().is_ok_and(|metadata| metadata.ino() == inode));
    names
}

/// The marks beside what a process has created.
pub(crate) fn marks_of(pid: u32) -> Vec<String> {
    let mut names = list();
    names.retain(|name| name.starts_with(&format!("mp-shm.{pid:08x}")));
    names
}

fn list() -> Vec<String> {
    let entries = fs::read_dir("/dev/shm").unwrap();
    entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect()
}

/// Gives this process, and what it starts, a `/dev/shm` of its own of that many bytes, so that
/// nobody else sweeps there. False, which is said, if it may not.
pub(crate) fn have_a_directory_of_their_own(size: u64) -> bool {
    if is_not_for_fork_server("it has the mounts that this process had when it was built") {
        return false;
    }
    // SAFETY: from here on this process sees mounts of its own, which changes nothing that memory
    // safety depends on.
    if unsafe { libc::unshare(libc::CLONE_NEWNS) } != 0 {
        println!("only root can have a /dev/shm of its own; not tested exactly");
        return false;
    }
    let flags = libc::MS_REC | libc::MS_PRIVATE;
    // SAFETY: the strings end with a NUL, and what is not used may be null.
    let private = unsafe { libc::mount(std::ptr::null(), c"/".as_ptr(), std::ptr::null(), flags, std::ptr::null()) };
    assert_eq!(private, 0);
    let options = std::ffi::CString::new(format!("size={size},mode=1777")).unwrap();
    let [tmpfs, place] = [c"tmpfs".as_ptr(), c"/dev/shm".as_ptr()];
    // SAFETY: the strings end with a NUL.
    assert_eq!(unsafe { libc::mount(tmpfs, place, tmpfs, 0, options.as_ptr().cast()) }, 0);
    assert_eq!(list(), [""; 0]);
    true
}

/// All that there is.
pub(crate) fn all() -> Vec<String> {
    list()
}
