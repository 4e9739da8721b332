//! Removing the memory of killed creators: see the [module](super).

use std::fs::File;
use std::io;
use std::sync::Once;

use super::companion;
use crate::sys::lease::Lease;
use crate::sys::named::{self, Identity};

/// Sweeps at the first call in a process.
pub(super) fn sweep_once() {
    static SWEPT: Once = Once::new();
    // The caller can go on if the sweep fails.
    SWEPT.call_once(|| drop(sweep()));
}

/// Removes the unused segments of killed creators, and returns how many those were.
pub(super) fn sweep() -> io::Result<usize> {
    let entries = named::entries()?;
    let marks = entries.iter().map(|(name, _)| named::bytes_of(name)).filter(|name| companion::is_one(name));
    Ok(marks.filter(|mark| matches!(sweep_one(mark), Ok(true))).count())
}

/// Removes the file of one mark with all its names, unless a process uses it or it belongs to
/// another user.
fn sweep_one(mark: &[u8]) -> io::Result<bool> {
    if named::facts_at(mark)?.is_none_or(|facts| !facts.is_own || !facts.is_regular) {
        return Ok(false);
    }
    let file = named::open_without_waiting(mark)?;
    if !named::facts(&file)?.is_own {
        return Ok(false);
    }
    // From here on no other process has the file open, so its creator is dead. Processes that open
    // it now wait until the lease ends.
    let _lease = Lease::take(&file)?;
    let facts = named::facts(&file)?;
    if named::facts_at(mark)?.is_none_or(|there| there.identity != facts.identity) {
        // The creator kept it or unlinked it after the first check.
        return Ok(false);
    }
    if facts.names > 1 {
        remove_names(mark, facts.identity)?;
    }
    // The mark is removed last: without it no sweep would find the rest.
    named::unlink_if(mark, facts.identity)
}

fn remove_names(mark: &[u8], identity: Identity) -> io::Result<()> {
    for (name, inode) in named::entries()? {
        let name = named::bytes_of(&name);
        if inode == identity.inode && name != mark {
            named::unlink_if(name, identity)?;
        }
    }
    Ok(())
}

/// Tells whether a file was swept while it was being opened. Then it has no name.
pub(super) fn is_swept(file: &File) -> io::Result<bool> {
    Ok(named::facts(file)?.names == 0)
}
