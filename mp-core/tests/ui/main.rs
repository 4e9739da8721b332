//! What `#[process_fn]` accepts. The package `mp-ui` tests what it refuses.

pub mod pass;
