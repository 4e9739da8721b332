//! What `#[derive(ShmSafe)]` accepts. The package `mp-ui` tests what it refuses.

pub mod pass;
