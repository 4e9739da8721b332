//! What `#[shared]` accepts, and what it says to what it does not.
//!
//! `pass` builds and runs here; `fail` must not build, with exactly the errors of the `.stderr` beside it. After a change of
//! the messages: `TRYBUILD=overwrite cargo test -p mp-manager --test ui`, and read the difference.

#[test]
fn ui() {
    let cases = trybuild::TestCases::new();
    cases.pass("tests/ui/pass/*.rs");
    cases.compile_fail("tests/ui/fail/*.rs");
}
