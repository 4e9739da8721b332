//! The program, the environment, the arguments and the directory that a child starts with.

use std::env;
use std::ffi::{CStr, CString, OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::SpawnError;
use crate::boot::{self, MARKER, marker_value};
use crate::sys::credentials;
use crate::sys::program::{self, Program};
use crate::sys::spawn;
use crate::sys::strings::Strings;

/// The changes that a child's environment makes to its parent's.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Environment {
    clear: bool,
    /// In the order of the calls: the last change of a name counts. `None` removes the variable.
    changes: Vec<(OsString, Option<OsString>)>,
}

impl Environment {
    pub(super) fn set(&mut self, name: OsString, value: OsString) {
        self.changes.push((name, Some(value)));
    }

    pub(super) fn remove(&mut self, name: OsString) {
        self.changes.push((name, None));
    }

    pub(super) fn clear(&mut self) {
        self.clear = true;
        self.changes.clear();
    }

    /// Returns the child's environment as strings `NAME=value`.
    pub(super) fn strings(&self) -> Result<Strings, SpawnError> {
        let mut strings = Strings::default();
        if !self.clear {
            for (name, value) in env::vars_os() {
                if name != MARKER && !self.changes.iter().any(|(changed, _)| *changed == name) {
                    add_variable(&mut strings, &name, &value)?;
                }
            }
        }
        for (place, (name, value)) in self.changes.iter().enumerate() {
            let overruled = self.changes[place + 1..].iter().any(|(later, _)| later == name);
            if let (Some(value), false) = (value, overruled || name == MARKER) {
                add_variable(&mut strings, name, value)?;
            }
        }
        Ok(strings)
    }
}

/// Adds the variable that makes a process a child.
pub(super) fn add_marker(strings: &mut Strings) -> Result<(), SpawnError> {
    add_variable(strings, OsStr::new(MARKER), OsStr::new(&marker_value()))
}

fn add_variable(strings: &mut Strings, name: &OsStr, value: &OsStr) -> Result<(), SpawnError> {
    // The first byte may be `=`: some shells make such names.
    if name.is_empty() || name.as_bytes()[1..].contains(&b'=') {
        return Err(SpawnError::InvalidInput { what: "the name of an environment variable", value: name.to_owned() });
    }
    add(strings, "an environment variable", &[name.as_bytes(), b"=", value.as_bytes()])
}

fn add(strings: &mut Strings, what: &'static str, parts: &[&[u8]]) -> Result<(), SpawnError> {
    let invalid = |bytes| SpawnError::InvalidInput { what, value: OsString::from_vec(bytes) };
    strings.push(parts).map_err(invalid)
}

/// Returns the parent's arguments with `title` in place of the first one, and the original first
/// one.
pub(super) fn arguments(title: impl FnOnce(&OsString) -> CString) -> Result<(Strings, Option<Vec<u8>>), SpawnError> {
    let (mut strings, mut arguments) = (Strings::default(), env::args_os());
    let Some(program) = arguments.next() else { return Ok((strings, None)) };
    // Only the entry before `main` gets the address of the arguments, which it takes to restore the
    // first one.
    let restored = cfg!(all(feature = "auto-init", target_env = "gnu"));
    let title = if restored { title(&program).into_bytes() } else { program.as_bytes().to_owned() };
    add(&mut strings, "an argument", &[&title])?;
    for argument in arguments {
        add(&mut strings, "an argument", &[argument.as_bytes()])?;
    }
    Ok((strings, restored.then(|| program.into_vec())))
}

/// Returns the path of the program that a child runs.
pub(super) fn program(given: Option<PathBuf>) -> Result<CString, SpawnError> {
    if credentials::makes_privileged_children() {
        return Err(SpawnError::MixedUsers);
    }
    match given {
        Some(path) => c_string("the path of a program", path.into_os_string().into_vec()),
        None => match program::of_children() {
            Program::Library(library) if !boot::is_called_by_host() => Err(SpawnError::Library { library }),
            Program::Same | Program::Library(_) => Ok(program::SAME.to_owned()),
            Program::At(path) => Ok(path),
            Program::Gone(program) => Err(SpawnError::ProgramGone { program }),
        },
    }
}

pub(super) fn c_string(what: &'static str, bytes: Vec<u8>) -> Result<CString, SpawnError> {
    CString::new(bytes).map_err(|error| SpawnError::InvalidInput { what, value: OsString::from_vec(error.into_vec()) })
}

/// Neither posix_spawn nor a process without free descriptors says what is wrong with a directory,
/// so this checks whether it can be entered.
pub(super) fn what_failed(directory: Option<&CStr>, (action, source): spawn::Failure) -> SpawnError {
    match directory.map(|directory| Path::new(OsStr::from_bytes(directory.to_bytes()))) {
        Some(directory) if directory.join(".").metadata().is_err() => {
            SpawnError::Setting { setting: format!("the working directory {directory:?}"), source }
        }
        _ => SpawnError::Io { action, source },
    }
}
