//! What shared memory can be called.

use thiserror::Error;

use super::companion;

/// How long a file name can be.
const LONGEST: usize = 255;

/// Why something cannot be the name of shared memory.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum NameError {
    /// There is nothing in it, except perhaps the leading slash.
    #[error("it is empty")]
    Empty,
    /// It has a NUL in it, which would end it for the system.
    #[error("it has a NUL in it")]
    Nul,
    /// It has a slash in it, other than the leading one.
    #[error("it has a slash in it")]
    Slash,
    /// It is `.` or `..`, which are directories.
    #[error("it stands for a directory")]
    Directory,
    /// It is longer than 254 bytes: 255 with the leading slash.
    #[error("it has {length} bytes, and 254 is the most")]
    TooLong {
        /// Its length in bytes, without the leading slash.
        length: usize,
    },
    /// It has the form of the marks that this library puts beside the memory it makes: `mp-shm.`
    /// and 16 hexadecimal digits.
    #[error("names of that form are for this library itself")]
    Reserved,
}

/// A name that was checked, without the leading slash.
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

    /// Makes up a name that nobody else has thought of.
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
