//! The manager: what objects do, how long they live, and what dies around them.

mod deaths;
#[allow(clippy::all, unreachable_pub, unused, unused_qualifications, reason = "it is code as users may write it")]
mod forms;
mod hostile;
mod lifetimes;
mod objects;
mod pools;
mod python;
mod remote;
mod servers;
mod shared;
mod waiting;
mod watching;
