//! The trait that the attribute implements.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// A function that can run in another process.
///
/// [`#[process_fn]`](macro@crate::process_fn) implements it on a type that has the function's name.
/// Do not implement it by hand: only the attribute registers a function, and a child finds only
/// registered functions.
pub trait ProcessFn: Sized + 'static {
    /// The name of the function: its path, or the name from `name = ".."`.
    const NAME: &'static str;
    /// What a child finds the function by: the name and the place in the source, or the name from
    /// `name = ".."` alone. So two versions of a crate can be in one program, and the bodies of two
    /// functions can each contain one of the same name.
    const ID: &'static str = Self::NAME;
    /// The types of the parameters: `()`, the one type, or a tuple. For a reference it is the owned
    /// type: `String` for `&str`, `Vec<T>` for `&[T]`, `T` for `&T`.
    type Args: Serialize + DeserializeOwned;
    /// The function's return type. For an `async` function it is the output of its future.
    type Output: Serialize + DeserializeOwned;
    /// Calls the function in this process. If it is `async`, this runs its future to the end.
    fn invoke(args: Self::Args) -> Self::Output;
}

/// A function with at least one parameter that is a reference. The attribute implements it.
///
/// The calling process encodes the arguments through the references, without copying them first.
/// The process that runs the function decodes the owned types, [`ProcessFn::Args`], which have the
/// same encoded form.
pub trait Borrowing: ProcessFn {
    /// The types of the parameters as written, in the same form as [`Args`](ProcessFn::Args).
    type Arguments<'a>;

    /// Calls the function in this process.
    fn run(arguments: Self::Arguments<'_>) -> Self::Output;
}
