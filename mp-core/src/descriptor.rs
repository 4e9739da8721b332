//! Descriptors inside values.
//!
//! While a transport encodes a value, this module collects the descriptors in it, and each
//! descriptor writes its index into the bytes. While a transport decodes, this module offers the
//! descriptors that arrived, and each index takes one, once. Outside of both, serialising a
//! descriptor is an error.
//!
//! The state is per thread, because serde offers no other way to pass it to a `Serialize`. It is a
//! stack: a `Serialize` that itself sends something uses the part above, and the guards remove that
//! part again, even in a panic.

mod carried;
mod shared;

use std::cell::{Cell, RefCell};
use std::io;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};

use crate::codec::DecodeError;
use crate::sys;
pub use carried::Fd;
pub use shared::SharedFd;

/// What this thread is doing.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Activity {
    Nothing = 0,
    Encoding = 1,
    Decoding = 2,
}

/// The state of this thread, in one word: where the descriptors of the innermost value begin in
/// `DESCRIPTORS`, how many there are in all (31 bits each), and the activity.
///
/// Most values contain no descriptors, so beginning and ending a value touches nothing else. A
/// struct of three fields is copied 16 bytes at a time, and the processor waits where these were
/// written by smaller stores just before; that took a third of the time of encoding a number.
#[derive(Clone, Copy)]
struct State(u64);

const COUNT: u64 = (1 << 31) - 1;

impl State {
    const fn new(activity: Activity, start: usize, end: usize) -> Self {
        Self((activity as u64) << 62 | (start as u64 & COUNT) << 31 | (end as u64 & COUNT))
    }

    fn is(self, activity: Activity) -> bool {
        self.0 >> 62 == activity as u64
    }

    fn start(self) -> usize {
        (self.0 >> 31 & COUNT) as usize
    }

    fn end(self) -> usize {
        (self.0 & COUNT) as usize
    }

    /// With one more descriptor.
    fn longer(self) -> Self {
        Self(self.0 + 1)
    }
}

thread_local! {
    static STATE: Cell<State> = const { Cell::new(State::new(Activity::Nothing, 0, 0)) };
    /// The descriptors that were collected, or that are offered and not yet taken. It has no
    /// destructor, because destructors of other thread-locals may send and receive. Between two
    /// values it has no memory.
    static DESCRIPTORS: RefCell<ManuallyDrop<Vec<Option<SharedFd>>>> =
        const { RefCell::new(ManuallyDrop::new(Vec::new())) };
    /// How many bytes the outermost value that is being decoded has copied from memory files beside
    /// its own bytes.
    static COPIED: Cell<u64> = const { Cell::new(0) };
}

/// Counts `length` bytes beside those of the value that is being decoded, unless they and what was
/// counted before are more than `most` together. Then it returns false.
pub(crate) fn may_copy(length: u64, most: u64) -> bool {
    let all = COPIED.get().saturating_add(length);
    let may = all <= most;
    if may {
        COPIED.set(all);
    }
    may
}

/// Marks that a value is being encoded or decoded on this thread. Dropping it restores the outer
/// state.
struct Value {
    outer: State,
    /// Not `Send`, because the state belongs to this thread.
    _not_send: PhantomData<*const ()>,
}

impl Value {
    #[inline(always)]
    fn begin(activity: Activity, descriptors: Vec<SharedFd>) -> Self {
        let outer = STATE.get();
        let mut end = outer.end();
        if !descriptors.is_empty() {
            if outer.is(Activity::Nothing) {
                COPIED.set(0);
            }
            DESCRIPTORS.with_borrow_mut(|all| {
                all.extend(descriptors.into_iter().map(Some));
                end = all.len();
            });
        }
        STATE.set(State::new(activity, outer.end(), end));
        Self { outer, _not_send: PhantomData }
    }

    /// Takes the collected descriptors.
    #[inline(always)]
    fn finish(self) -> Vec<SharedFd> {
        let state = STATE.get();
        if state.start() == state.end() {
            Vec::new()
        } else {
            DESCRIPTORS.with_borrow_mut(|all| {
                let descriptors = all.drain(state.start()..).flatten().collect();
                free_if_empty(all);
                descriptors
            })
        }
    }
}

impl Drop for Value {
    #[inline]
    fn drop(&mut self) {
        let state = STATE.replace(self.outer);
        if state.start() != state.end() {
            DESCRIPTORS.with_borrow_mut(|all| {
                all.truncate(state.start());
                free_if_empty(all);
            });
        }
    }
}

fn free_if_empty(all: &mut Vec<Option<SharedFd>>) {
    if all.is_empty() {
        *all = Vec::new();
    }
}

/// A value is being encoded on this thread.
pub(crate) struct Collecting(Value);

impl Collecting {
    #[inline(always)]
    pub(crate) fn begin() -> Self {
        Self(Value::begin(Activity::Encoding, Vec::new()))
    }

    /// Tells whether nothing has been collected.
    #[inline(always)]
    pub(crate) fn is_empty(&self) -> bool {
        let state = STATE.get();
        state.start() == state.end()
    }

    #[inline(always)]
    pub(crate) fn finish(self) -> Vec<SharedFd> {
        self.0.finish()
    }
}

/// A value is being decoded on this thread.
pub(crate) struct Offering(Value);

impl Offering {
    #[inline(always)]
    pub(crate) fn begin(descriptors: Vec<SharedFd>) -> Self {
        Self(Value::begin(Activity::Decoding, descriptors))
    }

    #[inline(always)]
    pub(crate) fn finish(self) -> Result<(), DecodeError> {
        match self.0.finish().len() {
            0 => Ok(()),
            left => Err(DecodeError::new(format!(
                "the message carries {left} descriptors too many; do both ends use the same type?"
            ))),
        }
    }
}

/// Collects a duplicate of `fd`, and writes its index.
pub(crate) fn serialize<S: Serializer>(fd: BorrowedFd<'_>, serializer: S) -> Result<S::Ok, S::Error> {
    collect(|| sys::fd::duplicate(fd).map(SharedFd::from), serializer)
}

/// Collects what `make` returns, and writes its index.
fn collect<S: Serializer>(make: impl FnOnce() -> io::Result<SharedFd>, serializer: S) -> Result<S::Ok, S::Error> {
    let state = STATE.get();
    if !state.is(Activity::Encoding) {
        return Err(ser::Error::custom(
            "a descriptor can only be encoded inside a message between processes: as an argument, \
             as a result, or sent over a connection",
        ));
    }
    let made =
        make().map_err(|error| ser::Error::custom(format_args!("a descriptor could not be duplicated: {error}")))?;
    DESCRIPTORS.with_borrow_mut(|all| all.push(Some(made)));
    STATE.set(state.longer());
    let index = (state.end() - state.start()) as u32;
    index.serialize(serializer)
}

/// Reads an index, and takes that descriptor. It is duplicated if others share it, as in a message
/// that this process encoded itself.
pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<OwnedFd, D::Error> {
    take(deserializer)?.into_owned().map_err(de::Error::custom)
}

/// Reads an index, and takes that descriptor.
fn take<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SharedFd, D::Error> {
    let index = u32::deserialize(deserializer)?;
    let state = STATE.get();
    if !state.is(Activity::Decoding) {
        return Err(de::Error::custom("a descriptor can only be decoded inside a message between processes"));
    }
    DESCRIPTORS.with_borrow_mut(|all| {
        all.get_mut(state.start()..)
            .and_then(|offered| offered.get_mut(index as usize))
            .ok_or_else(|| de::Error::custom(format_args!("the message has no descriptor number {index}")))?
            .take()
            .ok_or_else(|| {
                de::Error::custom(format_args!("the value uses descriptor number {index} of the message twice"))
            })
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
    use super::{SharedFd, fd};
    use crate::codec::{DecodeError, Input};
    use crate::message;
    use serde::de::DeserializeOwned;
    use serde::{Deserialize, Serialize};
    use std::os::fd::OwnedFd;

    #[derive(Serialize, Deserialize)]
    struct Descriptor(#[serde(with = "fd")] OwnedFd);

    fn decode<T: DeserializeOwned>(bytes: &[u8], descriptors: Vec<SharedFd>) -> Result<T, DecodeError> {
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

        let missing = decode::<(Descriptor, Descriptor)>(&bytes, vec![null().0.into()]);
        assert!(missing.err().unwrap().to_string().contains("no descriptor number 1"));
        let surplus =
            decode::<(Descriptor, Descriptor)>(&bytes, vec![null().0.into(), null().0.into(), null().0.into()]);
        assert!(surplus.err().unwrap().to_string().contains("1 descriptors too many"));
        let twice = decode::<(Descriptor, Descriptor)>(&[0; 8], vec![null().0.into()]);
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
