//! Functions that take references.
//!
//! In the process that calls, the arguments are references, and are encoded through them. In the process that runs the function,
//! they are decoded into what owns them, which is [`ProcessFn::Args`], and lent to the function while it runs.

use serde::de::DeserializeOwned;

use crate::codec::EncodeError;
use crate::function::ProcessFn;
use crate::message::Message;

/// A function at least one of whose parameters is a reference. The attribute implements it.
pub trait Borrowing: ProcessFn {
    /// The parameters as they are written, packed like [`Args`](ProcessFn::Args).
    type Arguments<'a>;

    /// The form in which they are decoded, packed likewise.
    type Received: DeserializeOwned;

    /// Encodes the arguments, of which none is copied before.
    fn encode(arguments: &Self::Arguments<'_>) -> Result<Message, EncodeError>;

    /// Calls the function, here.
    fn run(arguments: Self::Arguments<'_>) -> Self::Output;

    /// Takes what was decoded.
    fn owned(received: Self::Received) -> Self::Args;
}
