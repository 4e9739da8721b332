//! The sources of mp-sync and mp-queue, as far as loom runs them.

#![cfg_attr(not(test), allow(dead_code, unused_imports, reason = "the tests use them"))]

#[macro_use]
#[path = "../../mp-sync/src/primitive/mod.rs"]
mod primitive;
#[path = "../../mp-sync/src/deadline.rs"]
mod deadline;
#[path = "../../mp-queue/src/protocol/index.rs"]
mod index;
#[cfg(test)]
mod queue;
#[path = "../../mp-sync/src/raw/mod.rs"]
mod raw;
#[path = "../../mp-sync/src/spin.rs"]
mod spin;
