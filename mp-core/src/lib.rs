//! Functions that run in other processes.
//!
//! The attribute [`#[process_fn]`](macro@process_fn) lets a function run in a process of its own.
//! The process runs the same executable. [`spawn`](Builder::spawn) starts it, and
//! [`join`](Process::join) waits for the function's value. If the process crashes or is killed, its
//! parent gets an error that says so. You call nothing at the beginning of `main`.
//!
//! ```
//! use mp_core::process_fn;
//!
//! #[process_fn]
//! fn add(a: u64, b: u64) -> u64 {
//!     a + b
//! }
//!
//! let process = add::spawn(1, 2)?;
//! assert_eq!(process.join()?, 3);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Overview
//!
//! - [`process_fn`](macro@process_fn), and what it makes: [`ProcessFn`], [`Call`];
//! - [`Builder`], [`Process`]: processes; [`current()`], [`parent()`], [`active_children`]: this
//!   process, its parent and its children;
//! - [`pipe`], [`duplex`]: typed channels between processes;
//! - [`ForkServer`]: processes that begin with what another one has loaded;
//! - [`Fd`], [`fd`](mod@fd): files, sockets and other descriptors inside values;
//! - [`wait`]: waits for the first of several things;
//! - `.await` on a [`Process`], `recv_async`, `send_async`: waits without a thread for each
//!   (feature `async`);
//! - [`raw`]: encoded calls and values, and ways to wait, for crates that build on this one.
//!
//! # Values
//!
//! Arguments, results and messages are values that implement serde's `Serialize` and `Deserialize`.
//! They can contain descriptors: the ends of connections, and anything that owns a descriptor
//! through [`Fd`] or [`fd`](mod@fd). A value can be nested 512 levels deep and be [`message_limit`]
//! bytes long.
//!
//! The format carries neither types nor field names. So encoding or decoding fails for
//! `#[serde(flatten)]`, `#[serde(untagged)]`, `#[serde(tag = "..")]`, `serde_json::Value`, and a
//! field that `skip_serializing_if` leaves out. Send such a value as a `Json` (feature `json`). The
//! format does not notice a field that only one side skips (`skip_serializing` without
//! `skip_deserializing`, or the other way round), and confuses the fields after it.
//!
//! A `Vec` or a slice of numbers, such as `Vec<u8>`, `Vec<f64>` or `&[u32]`, is copied at once, as
//! fast as a `serde_bytes::ByteBuf`, wherever it is in a value. serde treats other vectors as a
//! sequence, with one call for each element, which is slow in a build without optimisation.
//!
//! ```
//! use mp_core::process_fn;
//!
//! #[process_fn]
//! fn invert(mut image: Vec<u8>) -> Vec<u8> {
//!     image.iter_mut().for_each(|byte| *byte = !*byte);
//!     image
//! }
//!
//! let image = vec![0; 1 << 20];
//! assert!(invert::spawn(image)?.join()?.iter().all(|byte| *byte == 0xFF));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A function can take references, as in `fn f(text: &str, data: &[u8], settings: &Settings)`. The
//! parent encodes the borrowed values without a copy. The child owns what it receives and lends it
//! to the function.
//!
//! A function that can fail returns a `Result`. Its error type must implement `Serialize` and
//! `Deserialize`: `String` does, `std::io::Error` does not.
//!
//! ```
//! use mp_core::process_fn;
//!
//! #[process_fn]
//! fn length(path: &str) -> Result<u64, String> {
//!     std::fs::metadata(path).map(|metadata| metadata.len()).map_err(|error| error.to_string())
//! }
//!
//! match length::spawn("/nowhere")?.join() {
//!     Ok(Ok(length)) => println!("{length} bytes"),
//!     Ok(Err(error)) => println!("the function failed: {error}"),
//!     Err(error) => println!("the process failed: {error}"),
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Errors
//!
//! The text of an error says what failed and why, so `{error}` is all that you need to print.
//! Those of a process name it and its function, but for its end, which `join` returns to whoever
//! has its handle. Match on the variants to get at the reason, such as the
//! [`io::Error`](std::io::Error) of the operating system.
//!
//! ```
//! use mp_core::{Builder, process_fn};
//!
//! #[process_fn(name = "parse")]
//! fn parse() {
//!     std::process::exit(3)
//! }
//!
//! let error = Builder::new().name("p1").spawn(parse::call())?.join().unwrap_err();
//! assert_eq!(error.to_string(), "the process ended with exit code 3 and sent no result");
//! let error = Builder::new().current_dir("/nowhere").spawn(parse::call()).unwrap_err();
//! assert_eq!(
//!     error.to_string(),
//!     "the process could not be given the working directory \"/nowhere\": \
//!      No such file or directory (os error 2)"
//! );
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # When a process dies
//!
//! If a child dies, joining it returns an error. If a parent dies, by any signal, the kernel kills
//! its children. The kernel also frees messages in flight, with their memory and descriptors. A
//! process that a function starts by other means, such as a `std::process::Command`, lives on.
//!
//! A parent that calls `exec` counts as dead. The function runs on the first thread of its process,
//! with that thread's stack (`ulimit -s`). There, `std::thread::current().name()` is `None`,
//! because std names only a thread that runs `main`.
//!
//! # When a process forks
//!
//! A process that calls `fork` without exec, itself or in C code, gets a copy with its memory and
//! descriptors, and without its threads. One rule holds for all crates of this library: what
//! belongs to a process is inert in a copy of it, or an error.
//!
//! - Only the process that was started reports to its parent. A copy in which the function returns
//!   or panics as well exits, with the exit code that the original would have.
//! - Joining a [`Process`] of the original is [`JoinError::Forked`], tasks of its pool and calls of
//!   its managers fail, and its buffers cannot be sent. Dropping any of them does nothing.
//! - A copy has no children at first. It can start its own, and wait for tasks by a thread of its
//!   own.
//! - The ends of connections work in both; each message reaches one of them.
//! - As a copy holds what its original held, the children of the original live until both have
//!   ended.
//!
//! The copy of a process with several threads can find a lock of the C library, of std or of
//! another crate held by a thread that it does not have; this library cannot change that. A copy
//! that the system call `clone` makes, not `fork`, is not noticed.
//!
//! # Descriptors from a process that you do not trust
//!
//! Closing a descriptor can block, and the sender of a message chooses its descriptors. A TCP
//! socket with `SO_LINGER` delays its last close until its data was sent or the time is over. A
//! file of a FUSE file system delays each close until its server answers, which may be never. The
//! kernel offers no way to close these without waiting.
//!
//! So a hostile peer can hold up whichever thread closes what it sent: the one in `recv`,
//! `try_recv`, `recv_timeout`, `join` or `join_timeout`, if a message is refused or a descriptor is
//! left over, and the one that drops the value otherwise. A deadline does not end that wait.
//! Nothing else is affected: memory, other connections, and the next message.
//!
//! If a process that you do not trust may be hostile and not only buggy:
//!
//! - Do not let it make such descriptors: give it no network and no way to mount, for example by a
//!   seccomp filter, or by namespaces of its own.
//! - Or receive from it on a thread of its own, on which nothing else waits.
//! - Or receive plain bytes, by an `mp-listener`, whose streams carry no descriptors.
//!
//! # When resources run out
//!
//! If descriptors, processes or address space run out, the operation that needed them returns an
//! error and leaves nothing behind. It succeeds again once they are available. If a receiver has no
//! descriptors left for a message, it loses that message; the next one arrives.
//!
//! Memory is different: Rust aborts a process that cannot allocate. Texts and byte strings
//! (`String`, `serde_bytes`, a `Vec` of numbers) are exceptions: if there is no memory for one,
//! decoding returns an error. serde allocates a `Vec` of other elements or a map while it decodes
//! it, so a lack of memory aborts the process, and its parent gets an error. [`set_message_limit`]
//! limits what a message can allocate. Where the system overcommits memory, allocation succeeds,
//! and the OOM killer may end a process later.
//!
//! # Features
//!
//! | feature | default | what it adds |
//! |---|---|---|
//! | `auto-init` | yes | a process finds out before `main` that it is a child; without the feature, call [`init`] in the first line of `main` |
//! | `json` | no | `Json`; depends on `serde_json` |
//! | `tracing` | no | events of processes for `tracing`, with the target `mp_core::process` |
//! | `async` | no | awaiting processes and messages, on any executor; no further dependency |
//!
//! With `async`, one thread of this library waits for all tasks, from the first wait to the end of
//! the process. It blocks every signal. You can use several executors at once, and drop a future at
//! any time.
//!
//! # Platforms
//!
//! Linux 5.4 or later with `/proc` mounted, on x86_64 and aarch64.

#![deny(unsafe_code)]
#![cfg_attr(not(test), warn(clippy::unwrap_used))]

// The attribute's expansion names this crate by its path, even in this crate's documentation and
// tests.
extern crate self as mp_core;

#[allow(unsafe_code, reason = "an entry that the C library calls, and the first argument that it keeps")]
mod boot;
mod call;
mod codec;
mod connection;
mod current;
mod descriptor;
mod error;
mod exit_status;
mod function;
#[cfg(feature = "json")]
mod json;
mod large;
mod message;
mod outcome;
mod panic;
mod parent;
mod pollable;
mod process;
pub mod raw;
#[cfg(feature = "async")]
mod reactor;
mod referent;
mod registry;
mod resource;
mod spin;
mod state;
#[allow(unsafe_code, reason = "the operating system's interface")]
mod sys;
mod trace;
mod wait;

pub use boot::init;
pub use call::Call;
pub use codec::{DEFAULT_MESSAGE_LIMIT, DecodeError, EncodeError, message_limit, set_message_limit};
pub use connection::{
    Connection, Iter, Messages, Receiver, RecvError, SendError, SendErrorReason, Sender, duplex, pipe,
};
pub use current::{Current, current};
pub use descriptor::{Fd, fd};
pub use exit_status::ExitStatus;
pub use function::ProcessFn;
#[cfg(feature = "json")]
pub use json::Json;
/// Lets a function run in another process.
///
/// The attribute does not change the function. It adds a type of the same name and visibility,
/// whose functions run it in another process. Functions and types have separate namespaces in Rust,
/// so the two do not conflict, and one `use` imports both. Only another *type* of that name in the
/// same module would conflict.
///
/// # Examples
///
/// ```
/// use mp_core::{Builder, ProcessFn, process_fn};
///
/// #[process_fn]
/// fn add(a: u64, b: u64) -> u64 {
///     a + b
/// }
///
/// assert_eq!(add(1, 2), 3); // an ordinary call, in this process
/// assert_eq!(add::spawn(1, 2)?.join()?, 3); // in a new process
/// let call = add::call(1, 2); // the function and its arguments, as a value
/// assert_eq!(Builder::new().name("adder").spawn(call)?.join()?, 3);
/// assert!(add::NAME.ends_with("::add")); // the function, as a type
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// A function without the attribute has no such type. rustc then says that it cannot find the
/// module or crate `add` (in `add::spawn(1, 2)`), or that a constant was provided when a type was
/// expected (in `pool.map::<add>(..)`). Closures have none either: write a function that takes what
/// they capture.
///
/// A reference parameter is encoded without a copy, and the other process owns the value:
///
/// ```
/// use std::path::Path;
///
/// use mp_core::process_fn;
///
/// #[process_fn]
/// fn count(needle: &[u8], path: &Path) -> Result<usize, String> {
///     let text = std::fs::read(path).map_err(|error| error.to_string())?;
///     Ok(text.windows(needle.len()).filter(|window| *window == needle).count())
/// }
///
/// let file = tempfile::NamedTempFile::new()?;
/// std::fs::write(&file, "to be or not to be")?;
/// assert_eq!(count::spawn(b"to", file.path())?.join()?, Ok(2));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// The other process runs an `async` function to its end, in this example on the runtime that its
/// futures need:
///
/// ```
/// use std::future::Future;
/// use std::time::Duration;
///
/// use mp_core::process_fn;
///
/// fn on_tokio<F: Future>(future: F) -> F::Output {
///     let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
///     runtime.expect("a runtime can be made").block_on(future)
/// }
///
/// #[process_fn(executor = on_tokio)]
/// async fn within(limit: Duration, answer: &str) -> Result<String, String> {
///     let slowly = async {
///         tokio::time::sleep(Duration::from_millis(1)).await;
///         answer.to_owned()
///     };
///     tokio::time::timeout(limit, slowly).await.map_err(|error| error.to_string())
/// }
///
/// assert_eq!(within::spawn(Duration::MAX, "at last")?.join()?, Ok("at last".to_owned()));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// A process can keep a value between the functions that it runs, which a worker of a pool does for
/// one task after another:
///
/// ```
/// use mp_core::process_fn;
///
/// #[process_fn(state = words)]
/// fn is_new(words: &mut std::collections::HashSet<String>, word: String) -> bool {
///     words.insert(word)
/// }
///
/// assert_eq!(is_new::call("a".to_owned()).run(), true);
/// assert_eq!(is_new::call("a".to_owned()).run(), false);
/// assert_eq!(is_new::spawn("a".to_owned())?.join()?, true); // another process
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Reference
///
pub use mp_macros::process_fn;

/// Runs a function at the start of every child, before the function that the child was started for:
/// for what a program sets up in `main`, which children never reach, such as a logger, a panic hook
/// or signal handlers.
///
/// It runs in each process that this library starts from this executable, workers of a pool
/// included, after the process has its name and before its arguments are decoded. It does not run
/// in the first process, where `main` can call it. If there are several, they run in the order of
/// their paths.
///
/// The function takes nothing and returns nothing. If it panics, the process ends, and its parent
/// gets [`JoinError::Panicked`].
///
/// # Examples
///
/// ```
/// use std::panic;
///
/// use mp_core::process_fn;
///
/// #[mp_core::on_start]
/// fn set_up() {
///     let usual = panic::take_hook();
///     panic::set_hook(Box::new(move |info| {
///         eprint!("[{}] ", mp_core::current().name());
///         usual(info);
///     }));
/// }
///
/// #[process_fn]
/// fn fails() {
///     panic!("as expected"); // printed as: [Process-1] thread ...
/// }
///
/// set_up(); // here as well
/// assert!(fails::spawn()?.join().is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Reference
///
pub use mp_macros::on_start;
pub use outcome::Panic;
pub use parent::{Parent, parent};
#[cfg(feature = "async")]
pub use process::JoinFuture;
pub use process::{
    Builder, ChildInfo, ForkServer, ForkServerBuilder, ForkServerError, JoinError, Output, Process, SpawnError,
    StartMethod, Stdio, active_children, set_start_method,
};
pub use registry::DuplicateFunction;
pub use resource::Resource;
pub use wait::wait;

#[doc(hidden)]
#[path = "private.rs"]
pub mod __private;

#[cfg(fuzzing)]
#[doc(hidden)]
#[path = "fuzzing.rs"]
pub mod __fuzzing;
