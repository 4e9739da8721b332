//! Whatever is killed, runs out, or is sent wrongly: an error, and nothing is left.

mod bad_input;
mod errors;
mod fault_streams;
mod faults;
mod floods;
mod forged;
mod hostile;
mod resources;
mod scarce_memory;
mod scarcity;
