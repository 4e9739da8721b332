//! Functions that run in other processes.
//!
//! A function annotated with [`#[process_fn]`](macro@process_fn) can be started in a process of its own, which is this same executable
//! run again: [`spawn`](Builder::spawn) starts it, [`join`](Process::join) waits for its value. The process can crash, be killed, or
//! be thrown away, and its parent gets an error that says so. There is nothing to call at the beginning of `main`.
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
//! # What there is
//!
//! - [`process_fn`](macro@process_fn), and what it makes: [`ProcessFn`], [`Call`];
//! - [`Builder`], [`Process`]: processes; [`current()`], [`parent()`], [`active_children`]: this one and those around it;
//! - [`pipe`], [`duplex`]: typed channels between them;
//! - [`Fd`], [`fd`](mod@fd): files, sockets and other descriptors inside values;
//! - [`wait`]: whichever comes first;
//! - `.await` on a [`Process`], `recv_async`, `send_async`: the same without a thread for each wait (feature `async`);
//! - [`raw`]: calls and values without their types, and what to wait with, for code that builds on this crate.
//!
//! # What values can be
//!
//! Arguments, results and messages are what serde can serialise and deserialise without being told by the format what comes next,
//! and handles in them: the ends of connections, and through [`Fd`] and [`fd`](mod@fd) everything that owns a descriptor. A value can be nested 512 levels deep and be
//! [`message_limit`] bytes long.
//!
//! The format carries neither types nor the names of fields. So these are errors: `#[serde(flatten)]`, `#[serde(untagged)]`,
//! `#[serde(tag = "..")]`, `serde_json::Value`, a field left out by `skip_serializing_if`; such a value can be sent as a `Json` (feature
//! `json`). A field that only one side skips (`skip_serializing` without `skip_deserializing`, or the other way round) is not noticed
//! and mixes up the fields after it.
//!
//! A `Vec` or a slice of numbers, such as `Vec<u8>`, `Vec<f64>` or `&[u32]`, is copied at once, as fast as a `serde_bytes::ByteBuf`: as a
//! parameter, a result or a message, and inside structs, tuples, enums and other vectors. serde knows other vectors only as a
//! sequence, one call for each element, which is slow in a build without optimisation. It decodes a `Vec` of numbers that way
//! as well where it is the whole content of an `Option` or of a newtype struct; there `#[serde(with = "serde_bytes")]` helps.
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
//! A function can take references, as in `fn f(text: &str, data: &[u8], settings: &Settings)`. Its caller lends the values, which
//! are encoded without being copied first; the other process owns what arrives, and lends it to the function.
//!
//! A function that can fail returns a `Result` like any other value, an `async` one as well; its error type has to be serialisable,
//! which a `String` is and `std::io::Error` is not.
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
//!     Ok(Err(error)) => println!("the function says: {error}"),
//!     Err(error) => println!("the process came to harm: {error}"),
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What errors say
//!
//! The text of an error says what could not be done; why is its [`source`](std::error::Error::source), as in the standard library,
//! and the text does not repeat it. `{error}` alone leaves the cause out, so print the sources as well (with anyhow, `{error:#}`
//! does):
//!
//! ```
//! fn explain(error: &dyn std::error::Error) -> String {
//!     error.source().map_or(error.to_string(), |source| format!("{error}: {}", explain(source)))
//! }
//!
//! # use mp_core::{Builder, process_fn};
//! # #[process_fn]
//! # fn f() {}
//! let error = Builder::new().current_dir("/nowhere").spawn(f::call()).unwrap_err();
//! assert_eq!(error.to_string(), "the process could not be given the working directory \"/nowhere\"");
//! assert_eq!(explain(&error), format!("{error}: No such file or directory (os error 2)"));
//! ```
//!
//! # What holds when a process dies
//!
//! A child that dies is an error for whoever joins it. A parent that dies, by whatever signal, takes its children with
//! it: the kernel kills them. Anonymous memory and descriptors that were in flight are freed by the kernel. What a function started that is not
//! a process of this library, such as a `std::process::Command`, is not covered.
//!
//! The parent calling `exec` counts as its death. The function runs on the first thread of its process, with that thread's stack
//! (`ulimit -s`); `std::thread::current().name()` is `None` there, as std gives the name only to a thread that runs `main`.
//!
//! # What holds when something runs out
//!
//! Descriptors, processes and address space that run out are an error of the operation that needed them, which leaves nothing behind;
//! after relief everything goes on. A message that finds no place when it is received is lost, and the next one arrives.
//!
//! Memory has a limit to this: Rust ends a process that cannot allocate. Whatever length a peer announces, texts and byte strings
//! (`String`, `serde_bytes`, a `Vec` of numbers) that find no memory are errors. A `Vec` of other elements or a map grows while it is decoded, in serde's hands, and
//! so does what `Serialize` and `Deserialize` implementations make; a process that they end is reported to its parent like any other.
//! [`set_message_limit`] keeps them in bounds. Where the system overcommits memory, nothing of this is asked, and it kills.
//!
//! # Features
//!
//! | feature | default | what it brings |
//! |---|---|---|
//! | `auto-init` | yes | a process finds out before `main` that it is a child; without it, [`init`] has to be the first line of `main` |
//! | `json` | no | `Json`; depends on `serde_json` |
//! | `tracing` | no | events of processes for `tracing`, under the target `mp_core::process` |
//! | `async` | no | awaiting processes and messages, on any executor; no further dependency |
//!
//! With `async`, one thread of this library waits for all tasks, from the first wait to the end of the process; it has every signal blocked.
//! Futures work on any executor, on several at once, and can be dropped at any time.
//!
//! # Platforms
//!
//! Linux 5.4 or later with `/proc` mounted, on x86_64 and aarch64.

#![deny(unsafe_code)]
#![cfg_attr(not(test), warn(clippy::unwrap_used))]

// The attribute's expansion names this crate by its path, also in the crate's own documentation and tests.
extern crate self as mp_core;

#[allow(unsafe_code, reason = "an entry that the C library calls, and the first argument that it keeps")]
mod boot;
mod call;
mod codec;
mod connection;
mod current;
mod exit_status;
mod function;
mod handle;
#[cfg(feature = "json")]
mod json;
mod message;
mod outcome;
mod panic;
mod parent;
mod process;
pub mod raw;
#[cfg(feature = "async")]
mod reactor;
mod referent;
mod registry;
mod resource;
#[allow(unsafe_code, reason = "the operating system's interface")]
mod sys;
mod trace;
mod wait;
mod watched;

pub use boot::init;
pub use call::Call;
pub use codec::{DEFAULT_MESSAGE_LIMIT, DecodeError, EncodeError, message_limit, set_message_limit};
pub use connection::{
    Connection, Iter, Messages, Receiver, RecvError, SendError, SendErrorReason, Sender, duplex, pipe,
};
pub use current::{Current, current};
pub use exit_status::ExitStatus;
pub use function::ProcessFn;
pub use handle::{Fd, fd};
#[cfg(feature = "json")]
pub use json::Json;
/// Makes a function one that can run in another process.
///
/// The function stays as it is and can be called as before. Beside it the attribute puts a type of the same
/// name and visibility, which stands for the function wherever it is to run elsewhere. Rust keeps functions
/// and types apart, so the two do not collide, and one `use` imports both; only another *type* of that name
/// in the same place would.
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
/// References are lent, and come to the other process as values:
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
/// An `async` function runs to its end in the other process, here on the runtime that its futures need:
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
/// # Reference
///
pub use mp_macros::process_fn;
pub use outcome::Panic;
pub use parent::{Parent, parent};
#[cfg(feature = "async")]
pub use process::JoinFuture;
pub use process::{Builder, ChildInfo, JoinError, Output, Process, SpawnError, StartMethod, Stdio, active_children};
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
