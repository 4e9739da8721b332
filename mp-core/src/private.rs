//! What the expansion of the attribute uses. It is not part of the public interface and may change
//! at any time.

pub use linkme;
pub use mp_macros::beside;
pub use pollster::block_on;

pub use crate::boot::{ROLES, Role};
pub use crate::state::with_state;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::call::Call;
pub use crate::function::Borrowing;
pub use crate::referent::{EncodableReferent, Referent};
pub use crate::registry::{FUNCTIONS, Registration, START_HOOKS, StartHook};

/// Its name is the message for a function of an `impl`.
#[macro_export]
#[doc(hidden)]
macro_rules! move_the_function_out_of_the_impl {
    ([$($before:tt)*] $name:ident) => { $($before)* struct $name {} };
}
pub use move_the_function_out_of_the_impl;

/// A type that a parameter can have.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a parameter of a process function",
    label = "cannot be sent to another process",
    note = "a type of your own: add `#[derive(serde::Serialize, serde::Deserialize)]` to it and to the types inside it",
    note = "an error such as `std::io::Error`: return a `Result<_, String>`, by `.map_err(|error| error.to_string())`",
    note = "a file or a socket: send it as an `mp_core::Fd`",
    note = "what threads share, such as an `Arc`: an `mp_shm::Value` or `mp_shm::Shared`",
    note = "a closure or a trait object: an enum that says what to do"
)]
pub trait Argument: Serialize + DeserializeOwned {}

#[diagnostic::do_not_recommend]
impl<T: Serialize + DeserializeOwned> Argument for T {}

/// Makes a call that holds references.
pub fn borrowing_call<'a, F: Borrowing>(arguments: F::Arguments<'a>) -> Call<F, F::Arguments<'a>>
where
    F::Arguments<'a>: Serialize,
{
    Call::borrowing(arguments)
}

/// A type that a function can return.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be returned by a process function",
    label = "cannot be sent to another process",
    note = "a type of your own: add `#[derive(serde::Serialize, serde::Deserialize)]` to it and to the types inside it",
    note = "an error such as `std::io::Error`: return a `Result<_, String>`, by `.map_err(|error| error.to_string())`",
    note = "a file or a socket: send it as an `mp_core::Fd`",
    note = "what threads share, such as an `Arc`: an `mp_shm::Value` or `mp_shm::Shared`",
    note = "a closure or a trait object: an enum that says what to do"
)]
pub trait Output: Serialize + DeserializeOwned {}

#[diagnostic::do_not_recommend]
impl<T: Serialize + DeserializeOwned> Output for T {}

/// Makes the compiler point at a parameter's type that cannot be encoded.
pub const fn assert_argument<T: Argument>() {}

/// Makes the compiler point at the type behind a reference that cannot be encoded.
pub const fn assert_referent<T: EncodableReferent + ?Sized>() {}

/// Makes the compiler point at the type of a state that cannot be made.
pub const fn assert_state<T: Default + 'static>() {}

/// Makes the compiler point at a return type that cannot be encoded.
pub const fn assert_output<T: Output>() {}
