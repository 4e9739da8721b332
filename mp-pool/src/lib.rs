//! A pool of worker processes.
//!
//! A [`Pool`] starts its workers once and gives them tasks. A task is a call of a function that has
//! the attribute `#[process_fn]`. If a task crashes its worker, that task fails. The pool replaces
//! the worker, and the other tasks go on.
//!
//! ```
//! use mp_core::process_fn;
//! use mp_pool::Pool;
//!
//! #[process_fn]
//! fn add(a: u64, b: u64) -> u64 {
//!     a + b
//! }
//!
//! let pool = Pool::new(2)?;
//! assert_eq!(pool.submit(add::call(1, 2)).join()?, 3);
//! assert_eq!(pool.map::<add>([(1, 2), (3, 4)])?, [3, 7]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Overview
//!
//! - [`Pool::submit`] returns a [`Task`]: join it, await it, cancel it, or have a callback called;
//! - [`Pool::map`] runs one function on many arguments and returns the values in order;
//! - [`Pool::imap`] and [`Pool::imap_unordered`] do the same lazily: they read items only as far
//!   ahead as the workers need, in order or as soon as each value arrives;
//! - [`Pool::builder`] sets limits of time and memory, retries, an initializer, and what the
//!   workers' processes have;
//! - [`Pool::stats`] counts, and [`Pool::report`] is a table and a timeline of who did what.
//!
//! There are no chunks to choose. The pool measures how long each function takes. It sends long
//! tasks one by one and short ones many at a time, and each task fails or succeeds by itself.
//!
//! # Process death
//!
//! | process | what happens when it dies |
//! |---|---|
//! | a worker | the task that it runs fails with [`TaskError::Crashed`], or runs again if [`retries`](PoolBuilder::retries) allows; tasks that it has not begun run elsewhere; the pool starts another worker |
//! | the process that owns the pool | the kernel kills the workers |
//!
//! If the pool is dropped, its workers end, and unfinished tasks fail with
//! [`TaskError::PoolClosed`]. In a copy of the process that `fork` made, the pool cannot be used:
//! [`TaskError::Forked`].
//!
//! # Features
//!
//! | feature | default | what it adds |
//! |---|---|---|
//! | `async` | no | `into_stream` of the lazy maps; depends on `futures-core`. A [`Task`] can be awaited without it |

#![forbid(unsafe_code)]
#![warn(clippy::unwrap_used)]

mod batch;
mod board;
mod builder;
mod chunk;
mod error;
mod events;
mod later;
mod link;
mod map;
mod packed;
mod pool;
pub mod raw;
mod report;
mod scheduler;
mod settings;
mod slot;
mod stats;
mod task;
mod wire;
mod worker;

pub use builder::{InitializerOutput, PoolBuilder};
pub use error::{PoolError, TaskError};
pub use map::{Imap, ImapUnordered};
pub use pool::{Pool, TaskOptions};
pub use report::{FunctionReport, Report, SlowTask, TaskName, WorkerEnd, WorkerReport};
pub use stats::Stats;
pub use task::{Sentinel, Task};
pub use worker::deadline;

#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
