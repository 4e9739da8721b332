//! What `#[derive(ShmSafe)]` accepts, and what it says to what it does not; and what must not be done with what arrays and values lend.
//!
//! Three folders under `ui`: `pass` builds and runs here; `fail` must not build, with exactly the errors of the `.stderr`
//! beside it, all of which are the derive's own; `fail-rustc` likewise, with errors whose wording is rustc's, and
//! changes with it. Those are compared only by the compiler they were written with: `RUSTC` below.
//!
//! After a change of the messages: `TRYBUILD=overwrite cargo test -p mp-shm --test ui`, and read the difference.

use std::process::Command;

/// Parts of this executable, and no cases of trybuild, so that clippy sees them and each is not linked alone.
pub mod pass;

/// The version whose wording the folder `fail-rustc` has.
const RUSTC: &str = "rustc 1.95.";

#[test]
fn ui() {
    let cases = trybuild::TestCases::new();
    cases.compile_fail("tests/ui/fail/*.rs");
    if is_written_for_this_compiler() {
        cases.compile_fail("tests/ui/fail-rustc/*.rs");
    }
}

/// Asks the compiler that trybuild is going to use.
fn is_written_for_this_compiler() -> bool {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc).arg("--version").output().expect("rustc runs");
    String::from_utf8_lossy(&output.stdout).starts_with(RUSTC)
}
