//! The trait that the attribute implements.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// A function that can run in another process.
///
/// [`#[process_fn]`](macro@crate::process_fn) implements it on a type that has the function's name.
/// There is no reason to implement it by hand: a function that is not registered, which only the
/// attribute does, cannot be found in the child.
pub trait ProcessFn: Sized + 'static {
    /// The name under which a child finds the function: its path, or what `name = ".."` says.
    const NAME: &'static str;
    /// The parameters: `()`, the one type, or a tuple. For a reference it is the type that owns the
    /// value: `String` for `&str`, `Vec<T>` for `&[T]`, `T` for `&T`.
    type Args: Serialize + DeserializeOwned;
    /// What the function returns; of an `async` function, what its future gives.
    type Output: Serialize + DeserializeOwned;
    /// Calls the function, here; the future of an `async` one is run to its end.
    fn invoke(args: Self::Args) -> Self::Output;
}

/// A function at least one of whose parameters is a reference. The attribute implements it.
///
/// The process that calls lends the arguments, and encodes them through the references, so that
/// none is copied before. The process that runs the function decodes what owns them,
/// [`ProcessFn::Args`], whose encoded form is the same.
pub trait Borrowing: ProcessFn {
    /// The parameters as they are written, packed like [`Args`](ProcessFn::Args).
    type Arguments<'a>;

    /// Calls the function, here.
    fn run(arguments: Self::Arguments<'_>) -> Self::Output;
}
