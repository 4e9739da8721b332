//! A pool of worker processes.
//!
//! A [`Pool`] starts workers once and gives them tasks: calls of functions annotated with `#[process_fn]`. A task that
//! crashes its worker, or is killed with it, fails alone: the worker is replaced, and no other task notices.
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
//! # What there is
//!
//! - [`Pool::submit`] gives a [`Task`], whose value [`Task::join`] waits for;
//! - [`Pool::map`] runs one function on many arguments and returns the values in order;
//! - [`Pool::imap_unordered`] does so lazily, and gives each value as soon as it is there.
//!
//! # Process death
//!
//! | what dies | what happens |
//! |---|---|
//! | a worker | the task that it was running is [`TaskError::Crashed`]; a new worker takes its place |
//! | the pool | its workers end; tasks that were not done are [`TaskError::PoolClosed`] |
//! | the process that has the pool | the kernel kills the workers |

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
