//! Names of shared memory.

use thiserror::Error;

use super::companion;

/// The greatest length of a file name.
const LONGEST: usize = 255;

/// Why a name is not valid for shared memory.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum NameError {
    /// It is empty, apart from the leading slash.
    #[error("it is empty")]
    Empty,
    /// It contains a NUL.
    #[error("it contains a NUL")]
    Nul,
    /// It contains a slash that is not the first character.
    #[error("it contains a slash")]
    Slash,
    /// It is `.` or `..`, which are directories.
    #[error("it is the name of a directory")]
    Directory,
    /// It is longer than 254 bytes, or 255 with the leading slash.
    #[error("it has {length} bytes, more than 254")]
    TooLong {
        /// Its length in bytes, without the leading slash.
        length: usize,
    },
    /// It has the form of the marks that this library makes for its memory: `mp-shm.` and 16
    /// hexadecimal digits.
    #[error("names of that form are reserved for this library")]
    Reserved,
}

/// A checked name, without the leading slash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Name(String);

impl Name {
    /// Checks a name, with or without the leading slash.
    pub(crate) fn new(name: &str) -> Result<Self, NameError> {
        let name = name.strip_prefix('/').unwrap_or(name);
        match name {
            "" => Err(NameError::Empty),
            "." | ".." => Err(NameError::Directory),
            _ if name.contains('\0') => Err(NameError::Nul),
            _ if name.contains('/') => Err(NameError::Slash),
            _ if name.len() >= LONGEST => Err(NameError::TooLong { length: name.len() }),
            _ if companion::is_one(name.as_bytes()) => Err(NameError::Reserved),
            _ => Ok(Self(name.to_owned())),
        }
    }

    /// Makes a random name.
    pub(crate) fn random() -> std::io::Result<Self> {
        Ok(Self(format!("mp_{}", companion::digits()?)))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked() {
        for (name, error) in [
            ("", NameError::Empty),
            ("/", NameError::Empty),
            ("a\0b", NameError::Nul),
            ("a/b", NameError::Slash),
            ("//a", NameError::Slash),
            ("a/", NameError::Slash),
            (".", NameError::Directory),
            ("/..", NameError::Directory),
            ("mp-shm.0123456789abcdef", NameError::Reserved),
            (&"x".repeat(255), NameError::TooLong { length: 255 }),
        ] {
            assert_eq!(Name::new(name).unwrap_err(), error, "{name:?}");
        }
        let longest = "x".repeat(254);
        for name in ["a", ".a", "...", "ö ", "mp-shm.0123456789abcdeg", "mp-shm.0123456789ABCDEF", &longest] {
            assert_eq!(Name::new(name).unwrap().as_str(), name);
            assert_eq!(Name::new(&format!("/{name}")).unwrap().as_str(), name);
        }
    }

    #[test]
    fn made_up_names_are_valid_and_differ() {
        let [one, other] = [Name::random().unwrap(), Name::random().unwrap()];
        assert_ne!(one, other);
        assert_eq!(Name::new(one.as_str()).unwrap(), one);
    }
}
