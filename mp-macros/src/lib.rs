//! The attribute `#[process_fn]` of `mp-core`: functions that can run in another process.
//!
//! Use it as `mp_core::process_fn`. What it makes refers to `mp_core`, so this crate is of no use alone.

mod args;
mod attributes;
mod docs;
mod errors;
mod expand;
mod function;
mod parameter;
mod qualifiers;
mod types;

use proc_macro::TokenStream;

/// Makes a function one that can run in another process.
///
/// The function stays as it is and can be called as before. Beside it the attribute puts a type of the same
/// name and visibility, which stands for the function wherever it is to run elsewhere. Rust keeps functions
/// and types apart, so the two do not collide, and one `use` imports both; only another *type* of that name
/// in the same place would.
///
/// ```text
/// use mp_core::process_fn;
///
/// #[process_fn]
/// fn add(a: u64, b: u64) -> u64 {
///     a + b
/// }
///
/// add(1, 2);                     // an ordinary call, in this process
/// add::spawn(1, 2)?.join()?;     // in a new process
/// let call = add::call(1, 2);    // the function and its arguments, as a value
/// pool.map::<add>(pairs);        // the function, as a type
/// ```
///
/// (The examples that run are those of `mp_core` and of `mp_core::Call`: this crate
/// cannot depend on the one that its output needs.)
///
/// # What is made
///
/// For a function `name` with parameters `A, B, …` that returns `R`:
///
/// - `name::call(a, b, …) -> Call<name>` packs the function and its arguments into a value that a `Builder` or a
///   pool takes. Nothing runs yet.
/// - `name::spawn(a, b, …) -> Result<Process<R>, SpawnError>` starts a process with default settings that runs it.
/// - `impl ProcessFn for name`: `Args` is `()` without parameters, `A` with one, `(A, B, …)` with more; `Output` is
///   `R`, or `()` if the function returns nothing or never (`-> !`).
/// - its registration, by which a child finds the function. Collecting them is the linker's work: there is nothing
///   to call and nothing that can be forgotten.
///
/// Attributes of the function stay with the function. The type takes over its `#[cfg]`s, `#[deprecated]`,
/// `#[doc(…)]` and the first paragraph of its documentation (the rest would bring every example along twice).
///
/// # Arguments
///
/// - `#[process_fn(name = "stable.name")]` registers the function under this name instead of its path, such as
///   `my_crate::tasks::add`. Two functions of one executable cannot have the same name. The path ends with the
///   module, so two functions of one name *inside function bodies* of one module need it.
/// - `#[process_fn(crate = path)]` says where `mp_core` is to be found, for crates that re-export it. The default is
///   `::mp_core`.
///
/// # Parameters and return type
///
/// Up to twelve parameters, each of a type that is `Serialize + DeserializeOwned`, as is the return type. The
/// patterns are free: `call` and `spawn` take over plain names and call the others `arg0`, `arg1`, … by position.
///
/// # Errors
///
/// What cannot work in another process does not compile, and the message says what to do instead:
///
/// - references (`&str`: take a `String`), other borrowed types (`Cow<'_, str>`: write `Cow<'static, str>`), raw
///   and function pointers: they mean nothing in another process;
/// - generic functions and `impl Trait`: each process has to know the one function and its types by name;
/// - methods, and other functions in an `impl`: move the function out and take `self` as a parameter;
/// - `async`, `unsafe`, `extern` and variadic functions: wrap them in an ordinary one;
/// - `#[cfg]` on a parameter: write one function per case.
///
/// A type that cannot be encoded is rustc's own error, at that type; so is one that is more private than the
/// function, of which rustc would only warn without the attribute.
///
/// # Links in documentation
///
/// As there are two items of the name, rustdoc wants to know which one a link means: write ``[`add()`]`` or
/// ``[`add`](fn@add)`` for the function, ``[`add`](struct@add)`` for the type.
#[proc_macro_attribute]
pub fn process_fn(arguments: TokenStream, item: TokenStream) -> TokenStream {
    expand::process_fn(arguments.into(), item.into()).into()
}
