//! One process: how it is started, what it is given, how it ends, and what its parent learns.

mod control;
mod descriptors;
mod detached;
mod environment;
mod executable;
mod exits;
mod forked;
mod hooks;
mod interrupt;
mod join;
mod lifeline;
mod limits;
mod outlive;
mod overflow;
mod panics;
mod privileges;
mod stdio;
mod surroundings;
mod thread_ends;
mod tracing;
mod unholdable;
