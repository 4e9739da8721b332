//! A descriptor that several values and messages have together.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::sys::fd::duplicate;

/// A descriptor that a value shares with the messages that contain the value, for types whose
/// values are sent often.
///
/// A message that is encoded holds a reference to the descriptor and not a duplicate. So thousands
/// of messages can wait, for example in the queue of a pool, and take one descriptor of this
/// process. The descriptor is closed with the last reference.
///
/// # Examples
///
/// ```
/// use std::os::fd::OwnedFd;
///
/// use mp_core::raw::{Message, SharedFd};
///
/// let file: SharedFd = OwnedFd::from(tempfile::tempfile()?).into();
/// let waiting: Vec<_> = (0..5_000).map(|_| Message::encode(&file)).collect::<Result<_, _>>()?;
/// # assert_eq!(waiting.len(), 5_000);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct SharedFd(Arc<OwnedFd>);

impl SharedFd {
    /// Returns the descriptor, or a duplicate if others share it.
    ///
    /// # Errors
    ///
    /// Fails if it has to be duplicated and no descriptor is free.
    pub fn into_owned(self) -> io::Result<OwnedFd> {
        Arc::try_unwrap(self.0).or_else(|shared| duplicate(shared.as_fd()))
    }
}

impl From<OwnedFd> for SharedFd {
    fn from(fd: OwnedFd) -> Self {
        Self(Arc::new(fd))
    }
}

impl From<Arc<OwnedFd>> for SharedFd {
    fn from(fd: Arc<OwnedFd>) -> Self {
        Self(fd)
    }
}

impl AsFd for SharedFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Serialize for SharedFd {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        super::collect(|| Ok(self.clone()), serializer)
    }
}

impl<'de> Deserialize<'de> for SharedFd {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        super::take(deserializer)
    }
}
