//! Objects that live in one process and are used from all.
//!
//! A [`Manager`] starts a server. [`Map`], [`List`] and [`Cell`] put objects into it and stand for
//! them. Such a proxy is a value: send it to any process, and every process uses the same object.
//!
//! ```
//! use mp_core::process_fn;
//! use mp_manager::{Manager, Map};
//!
//! #[process_fn]
//! fn add(old: Option<u64>, by: u64) -> (Option<u64>, u64) {
//!     let new = old.unwrap_or(0) + by;
//!     (Some(new), new)
//! }
//!
//! #[process_fn]
//! fn count(totals: Map<String, u64>, text: &str) {
//!     for word in text.split(' ') {
//!         totals.modify::<add>(word, 1).unwrap();
//!     }
//! }
//!
//! let manager = Manager::spawn()?;
//! let totals = Map::new(&manager)?;
//! let children = [count::spawn(totals.clone(), "to be or")?, count::spawn(totals.clone(), "not to be")?];
//! for child in children {
//!     child.join()?;
//! }
//! assert_eq!(totals.get("be")?, Some(2));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Overview
//!
//! - [`Manager`]: a server in a process of its own or on threads of this one;
//! - [`Map`], [`List`], [`Cell`]: objects that hold values of any type that can be sent;
//! - [`Queue`], [`Lock`], [`Semaphore`], [`Event`], [`Condition`], [`Barrier`]: objects that calls
//!   wait for;
//! - `Pool`, with the feature `pool`: workers that run the calls of any process;
//! - [`shared`]: the attribute that makes a proxy for a type of your own, with calls that can be
//!   sent ahead ([`Reply`]) and awaited;
//! - [`Map::modify`]: changes a value by a function that runs in the server, so nothing is lost
//!   between reading and writing;
//! - [`Map::watch`]: an object, and then every change of it, as they come ([`Watch`]);
//!   [`Map::iter`]: what it held at one instant, in pieces of bounded length;
//! - [`Manager::publish`] and [`Manager::get`]: objects by name;
//! - [`Manager::listen`] and [`Remote`]: programs on this machine and on others, with a key;
//! - [`Manager::objects`]: what is in the server.
//!
//! # Atomic changes
//!
//! Every method is atomic, and nothing spans two calls. In Python, `d[k] += 1` is two calls and
//! loses updates, and `d[k].append(x)` changes a copy and loses it. Here neither can be written.
//! A value that was read is a value of the caller's own, and changing it in place is done by
//! [`Map::modify`], [`List::modify`] and [`Cell::modify`]. Where a function is too much, there are
//! [`Map::compare_exchange`], [`Map::get_or_insert`] and [`Map::extend`].
//!
//! # How long an object lives
//!
//! An object lives as long as a proxy of it exists: in any process, in a message in flight, or in a
//! value in the server. The kernel counts, not messages, so nothing is lost or leaked when
//! processes are killed. The server keeps a proxy inside a value as a plain reference, which needs
//! no descriptor. A value of a type of your own holds a proxy as any process does. A cycle of
//! objects that refer to one another is not noticed. It lives until one of its values is removed,
//! or the server ends.
//!
//! A process needs one descriptor for each proxy that it received and two for each server. The
//! server needs one for each object, one for each process that uses it, and one for each value
//! longer than 1 MiB.
//!
//! # Waiting
//!
//! A call that waits, as in [`Queue::get`], [`Lock::lock`] and [`Event::wait`], is an entry in its
//! object and holds no thread of the server. It leaves with its process. The limit of a proxy
//! (`with_limit`) ends a wait in the server, so what was waited for is not lost. If the server is
//! stopped or too slow, such a call takes longer than its limit.
//!
//! # Other programs
//!
//! [`Manager::listen`] lets other programs in Rust use the objects, by [`Remote::connect`]. With
//! the feature `json`, programs in Python call the methods of types with `#[shared(json)]`. They
//! send messages of JSON over `multiprocessing.connection.Client`; `examples/client.py` does it in
//! 20 lines. The proxies of CPython's own managers are not served: they send pickles, and a pickle
//! can run any code in the process that receives it. Nothing is encrypted.
//!
//! | message | |
//! |---|---|
//! | `{"object": "name", "method": "add", "args": [2]}` | a call of a published object |
//! | `{"value": 3}` | what the method returned |
//! | `{"error": "..."}` | why there is no value; the connection goes on |
//!
//! # Limits
//!
//! | what | how much | beyond |
//! |---|---|---|
//! | functions and methods that run at once | [`ManagerBuilder::threads`], 64 | they wait for one to end |
//! | unanswered calls of a process | [`ManagerBuilder::calls_in_flight`], 1,024 | callers wait |
//! | calls of a process that wait | 65,536 | [`CallError::Busy`] |
//! | a key, encoded | 1 MiB | [`CallError::Encode`] |
//! | a value, encoded | [`mp_core::message_limit`] | [`CallError::Encode`] |
//! | watches of an object | 4,096 | [`CallError::Busy`] |
//! | changes kept for watches that lag | 1,024, or 1 MiB | a new snapshot |
//! | programs connected at an address | 1,024 | the connection is closed |
//!
//! # How it works
//!
//! Each proxy carries two descriptors. The *door* is a socket over which a process hands the server
//! one end of a fresh connection, once, at its first call. The *lease* is the write end of a pipe,
//! and the object goes when its last lease is closed. One thread of the server waits for all
//! connections. Collections hold encoded keys and values, so the server decodes nothing of the
//! user's. The functions of `modify` and the methods of your own types run on further threads, up
//! to a limit.
//!
//! If the server has no descriptor free for those that a call brings along, it does not know whose
//! call it was. It closes the connection, and what the process waits for fails with
//! [`CallError::Disconnected`]. The next call connects again. An answer that finds no descriptor
//! free in the process fails alone, with [`CallError::Busy`].
//!
//! The server does not read from a process that has too many unanswered calls, until it has taken
//! answers. Its callers wait, and no others.
//!
//! # Process death
//!
//! | who dies | what happens |
//! |---|---|
//! | a process that uses an object, in a call | a function that has begun runs to its end, and its answer is dropped |
//! | a process that waits | its calls leave |
//! | a process with a lock, or permits | the next owner gets [`LockError::OwnerDied`]; permits return |
//! | a process that a value of a queue is on its way to | the value goes back to the front of the queue |
//! | the last process with a proxy | the object is dropped |
//! | the server | every call fails at once with [`CallError::Disconnected`], which says whether the call was sent; [`Manager::exit_status`] says how the server ended |
//! | the process that made the manager | the kernel kills the server |
//!
//! In a copy of a process that `fork` made, every proxy that it had fails with
//! [`CallError::Forked`]. As long as such a copy lives, the server takes the original for alive.

#![deny(unsafe_code)]
#![warn(clippy::unwrap_used)]

mod barrier;
mod cell;
mod change;
mod class;
mod condition;
mod error;
mod event;
mod handle;
#[cfg(feature = "json")]
mod json;
mod link;
mod list;
mod lock;
mod manager;
mod map;
mod mutex;
#[cfg(feature = "pool")]
mod pool;
mod queue;
mod relay;
mod remote;
mod reply;
mod semaphore;
mod server;
mod value;
mod watch;
mod wire;

pub use barrier::Barrier;
pub use cell::Cell;
pub use change::Change;
pub use condition::Condition;
pub use error::{CallError, ManagerError};
pub use event::Event;
pub use handle::{Host, Proxy};
pub use list::List;
pub use lock::{Lock, LockError, LockGuard};
pub use manager::{Manager, ManagerBuilder};
pub use map::{KeyOf, Map};
/// Lets processes use a value of a type of your own, which lives in a server.
///
/// It goes on an `impl` block of the type. Its public constructors and methods become those of a
/// proxy, which is a value like the proxies of this crate.
///
/// # Examples
///
/// ```
/// use mp_core::process_fn;
/// use mp_manager::{CallError, Manager};
///
/// pub struct Counter {
///     value: u64,
/// }
///
/// #[mp_manager::shared]
/// impl Counter {
///     pub fn new(start: u64) -> Self {
///         Self { value: start }
///     }
///
///     pub fn value(&self) -> u64 {
///         self.value
///     }
///
///     pub fn add(&mut self, by: u64) -> u64 {
///         self.value = self.value.checked_add(by).expect("it is small enough");
///         self.value
///     }
/// }
///
/// #[process_fn]
/// fn count(counter: CounterProxy) {
///     for _ in 0..100 {
///         counter.add(1).unwrap();
///     }
/// }
///
/// let manager = Manager::spawn()?;
/// let counter = CounterProxy::new(&manager, 0)?;
/// let children = [count::spawn(counter.clone())?, count::spawn(counter.clone())?];
/// for child in children {
///     child.join()?;
/// }
/// assert_eq!(counter.value()?, 200);
///
/// // Sixteen calls on their way at once, which are sent together.
/// let later = counter.later();
/// let replies: Vec<_> = (0..16).map(|_| later.add(1)).collect();
/// for (reply, value) in replies.into_iter().zip(201..) {
///     assert_eq!(reply.join()?, value);
/// }
///
/// // A panic may leave the value half-changed, so nobody uses it by accident.
/// assert!(matches!(counter.add(u64::MAX), Err(CallError::Panicked(_))));
/// assert_eq!(counter.value(), Err(CallError::Poisoned));
/// counter.clear_poison()?;
/// assert_eq!(counter.value()?, 216);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Reference
///
pub use mp_macros::shared;
#[cfg(feature = "pool")]
pub use pool::{Pool, PoolTask};
pub use queue::Queue;
pub use remote::{Remote, RemoteError};
pub use reply::Reply;
pub use semaphore::{Permit, Semaphore};
pub use watch::{Iter, ListChange, MapChange, Watch};
pub use wire::ObjectInfo;

#[doc(hidden)]
#[path = "private.rs"]
pub mod __private;
