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
//! - [`Pool::submit`] returns a [`Task`], and [`Task::join`] waits for its value;
//! - [`Pool::map`] runs one function on many arguments and returns the values in order;
//! - [`Pool::imap_unordered`] does the same lazily, and yields each value as soon as it arrives.
//!
//! # Process death
//!
//! | process | what happens when it dies |
//! |---|---|
//! | a worker | its task fails with [`TaskError::Crashed`], and the pool starts another worker; if the worker had not read the task, another worker runs it |
//! | the process that owns the pool | the kernel kills the workers |
//!
//! If the pool is dropped, its workers end, and unfinished tasks fail with
//! [`TaskError::PoolClosed`].

#![forbid(unsafe_code)]
#![warn(clippy::unwrap_used)]

mod batch;
mod error;
mod link;
mod map;
mod pool;
mod protocol;
mod scheduler;
mod task;
mod worker;

pub use error::{PoolError, TaskError};
pub use map::ImapUnordered;
pub use pool::{Pool, PoolBuilder};
pub use task::Task;

#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
