//! The manager: what objects do, how long they live, and what dies around them.

mod deaths;
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
