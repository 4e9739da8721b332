//! Creating named memory: see the [module](super).

use std::fs::File;
use std::io;

use mp_core::raw::forks;

use super::companion::Companion;
use super::error::SharedMemoryError as Error;
use super::name::Name;
use super::sweep;
use crate::sys::named;

/// How often creation begins again if a sweep removes the file between the moment when the kernel
/// makes it and the moment when it opens it.
const ATTEMPTS: u32 = 16;

/// The right to remove the names. It belongs to this process, not to one that was forked from it.
#[derive(Debug)]
pub(super) struct Ownership {
    companion: Companion,
    /// The number of forks before that process.
    forks: u32,
}

impl Ownership {
    pub(super) fn is_here(&self) -> bool {
        self.forks == forks()
    }

    pub(super) fn companion(&self) -> &Companion {
        &self.companion
    }
}

/// A new segment.
pub(super) struct Created {
    pub(super) file: File,
    pub(super) name: Name,
    pub(super) ownership: Ownership,
}

/// Makes `size` bytes, lets `fill` write them, and then links their name.
pub(super) fn create(
    name: Option<&Name>,
    size: usize,
    fill: impl Fn(&File) -> io::Result<()>,
) -> Result<Created, Error> {
    let given = name.map_or("", Name::as_str);
    let failed = |source| Error::io("create", given)(source);
    for _ in 0..ATTEMPTS {
        let (companion, file) = Companion::create().map_err(Error::no_room("create", given, size))?;
        let made = named::allocate(&file, size as u64)
            .and_then(|()| fill(&file))
            .map_err(Error::no_room("create", given, size))
            .and_then(|()| give_name(&companion, name));
        match made {
            Ok(Some(name)) => {
                let ownership = Ownership { companion, forks: forks() };
                return Ok(Created { file, name, ownership });
            }
            Ok(None) => {}
            Err(error) => {
                // If this fails too, a sweep removes the file after this process has ended.
                let _ = named::facts(&file).and_then(|facts| companion.remove(facts.identity));
                return Err(error);
            }
        }
    }
    Err(failed(io::ErrorKind::NotFound.into()))
}

/// Links the name to the file of the mark. Returns `None` if the mark was removed.
fn give_name(companion: &Companion, given: Option<&Name>) -> Result<Option<Name>, Error> {
    let shown = given.map_or("", Name::as_str);
    let mut swept = false;
    loop {
        let name = match given {
            Some(name) => name.clone(),
            None => Name::random().map_err(Error::io("create", shown))?,
        };
        match named::link(companion.as_bytes(), name.as_bytes()) {
            Ok(()) => return Ok(Some(name)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(Error::io("create", shown)(error));
            }
            Err(_) if given.is_none() => {}
            // The creator of the existing file may have been killed after this process had swept.
            Err(_) if !swept => {
                let _ = sweep::sweep();
                swept = true;
            }
            Err(_) => return Err(Error::Exists { name: name.as_str().to_owned() }),
        }
    }
}
