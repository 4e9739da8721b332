//! Named memory inside messages: its name and its descriptor.

use std::fs::File;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::memory::{SharedMemory, checked};
use crate::sys::named;

#[derive(Serialize)]
struct SentMemory<'a> {
    name: &'a str,
    #[serde(serialize_with = "mp_core::fd::serialize")]
    file: &'a File,
}

#[derive(Deserialize)]
struct ReceivedMemory {
    name: String,
    #[serde(with = "mp_core::fd")]
    file: File,
}

impl Serialize for SharedMemory {
    /// Outside of a message between processes this is an error.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        SentMemory { name: self.name(), file: self.file() }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for SharedMemory {
    /// Dropping the received value does not unlink the name. It is an error if the descriptor is
    /// not memory that can be read and written.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let ReceivedMemory { name, file } = ReceivedMemory::deserialize(deserializer)?;
        let name = checked(&name).map_err(de::Error::custom)?;
        match named::is_writable_memory(&file) {
            Ok(true) => Self::of_file(name, file).map_err(de::Error::custom),
            Ok(false) => {
                Err(de::Error::custom(format_args!("what was sent as {:?} is not shared memory", name.as_str())))
            }
            Err(error) => Err(de::Error::custom(format_args!("what was sent as {:?}: {error}", name.as_str()))),
        }
    }
}
