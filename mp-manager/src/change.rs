//! Functions that change a value in the server.

use mp_core::ProcessFn;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A process function that changes a value of type `V`: `fn(old: Option<V>, argument: A) ->
/// (Option<V>, R)`.
///
/// Every function of this form with the attribute `#[process_fn]` implements it.
pub trait Change<V>: ProcessFn {
    /// The type of the second parameter.
    type Argument: Serialize;
    /// The type of the second part of what the function returns.
    type Result: DeserializeOwned;
}

impl<F, V, A, R> Change<V> for F
where
    F: ProcessFn<Args = (Option<V>, A), Output = (Option<V>, R)>,
    A: Serialize,
    R: DeserializeOwned,
{
    type Argument = A;
    type Result = R;
}
