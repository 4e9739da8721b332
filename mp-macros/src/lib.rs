//! The attribute `#[process_fn]` of `mp-core`, functions that can run in another process, and the
//! derive `ShmSafe` of `mp-shm`, types whose values can be in memory that several processes share.
//!
//! Use them as `mp_core::process_fn` and `mp_shm::ShmSafe`. What they make refers to those crates,
//! so this one is of no use alone.

mod args;
mod attributes;
mod docs;
mod errors;
mod expand;
mod function;
mod parameter;
mod qualifiers;
mod shm_safe;
mod types;

use proc_macro::TokenStream;

/// What the attribute makes, takes and refuses. Its examples are those of `mp_core::process_fn`:
/// this crate cannot depend on the one that its output needs.
///
/// # What is made
///
/// For a function `name` with parameters `A, B, …` that returns `R`:
///
/// - `name::call(a, b, …) -> Call<name>` packs the function and its arguments into a value that a
///   `Builder` or a pool takes. Nothing runs yet. With references among the arguments the call
///   holds them: `Call<name, (A, B, …)>`.
/// - `name::spawn(a, b, …) -> Result<Process<R>, SpawnError>` starts a process with default
///   settings that runs it.
/// - `impl ProcessFn for name`: `Args` is `()` without parameters, `A` with one, `(A, B, …)` with
///   more; `Output` is `R`, or `()` if the function returns nothing or never (`-> !`). For a
///   reference, `Args` has the type that owns the value.
/// - its registration, by which a child finds the function. Collecting them is the linker's work:
///   there is nothing to call and nothing that can be forgotten.
///
/// Attributes of the function stay with the function: `#[must_use]`, `#[track_caller]`,
/// `#[inline]`, lints, and attribute macros, whether they stand before this attribute or after it.
/// The type takes over its `#[cfg]`s, `#[deprecated]`, `#[doc(…)]` and the first paragraph of its
/// documentation (the rest would bring every example along twice).
///
/// # Arguments
///
/// - `#[process_fn(name = "stable.name")]` registers the function under this name instead of its
///   path, such as `my_crate::tasks::add`. Two functions of one executable cannot have the same
///   name. The path ends with the module, so two functions of one name *inside function bodies* of
///   one module need it. The compiler does not see that: it shows when the program runs, where the
///   first spawn, of whatever function, fails with an error that names both places.
/// - `#[process_fn(crate = path)]` says where `mp_core` is to be found, for crates that re-export
///   it. The default is `::mp_core`.
/// - `#[process_fn(executor = path)]`, on an `async fn` only, names the function that runs its
///   future to the end: anything that can be called with a future and returns its output, such as
///   `fn run<F: Future>(future: F) -> F::Output`.
///
/// # Parameters and return type
///
/// Up to twelve parameters, each of a type that is `Serialize + DeserializeOwned`, as is the return
/// type. A `Result` is a value like any other; its error has to be serialisable as well. A file or
/// a socket travels as an `mp_core::Fd<File>`, which an `Option` or a `Vec` can hold; ends of
/// connections are parameters as they are. The patterns are free: `call` and `spawn` take over
/// plain names and call the others `arg0`, `arg1`, … by position.
///
/// # References
///
/// A whole parameter can be a reference: `&T` to any type that could be a parameter itself, `&[T]`,
/// `&str`, `&Path`, `&OsStr` and `&CStr`. `call` and `spawn` take the reference then. What it
/// refers to is encoded as it stands, and is not copied for it; the bytes of a `&[u8]` are taken at
/// once instead of one by one. The other process owns the value that arrives (a `T`, `Vec<T>`,
/// `String`, `PathBuf`, `OsString`, `CString`), lends it to the function, and drops it afterwards.
/// So the lifetime is not written, or is `'_`: it cannot be `'static`, and there is no need for a
/// name, as nothing can be returned that borrows. Two references to one value are two values there.
///
/// # `async`
///
/// The future of an `async fn` runs to its end in the other process, on the thread on which another
/// function would run. It need not be `Send`. A small executor drives it, which only sleeps until
/// the future is woken: there are no timers, no input and output, and no tasks beside it. Futures
/// that need those need their runtime, which `executor` names. `Output` is the output of the
/// future; a panic in it is a panic of the function.
///
/// # Errors
///
/// What cannot work in another process does not compile, and the message says what to do instead:
///
/// - `&mut` references: take the value and return the changed one;
/// - references inside other types (`Option<&str>`: write `Option<String>`) and in the return type,
///   other borrowed types (`Cow<'_, str>`: write `Cow<'static, str>`), raw and function pointers:
///   they mean nothing in another process;
/// - `&dyn Trait` and `&impl Trait`: take a concrete type;
/// - generic functions, lifetime parameters among them, and `impl Trait`: each process has to know
///   the one function and its types by name;
/// - methods, and other functions in an `impl`: move the function out and take `self` as a
///   parameter;
/// - `unsafe`, `extern` and variadic functions: wrap them in an ordinary one;
/// - `#[cfg]` on a parameter: write one function per case;
/// - an `executor` for a function that is not `async`.
///
/// A type that cannot be encoded is rustc's own error, at that type; so is one that is more private
/// than the function, of which rustc would only warn without the attribute.
///
/// # Links in documentation
///
/// As there are two items of the name, rustdoc wants to know which one a link means: write
/// ``[`add()`]`` or ``[`add`](fn@add)`` for the function, ``[`add`](struct@add)`` for the type.
#[proc_macro_attribute]
pub fn process_fn(arguments: TokenStream, item: TokenStream) -> TokenStream {
    expand::process_fn(arguments.into(), item.into()).into()
}

/// What the derive makes, takes and refuses. Its examples are those of `mp_shm::ShmSafe`: this
/// crate cannot depend on the one that its output needs.
///
/// # What is made
///
/// `unsafe impl mp_shm::ShmSafe`, which is true of every type that passes the checks, so there is
/// nothing unsafe in using the derive. Its `LAYOUT` is a digest of the type's name, size and
/// alignment, of the values of its const parameters, and of each field's name, place (in a struct)
/// and own layout, or of each variant's name, discriminant and fields. Two types with another
/// order, another name or another type of one field are not taken for each other.
///
/// All-zero bytes are a value of a struct if they are one for each field, and of an enum with
/// `#[repr(C)]` or an integer such as `#[repr(u8)]` if they are one for each field of the variant
/// with the discriminant 0. Any bytes at all are a value of a struct if they are one for each
/// field.
///
/// # Types
///
/// Structs of every form, and enums of every form, also with explicit discriminants. Each type
/// parameter has to be `ShmSafe` itself: the implementation has that as a condition. Const
/// parameters and `where` clauses stay as they are.
///
/// Rust lays out a type without `#[repr(C)]` as it likes, the same in every process of one build.
/// For memory that programs of different builds share, give it one: for structs the layout notices
/// a difference, for the fields in an enum's variants it does not.
///
/// # Arguments
///
/// - `#[shm_safe(invariants)]` says that the fields alone do not tell which bytes are a value:
///   neither zeros nor any other bytes are taken for one. A type whose own unsafe code relies on
///   what its constructor has checked needs it. The module is part of the name of such a type:
///   memory of one in another module or crate is of another type, even if it is put together alike.
/// - `#[shm_safe(crate = path)]` says where `mp_shm` is to be found, for crates that re-export it.
///   The default is `::mp_shm`.
///
/// # Errors
///
/// What means nothing in another process, or cannot be changed from there, does not compile, and
/// the message says what to do instead:
///
/// - references, raw pointers, function pointers, and what has its values elsewhere: `Vec`,
///   `String`, `Box`, `Rc`, `Arc`, `HashMap` and the like; also inside tuples, arrays, `Option`s
///   and locks;
/// - slices, `dyn Trait` and `impl Trait`;
/// - `Cell`, `RefCell` and the locks of std, which know the threads of one process only;
/// - unions, and types with lifetime parameters;
/// - types that implement `Drop`: nobody drops what is in shared memory, as no process knows that
///   it is the last one to use it.
///
/// A field of another type that is not `ShmSafe` is rustc's own error, at that field. So are other
/// fields than those that the derive has seen, where an attribute that comes after it changes them.
/// One that changes the representation has to come before it.
///
/// These checks know the types of std by their names: `Vec<T>` and `std::vec::Vec<T>`, but not
/// `another::Vec<T>`, which may be a type of your own. Write one that is in the same module as
/// `self::Vec<T>`.
#[proc_macro_derive(ShmSafe, attributes(shm_safe))]
pub fn derive_shm_safe(item: TokenStream) -> TokenStream {
    shm_safe::derive(item.into()).into()
}
