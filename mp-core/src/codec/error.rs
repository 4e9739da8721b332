//! Why a value could not be encoded or decoded.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A value could not be encoded.
///
/// A `Serialize` implementation returned an error, the encoded value is longer than
/// [`message_limit`](crate::message_limit), or a descriptor could not be duplicated.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
// One pointer wide, because every element of every value returns a `Result` with it.
pub struct EncodeError(Box<EncodeProblem>);

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
struct EncodeProblem {
    message: String,
    too_large: bool,
}

impl EncodeError {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self(Box::new(EncodeProblem { message: message.into(), too_large: false }))
    }

    pub(crate) fn too_large(limit: u64) -> Self {
        let message =
            format!("the encoded value is longer than the limit of {limit} bytes; raise it with `set_message_limit`");
        Self(Box::new(EncodeProblem { message, too_large: true }))
    }

    /// Puts `what` before the text, as in `arguments: ..`.
    pub(crate) fn about(mut self, what: &str) -> Self {
        self.0.message = format!("{what}: {}", self.0.message);
        self
    }

    /// Tells whether the encoded value was longer than the limit.
    pub fn is_too_large(&self) -> bool {
        self.0.too_large
    }
}

impl fmt::Debug for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("EncodeError").field(&self.0.message).finish()
    }
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl std::error::Error for EncodeError {}

impl serde::ser::Error for EncodeError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(message.to_string())
    }
}

/// The bytes or descriptors of a message are not a value of the expected type.
///
/// Possible causes are that a `Deserialize` implementation returned an error, that the two ends of
/// a connection have different types, or that the sender is damaged or hostile.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
// As narrow as `EncodeError`, for the same reason.
pub struct DecodeError(Box<DecodeProblem>);

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
struct DecodeProblem {
    message: String,
}

impl DecodeError {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self(Box::new(DecodeProblem { message: message.into() }))
    }

    /// Puts `what` before the text, as in `arguments: ..`.
    pub(crate) fn about(mut self, what: &str) -> Self {
        self.0.message = format!("{what}: {}", self.0.message);
        self
    }
}

impl fmt::Debug for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("DecodeError").field(&self.0.message).finish()
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl std::error::Error for DecodeError {}

/// Converts an error that bincode returns for bytes that are not a primitive.
#[cold]
pub(super) fn refused(error: bincode::error::DecodeError) -> DecodeError {
    use bincode::error::DecodeError as Failure;
    DecodeError::new(match error {
        Failure::UnexpectedEnd { additional } => {
            format!("the message ends {additional} bytes too early; do both ends use the same type?")
        }
        Failure::InvalidBooleanValue(other) => format!("{other} is not a bool"),
        Failure::InvalidCharEncoding(bytes) => format!("{bytes:02x?} is not a char"),
        Failure::OtherString(text) => text,
        other => other.to_string(),
    })
}

impl serde::de::Error for DecodeError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(message.to_string())
    }
}
