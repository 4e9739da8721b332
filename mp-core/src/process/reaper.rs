//! Children whose handle was dropped: they run on, and are reaped when they end.
//!
//! There is no thread for it. Whoever starts the next process looks first, with one poll over all of them, so
//! at most those zombies exist that ended since.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Mutex, PoisonError};

use rustix::event::{PollFd, PollFlags};

use crate::sys::poll::{self, Deadline};
use crate::sys::process;

static DETACHED: Mutex<Vec<OwnedFd>> = Mutex::new(Vec::new());

/// Takes over a child that was not reaped yet.
pub(super) fn adopt(pidfd: OwnedFd) {
    DETACHED.lock().unwrap_or_else(PoisonError::into_inner).push(pidfd);
}

/// Reaps those that have ended.
pub(super) fn sweep() {
    let mut detached = DETACHED.lock().unwrap_or_else(PoisonError::into_inner);
    if detached.is_empty() {
        return;
    }
    let mut fds: Vec<_> = detached.iter().map(|pidfd| PollFd::new(pidfd, PollFlags::IN)).collect();
    // If polling fails, for lack of kernel memory, the next spawn tries again.
    if !matches!(poll::wait(&mut fds, Deadline::now()), Ok(1..)) {
        return;
    }
    let ended: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
    let mut ended = ended.into_iter();
    detached.retain(|pidfd| !ended.next().unwrap_or(false) || matches!(process::reap(pidfd.as_fd()), Ok(None)));
}
