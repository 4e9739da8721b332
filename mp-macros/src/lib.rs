//! The attribute `#[process_fn]` of `mp-core`, for functions that can run in another process, and
//! the derive `ShmSafe` of `mp-shm`, for types whose values can be in shared memory; and the
//! attribute `#[shared]` of `mp-manager`, for types whose values live in a server.
//!
//! Use them as `mp_core::process_fn`, `mp_shm::ShmSafe` and `mp_manager::shared`. Their output
//! refers to those crates, so this crate is useless alone.

mod args;
mod attributes;
mod docs;
mod errors;
mod expand;
mod function;
mod on_start;
mod parameter;
mod qualifiers;
mod shared;
mod shm_safe;
mod slice;
mod types;

use proc_macro::TokenStream;

/// The reference of the attribute. `mp_core::process_fn` has the examples, because this crate
/// cannot depend on `mp_core`.
///
/// # Output
///
/// For a function `name` with parameters `A, B, …` that returns `R`:
///
/// - `name::call(a, b, …) -> Call<name>` returns the function and its arguments as a value, which a
///   `Builder` or a pool can run. If some arguments are references, the call holds them:
///   `Call<name, (A, B, …)>`.
/// - `name::spawn(a, b, …) -> Result<Process<R>, SpawnError>` starts a process with default
///   settings that runs the function.
/// - `impl ProcessFn for name`: `Args` is `()` without parameters, `A` with one, `(A, B, …)` with
///   more; `Output` is `R`, or `()` if the function returns nothing or never (`-> !`). For a
///   reference, `Args` contains the owned type.
/// - a registration, by which a child finds the function. The linker collects the registrations, so
///   you call nothing to register a function.
///
/// The function keeps its attributes: `#[must_use]`, `#[track_caller]`, `#[inline]`, lints, and
/// attribute macros before or after this attribute. The type gets copies of its `#[cfg]`s,
/// `#[deprecated]`, `#[doc(…)]` and of the first paragraph of its documentation. (With the rest,
/// every example would run twice.)
///
/// # Arguments
///
/// - `#[process_fn(name = "stable.name")]` registers the function under this name instead of its
///   path, such as `my_crate::tasks::add`. Two functions of one executable cannot have the same
///   name. The path does not include an enclosing function, so two functions of one name *inside
///   function bodies* of one module need this argument. The compiler does not detect the conflict.
///   When the program runs, every spawn fails with an error that names both places.
/// - `#[process_fn(crate = path)]` gives the path of `mp_core`, for crates that re-export it. The
///   default is `::mp_core`.
/// - `#[process_fn(executor = path)]`, only for an `async fn`, names the function that runs its
///   future to the end. It takes a future and returns the output, such as `fn run<F:
///   Future>(future: F) -> F::Output`.
///
/// - `#[process_fn(state = parameter)]` says that this parameter, a `&mut State`, is not sent: see
///   below.
///
/// # Parameters and return type
///
/// There can be up to twelve parameters. Their types and the return type implement `Serialize +
/// DeserializeOwned`. A `Result` is a value like any other, so its error has to be serialisable as
/// well. A file or a socket is sent as an `mp_core::Fd<File>`, which can be in an `Option` or a
/// `Vec`. Ends of connections can be parameters directly. Parameters can be any patterns: `call`
/// and `spawn` use the plain names, and call the others `arg0`, `arg1`, … by position.
///
/// # References
///
/// A whole parameter can be a reference: `&T` to any type that could be a parameter itself, `&[T]`,
/// `&str`, `&Path`, `&OsStr` and `&CStr`. Then `call` and `spawn` take the reference, and encode
/// the value behind it without a copy. The other process owns the received value (a `T`, `Vec<T>`,
/// `String`, `PathBuf`, `OsString`, `CString`), lends it to the function, and drops it afterwards.
/// So the reference has no lifetime, or `'_`. It cannot be `'static`, and needs no name, because
/// the function cannot return anything that borrows. Two references to the same value become two
/// values.
///
/// # State
///
/// With `state = parameter`, the process that runs the function lends it a value that it keeps
/// between calls. `call`, `spawn` and `Args` do not have this parameter. There is one value of each
/// type in each thread that runs functions, made by `Default` when it is first needed. A worker of
/// a pool runs all of its tasks in one thread, its initializer included, so an initializer can fill
/// the state that tasks use. After a panic the value stays as the function left it. A function that
/// runs another one with the same state by `call(..).run()` panics.
///
/// # `async`
///
/// The other process runs the future of an `async fn` to its end, on its first thread, so the
/// future need not be `Send`. By default a small executor runs it, which only sleeps until the
/// future is woken. It has no timers, no I/O and no other tasks. Futures that need these need the
/// runtime that `executor` names. `Output` is the output of the future, and a panic in it is a
/// panic of the function.
///
/// # Errors
///
/// A function that cannot work in another process does not compile, and the error says what to do
/// instead:
///
/// - `&mut` references, except the state: take the value and return the changed one;
/// - references inside other types (`Option<&str>`: write `Option<String>`) and in the return type,
///   other borrowed types (`Cow<'_, str>`: write `Cow<'static, str>`), raw and function pointers:
///   they have no meaning in another process;
/// - `&dyn Trait` and `&impl Trait`: take a concrete type;
/// - generic functions, even with only lifetime parameters, and `impl Trait`: each process has to
///   find the function by its name;
/// - methods, and other functions in an `impl`: move the function out and take `self` as a
///   parameter;
/// - `unsafe`, `extern` and variadic functions: wrap them in an ordinary function;
/// - `#[cfg]` on a parameter: write one function for each case;
/// - an `executor` for a function that is not `async`.
///
/// For a type that cannot be encoded, rustc reports an error at that type. It also does so for a
/// type that is more private than the function, for which it would only warn without the attribute.
///
/// # Links in documentation
///
/// Two items have the same name, so a link has to say which one it means: write ``[`add()`]`` or
/// ``[`add`](fn@add)`` for the function, ``[`add`](struct@add)`` for the type.
#[proc_macro_attribute]
pub fn process_fn(arguments: TokenStream, item: TokenStream) -> TokenStream {
    expand::process_fn(arguments.into(), item.into()).into()
}

/// The reference of the attribute. `mp_core::on_start` has the examples, because this crate cannot
/// depend on `mp_core`.
///
/// The function stays as it is, and is registered. `#[on_start(crate = path)]` gives the path of
/// `mp_core`, for crates that re-export it. The function cannot have parameters, a return value,
/// generic parameters or qualifiers such as `async`.
#[proc_macro_attribute]
pub fn on_start(arguments: TokenStream, item: TokenStream) -> TokenStream {
    on_start::expand(arguments.into(), item.into()).into()
}

/// Puts its argument beside the item.
#[doc(hidden)]
#[proc_macro_attribute]
pub fn beside(others: TokenStream, item: TokenStream) -> TokenStream {
    item.into_iter().chain(others).collect()
}

/// Declares a slice that the linker collects, as linkme's `distributed_slice` does, for mp-core
/// alone. The name of its section contains the version of the package, because two versions of
/// mp-core can be in one executable.
#[doc(hidden)]
#[proc_macro_attribute]
pub fn versioned_slice(_arguments: TokenStream, item: TokenStream) -> TokenStream {
    slice::versioned(item.into()).into()
}

/// The reference of the derive. `mp_shm::ShmSafe` has the examples, because this crate cannot
/// depend on `mp_shm`.
///
/// # Output
///
/// An `unsafe impl mp_shm::ShmSafe`, which is sound for every type that passes the checks, so using
/// the derive is safe. Its `LAYOUT` is a digest of the type's name, size and alignment, of the
/// values of its const parameters, and of each field's name, offset (in a struct) and layout, or of
/// each variant's name, discriminant and fields. So types that differ in the order, the name or the
/// type of a field have different layouts.
///
/// A struct is also `mp_shm::Zeroable` if each field is, and `mp_shm::AnyBits` if each field is. An
/// enum with `#[repr(C)]` or an integer such as `#[repr(u8)]` is `Zeroable` if each field of the
/// variant with the discriminant 0 is. The discriminants up to it are numbers or not written.
///
/// # Types
///
/// The derive is for structs and enums of every form, even with explicit discriminants. The
/// implementation requires that each type parameter is `ShmSafe`. It keeps const parameters and
/// `where` clauses.
///
/// Without `#[repr(C)]`, Rust lays out a type as it likes, but in the same way in every process of
/// one build. If programs of different builds share the memory, add `#[repr(C)]`. The layout
/// detects a different order of a struct's fields, but not of the fields in an enum's variants.
///
/// # Arguments
///
/// - `#[shm_safe(invariants)]` says that the type has invariants that its fields do not express.
///   Then it is neither `Zeroable` nor `AnyBits`. A type whose unsafe code relies on the
///   checks of its constructor needs this argument. The module is part of the name of such a type,
///   so a type of the same structure in another module or crate has another layout.
/// - `#[shm_safe(crate = path)]` gives the path of `mp_shm`, for crates that re-export it. The
///   default is `::mp_shm`.
///
/// # Errors
///
/// A type that has no meaning in another process, or that another process cannot change, does not
/// compile, and the error says what to do instead:
///
/// - references, raw pointers, function pointers, and types that store their values elsewhere:
///   `Vec`, `String`, `Box`, `Rc`, `Arc`, `HashMap` and the like, even inside tuples, arrays,
///   `Option`s and locks;
/// - slices, `dyn Trait` and `impl Trait`;
/// - `Cell`, `RefCell` and the locks of std, which work only within one process;
/// - unions, and types with lifetime parameters;
/// - types that implement `Drop`: values in shared memory are never dropped, because no process
///   knows that it is the last user.
///
/// For a field of another type that is not `ShmSafe`, rustc reports an error at that field. It also
/// does so if an attribute after the derive changes the fields. An attribute that changes the
/// representation has to come before the derive.
///
/// These checks recognise the types of std by their names: `Vec<T>` and `std::vec::Vec<T>`, but not
/// `another::Vec<T>`, which may be your own type. Write `self::Vec<T>` for your own type of that
/// name in the same module.
#[proc_macro_derive(ShmSafe, attributes(shm_safe))]
pub fn derive_shm_safe(item: TokenStream) -> TokenStream {
    shm_safe::derive(item.into()).into()
}

/// The reference of the attribute. `mp_manager::shared` has the examples, because this crate cannot
/// depend on `mp_manager`.
///
/// # Output
///
/// The attribute goes on an `impl` block of a type `Name`, which stays as it is. Every public
/// function in it (`pub`, `pub(crate)` and so on) is shared. Beside it comes `NameProxy`:
///
/// - a constructor for each function that returns `Self` or `Result<Self, E>`. It takes a `&impl
///   Host` before its parameters and returns a `Result<NameProxy, CallError>`, or a
///   `Result<Result<NameProxy, E>, CallError>`;
/// - a method for each one that takes `&self` or `&mut self`. It takes `&self` and returns a
///   `Result<R, CallError>`;
/// - `later()`, which has the same methods; they return a `Reply<R>`;
/// - `with_limit` and `clear_poison`.
///
/// The proxy implements `Clone`, `Debug`, `Serialize` and `Deserialize`.
///
/// # Running
///
/// Methods run on threads of the server. Those that take `&self` run side by side, one that takes
/// `&mut self` runs alone. So the type is `Send + Sync`. Calls begin in the order in which they
/// arrive. A method that calls its own object through a proxy waits for itself if one of the two
/// takes `&mut self`. If a method that takes `&mut self` panics, later calls fail with
/// `CallError::Poisoned` until `clear_poison`.
///
/// # Arguments
///
/// - `#[shared(proxy = Name)]` gives the proxy another name;
/// - `#[shared(name = "stable.name")]` registers the type under this name instead of its path;
/// - `#[shared(json)]` serves the methods to programs in Python as well, if an object is published
///   and the manager listens. Arguments and results are JSON then. It needs the feature `json` of
///   `mp_manager`;
/// - `#[shared(crate = path)]` gives the path of `mp_manager`, for crates that re-export it.
///
/// # Errors
///
/// A block does not compile, and the error says what to do instead, if it is of a trait or a
/// generic type; if a public function takes `self` by value, a reference, or a type that has no
/// meaning in another process; if it returns one, or `Self` inside something else; if it is
/// generic, `async`, `unsafe` or `extern`; if it is called as a method that every proxy has.
#[proc_macro_attribute]
pub fn shared(arguments: TokenStream, item: TokenStream) -> TokenStream {
    shared::shared(arguments.into(), item.into()).into()
}
