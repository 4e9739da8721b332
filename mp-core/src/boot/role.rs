//! Processes that are no children, and do not run `main` either.
//!
//! A launcher starts the same executable many times, and tells each process by its environment
//! which part it has. A crate that knows a launcher registers a [`Role`], so that only the
//! processes that are to run the program's `main` do.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::exit;

use mp_macros::versioned_slice;

use super::Constructor;
use crate::sys::runtime;

/// Every role of the executable.
#[versioned_slice]
pub static ROLES: [Role];

/// A part that some processes of the executable have in place of `main`.
///
/// mp-mpi registers one with
/// `#[mp_core::__private::linkme::distributed_slice(mp_core::__private::ROLES)]`.
#[derive(Debug)]
pub struct Role {
    applies: fn() -> bool,
    run: fn(),
}

impl Role {
    /// Describes a role: whether this process has it, and what it does then. The process exits when
    /// that returns. `applies` runs in every process that is not a child, before `main`.
    pub const fn new(applies: fn() -> bool, run: fn()) -> Self {
        Self { applies, run }
    }
}

/// The exit code of a process whose role panicked: that of a `main` that panicked.
const PANICKED: i32 = 101;

/// Returns if this process has no role.
pub(super) fn run_if_applies(constructor: Option<Constructor>) {
    let Some(role) = ROLES.iter().find(|role| (role.applies)()) else { return };
    runtime::ignore_sigpipe();
    // A panic must not unwind into the C library. The panic hook prints it.
    let ran = catch_unwind(AssertUnwindSafe(|| {
        if let Some(constructor) = constructor {
            (constructor.run_remaining)(constructor);
        }
        (role.run)();
    }));
    exit(if ran.is_ok() { 0 } else { PANICKED });
}
