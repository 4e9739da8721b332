//! Descriptors inside values.
//!
//! While a transport encodes a value, this module collects the descriptors in it, and each
//! descriptor writes its index into the bytes. While a transport decodes, this module offers the
//! descriptors that arrived, and each index takes one, once. Outside of both, serialising a
//! descriptor is an error.
//!
//! The state is per thread, because serde offers no other way to pass it to a `Serialize`. In
//! effect it is a stack: beginning saves the outer state, and dropping the guard restores it. So a
//! `Serialize` that itself sends something, or panics, does no harm.

mod carried;

use std::cell::RefCell;
use std::marker::PhantomData;
use std::mem;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};

use crate::codec::DecodeError;
use crate::sys;
pub use carried::Fd;

enum State {
    Outside,
    Collecting(Vec<OwnedFd>),
    Offering(Vec<Option<OwnedFd>>),
}

thread_local! {
    static STATE: RefCell<State> = const { RefCell::new(State::Outside) };
}

/// Restores the outer state when the inner one ends, even by a panic.
struct Restore {
    outer: State,
    /// Not `Send`, because the state belongs to this thread.
    _not_send: PhantomData<*const ()>,
}

impl Restore {
    fn enter(inner: State) -> Self {
        Self { outer: STATE.replace(inner), _not_send: PhantomData }
    }

    fn leave(&mut self) -> State {
        STATE.replace(mem::replace(&mut self.outer, State::Outside))
    }
}

/// A value is being encoded on this thread.
pub(crate) struct Collecting(Option<Restore>);

impl Collecting {
    pub(crate) fn begin() -> Self {
        Self(Some(Restore::enter(State::Collecting(Vec::new()))))
    }

    pub(crate) fn finish(mut self) -> Vec<OwnedFd> {
        match self.0.take().map(|mut restore| restore.leave()) {
            Some(State::Collecting(descriptors)) => descriptors,
            _ => Vec::new(),
        }
    }
}

impl Drop for Collecting {
    fn drop(&mut self) {
        if let Some(mut restore) = self.0.take() {
            restore.leave();
        }
    }
}

/// A value is being decoded on this thread.
pub(crate) struct Offering(Option<Restore>);

impl Offering {
    pub(crate) fn begin(descriptors: Vec<OwnedFd>) -> Self {
        Self(Some(Restore::enter(State::Offering(descriptors.into_iter().map(Some).collect()))))
    }

    pub(crate) fn finish(mut self) -> Result<(), DecodeError> {
        let left = match self.0.take().map(|mut restore| restore.leave()) {
            Some(State::Offering(descriptors)) => descriptors.iter().flatten().count(),
            _ => 0,
        };
        match left {
            0 => Ok(()),
            left => Err(DecodeError::new(format!(
                "the message carries {left} descriptors too many; do both ends use the same type?"
            ))),
        }
    }
}

impl Drop for Offering {
    fn drop(&mut self) {
        if let Some(mut restore) = self.0.take() {
            restore.leave();
        }
    }
}

/// Collects a duplicate of `fd`, and writes its index.
pub(crate) fn serialize<S: Serializer>(fd: BorrowedFd<'_>, serializer: S) -> Result<S::Ok, S::Error> {
    let index = STATE.with_borrow_mut(|state| match state {
        State::Collecting(descriptors) => {
            let duplicate = sys::fd::duplicate(fd)
                .map_err(|error| ser::Error::custom(format_args!("a descriptor could not be duplicated: {error}")))?;
            descriptors.push(duplicate);
            Ok(descriptors.len() as u32 - 1)
        }
        _ => Err(ser::Error::custom(
            "a descriptor can only be encoded inside a message between processes: as an argument, \
             as a result, or sent over a connection",
        )),
    })?;
    index.serialize(serializer)
}

/// Reads an index, and takes that descriptor.
pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<OwnedFd, D::Error> {
    let index = u32::deserialize(deserializer)?;
    STATE.with_borrow_mut(|state| match state {
        State::Offering(descriptors) => descriptors
            .get_mut(index as usize)
            .ok_or_else(|| de::Error::custom(format_args!("the message has no descriptor number {index}")))?
            .take()
            .ok_or_else(|| {
                de::Error::custom(format_args!("the value uses descriptor number {index} of the message twice"))
            }),
        _ => Err(de::Error::custom("a descriptor can only be decoded inside a message between processes")),
    })
}

/// Sends anything that owns a descriptor inside a value: `#[serde(with = "mp_core::fd")]`.
///
/// It works for `File`, `TcpStream`, `UnixStream`, `OwnedFd` and every other type that is `AsFd +
/// From<OwnedFd>`. The receiver gets its own descriptor of the same open file. The sender's stays
/// open until it is dropped. Nothing checks the kind of the file: a receiver that does not trust
/// the sender has to.
///
/// The attribute is for a field of exactly such a type. Use the type [`Fd`](crate::Fd) for a
/// parameter, a result or a message that is a descriptor, and for an `Option` or a collection of
/// them.
///
/// # Errors
///
/// Encoding fails outside of a message between processes, and if this process has no free
/// descriptor.
///
/// # Process death
///
/// If every process that could receive a message dies, the kernel closes the descriptors in it.
///
/// # Examples
///
/// ```
/// use std::fs::File;
/// use std::io::{Read, Seek, Write};
///
/// use mp_core::process_fn;
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize)]
/// struct Log(#[serde(with = "mp_core::fd")] File);
///
/// #[process_fn]
/// fn greet(mut log: Log) {
///     log.0.write_all(b"hello from the child").unwrap();
/// }
///
/// let mut file = tempfile::tempfile()?;
/// greet::spawn(Log(file.try_clone()?))?.join()?;
///
/// let mut text = String::new();
/// file.rewind()?;
/// file.read_to_string(&mut text)?;
/// assert_eq!(text, "hello from the child");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub mod fd {
    use super::*;

    /// Serialises the descriptor of `value`.
    ///
    /// # Errors
    ///
    /// Fails outside of a message between processes, and if no descriptor is free.
    pub fn serialize<T: AsFd, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
        super::serialize(value.as_fd(), serializer)
    }

    /// Deserialises a descriptor and makes a `T` from it.
    ///
    /// # Errors
    ///
    /// Fails outside of a message between processes, and if the message does not contain the
    /// descriptor.
    pub fn deserialize<'de, T: From<OwnedFd>, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
        super::deserialize(deserializer).map(T::from)
    }
}

#[cfg(test)]
mod tests {
    use super::fd;
    use crate::codec::{DecodeError, Input};
    use crate::message;
    use serde::de::DeserializeOwned;
    use serde::{Deserialize, Serialize};
    use std::os::fd::OwnedFd;

    #[derive(Serialize, Deserialize)]
    struct Descriptor(#[serde(with = "fd")] OwnedFd);

    fn decode<T: DeserializeOwned>(bytes: &[u8], descriptors: Vec<OwnedFd>) -> Result<T, DecodeError> {
        message::decode(Input::whole(&mut bytes.to_vec()), descriptors)
    }

    fn null() -> Descriptor {
        Descriptor(std::fs::File::open("/dev/null").unwrap().into())
    }

    #[test]
    fn a_surplus_a_missing_and_a_doubled_descriptor_are_errors() {
        let mut bytes = Vec::new();
        let descriptors = message::encode_into(&(null(), null()), &mut bytes).unwrap();
        assert_eq!(descriptors.len(), 2);
        decode::<(Descriptor, Descriptor)>(&bytes, descriptors).unwrap();

        let missing = decode::<(Descriptor, Descriptor)>(&bytes, vec![null().0]);
        assert!(missing.err().unwrap().to_string().contains("no descriptor number 1"));
        let surplus = decode::<(Descriptor, Descriptor)>(&bytes, vec![null().0, null().0, null().0]);
        assert!(surplus.err().unwrap().to_string().contains("1 descriptors too many"));
        let twice = decode::<(Descriptor, Descriptor)>(&[0; 8], vec![null().0]);
        assert!(twice.err().unwrap().to_string().contains("descriptor number 0 of the message twice"));
    }

    #[test]
    fn a_descriptor_is_refused_outside_a_transport_even_after_one() {
        let mut bytes = Vec::new();
        message::encode_into(&null(), &mut bytes).unwrap();
        let error = serde_json::to_string(&null()).unwrap_err();
        assert!(error.to_string().contains("only be encoded inside a message"));
    }
}
