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
