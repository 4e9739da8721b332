//! The pool: what it computes, and what it survives.

mod crash;
mod errors;
mod maps;
mod scarcity;
mod shutdown;
mod tasks;
