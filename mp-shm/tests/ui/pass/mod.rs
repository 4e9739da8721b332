//! What `#[derive(ShmSafe)]` accepts, in code as users may write it.

#![allow(
    clippy::all,
    unreachable_pub,
    unused,
    unused_qualifications,
    reason = "only in `lints` is their code to be without a warning"
)]

mod forbid;
pub mod lints;
mod shadowed;
mod shapes;
