//! What must not compile. The wording is rustc's and changes with it, so the test compares it only
//! with the compiler that it was written with: `RUSTC`.
//!
//! After a change: `TRYBUILD=overwrite cargo test -p mp-sync --test ui`, and read the difference.

use std::process::Command;

/// The version whose wording the folder `ui` has.
const RUSTC: &str = "rustc 1.95.";

#[test]
fn misuse_does_not_compile() {
    if is_written_for_this_compiler() {
        trybuild::TestCases::new().compile_fail("tests/ui/*.rs");
    }
}

/// Asks the compiler that trybuild is going to use.
fn is_written_for_this_compiler() -> bool {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc).arg("--version").output().expect("rustc runs");
    String::from_utf8_lossy(&output.stdout).starts_with(RUSTC)
}
