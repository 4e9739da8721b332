//! Clearing up after those who were killed: see the [module](super).

use std::fs::File;
use std::io;
use std::sync::Once;

use super::companion;
use crate::sys::lease::Lease;
use crate::sys::named::{self, Identity};

/// Sweeps, the first time that it is called in a process.
pub(super) fn sweep_once() {
    static SWEPT: Once = Once::new();
    // What cannot be swept keeps nobody from anything else.
    SWEPT.call_once(|| drop(sweep()));
}

/// Removes what killed creators have left and nobody uses, and returns how many segments that were.
pub(super) fn sweep() -> io::Result<usize> {
    let entries = named::entries()?;
    let marks = entries.iter().map(|(name, _)| named::bytes_of(name)).filter(|name| companion::is_one(name));
    Ok(marks.filter(|mark| matches!(sweep_one(mark), Ok(true))).count())
}

/// Removes the file of one mark with all its names, unless somebody uses it or it is not ours.
fn sweep_one(mark: &[u8]) -> io::Result<bool> {
    if named::facts_at(mark)?.is_none_or(|facts| !facts.is_own || !facts.is_regular) {
        return Ok(false);
    }
    let file = named::open_without_waiting(mark)?;
    if !named::facts(&file)?.is_own {
        return Ok(false);
    }
    // From here to the end nobody else has it open, so its creator is dead, and nobody begins to
    // use it.
    let _lease = Lease::take(&file)?;
    let facts = named::facts(&file)?;
    if named::facts_at(mark)?.is_none_or(|there| there.identity != facts.identity) {
        // The creator has kept it, or unlinked it, since we had looked.
        return Ok(false);
    }
    if facts.names > 1 {
        remove_names(mark, facts.identity)?;
    }
    // The mark goes last: without it nobody would find what is left.
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

/// Whether an opened file has been swept before it was open: then it has no name any more.
pub(super) fn is_swept(file: &File) -> io::Result<bool> {
    Ok(named::facts(file)?.names == 0)
}
