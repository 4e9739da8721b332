//! The program, the environment and the arguments that a child starts with.

use std::env;
use std::ffi::{CString, OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use super::SpawnError;
use crate::boot::{self, MARKER, marker_value};
use crate::sys::credentials;
use crate::sys::program::{self, Program};

/// The changes that a child's environment makes to its parent's.
#[derive(Debug, Default)]
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
    pub(super) fn strings(&self) -> Result<Vec<CString>, SpawnError> {
        let mut strings = Vec::new();
        if !self.clear {
            for (name, value) in env::vars_os() {
                if name != MARKER && !self.changes.iter().any(|(changed, _)| *changed == name) {
                    strings.push(string(&name, &value)?);
                }
            }
        }
        for (place, (name, value)) in self.changes.iter().enumerate() {
            let overruled = self.changes[place + 1..].iter().any(|(later, _)| later == name);
            if let (Some(value), false) = (value, overruled || name == MARKER) {
                strings.push(string(name, value)?);
            }
        }
        Ok(strings)
    }
}

/// Returns the variable that makes a process a child.
pub(super) fn marker() -> Result<CString, SpawnError> {
    string(OsStr::new(MARKER), OsStr::new(&marker_value()))
}

fn string(name: &OsStr, value: &OsStr) -> Result<CString, SpawnError> {
    // The first byte may be `=`: some shells make such names.
    if name.is_empty() || name.as_bytes()[1..].contains(&b'=') {
        return Err(SpawnError::InvalidInput { what: "the name of an environment variable", value: name.to_owned() });
    }
    let mut text = Vec::with_capacity(name.len() + value.len() + 2);
    text.extend_from_slice(name.as_bytes());
    text.push(b'=');
    text.extend_from_slice(value.as_bytes());
    c_string("an environment variable", text)
}

/// Returns the parent's arguments with `title` in place of the first one, and the original first
/// one.
pub(super) fn arguments(
    title: impl FnOnce(&OsString) -> CString,
) -> Result<(Vec<CString>, Option<Vec<u8>>), SpawnError> {
    let mut arguments = env::args_os();
    let Some(program) = arguments.next() else { return Ok((Vec::new(), None)) };
    // Only the entry before `main` gets the address of the arguments, which it takes to restore the
    // first one.
    let restored = cfg!(all(feature = "auto-init", target_env = "gnu"));
    let mut strings = Vec::with_capacity(1 + arguments.len());
    strings.push(if restored { title(&program) } else { c_string("an argument", program.clone().into_vec())? });
    for argument in arguments {
        strings.push(c_string("an argument", argument.into_vec())?);
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
