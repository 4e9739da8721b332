//! The pool: what it computes, and what it survives.

mod awaiting;
mod chunks;
mod crash;
mod elsewhere;
mod errors;
mod hostile;
mod limits;
mod maps;
mod peers;
mod report;
mod scarcity;
mod shutdown;
mod start;
mod state;
mod tasks;
mod warm;
