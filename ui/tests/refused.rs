//! What must not compile, and what the compiler says then.
//!
//! A folder for each crate, and in it two: the errors of `fail` are ours, word for word as in the `.stderr` beside each
//! file; the wording of those in `fail-rustc` is rustc's and changes with it, so they are compared only by the compiler
//! that they were written with: `RUSTC`.
//!
//! After a change: `TRYBUILD=overwrite cargo test -p mp-ui`, and read the difference.

use std::process::Command;

/// The version whose wording the folders `fail-rustc` have.
const RUSTC: &str = "rustc 1.95.";

#[test]
fn what_is_refused_says_why() {
    let cases = trybuild::TestCases::new();
    cases.compile_fail("tests/*/fail/*.rs");
    if is_written_for_this_compiler() {
        cases.compile_fail("tests/*/fail-rustc/*.rs");
    }
}

/// Asks the compiler that trybuild is going to use.
fn is_written_for_this_compiler() -> bool {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc).arg("--version").output().expect("rustc runs");
    String::from_utf8_lossy(&output.stdout).starts_with(RUSTC)
}
