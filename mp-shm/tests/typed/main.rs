//! Memory with a type.

mod array;
mod buffer;
mod bytes;
mod delivery;
mod derive;
mod errors;
mod fork_server;
mod forked;
mod frozen;
mod layout;
mod programs;
mod reclaim;
mod scarcity;
mod shared;
mod surroundings;
mod value;
