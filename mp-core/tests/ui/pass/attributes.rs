//! Other attributes of the function, which stay with it.

#![deny(warnings)]

use mp_core::process_fn;

#[process_fn]
#[must_use]
#[inline(never)]
fn must_use() -> u8 {
    1
}

#[track_caller]
#[process_fn]
#[cold]
fn track_caller() -> u32 {
    std::panic::Location::caller().line()
}

#[process_fn]
#[must_use = "it is all there is"]
#[inline]
async fn must_use_later(a: &u8) -> Result<u8, u8> {
    Err(*a)
}

#[process_fn]
#[track_caller]
fn track_caller_of_references(_a: &str, _b: &[u8]) -> (String, u32) {
    let place = std::panic::Location::caller();
    (place.file().to_owned(), place.line())
}

/// Whoever calls it directly is its caller.
fn direct_call() -> (u32, u32) {
    (line!(), track_caller_of_references("", &[]).1)
}

#[process_fn]
#[deny(clippy::all)]
#[expect(unused_variables)]
fn expected_of_a_reference(unused: &str) {}

#[expect(unused_variables)]
#[process_fn]
async fn expected_before(unused: &str) {}

#[process_fn]
#[deprecated = "for the test"]
async fn old_later(a: &str) -> usize {
    a.len()
}

#[cfg(any())]
#[process_fn]
async fn absent_later(does: &Not, exist: &[Either]) {}

#[process_fn(executor = not::there)]
#[cfg_attr(not(any()), cfg(any()))]
async fn absent_executor(does: &Not) {}

#[process_fn]
fn on_a_reference(#[allow(unused_variables)] unused: &str) {}

/// Attributes of others change the body, whether they come before ours or after.
mod others {
    use std::sync::atomic::{AtomicU32, Ordering};

    use attribute_macros::first_do;
    use mp_core::process_fn;

    pub(crate) static RUNS: AtomicU32 = AtomicU32::new(0);

    #[first_do(RUNS.fetch_add(1, Ordering::SeqCst))]
    #[process_fn]
    pub(crate) fn before(a: &str) -> usize {
        a.len()
    }

    #[process_fn]
    #[first_do(RUNS.fetch_add(10, Ordering::SeqCst))]
    pub(crate) fn after(a: u8) -> u8 {
        a
    }

    #[first_do(RUNS.fetch_add(100, Ordering::SeqCst))]
    #[process_fn]
    #[first_do(RUNS.fetch_add(1000, Ordering::SeqCst))]
    /// A comment among them.
    #[must_use]
    pub(crate) async fn around(a: &[u8]) -> Result<usize, String> {
        Ok(a.len())
    }
}

#[process_fn]
#[allow(unused_variables)]
fn allowed(unused: u8) {}

#[process_fn]
#[expect(unused_variables)]
fn expected(unused: u8) {}

#[process_fn]
fn on_a_parameter(#[allow(unused_variables)] unused: u8) {}

/// Nothing that is made of it may warn.
#[process_fn]
#[deprecated(since = "1.0.0", note = "for the test")]
fn old() -> u8 {
    1
}

#[allow(deprecated)]
fn use_old() {
    assert_eq!(old::call().run(), old());
    assert_eq!(old_later::call("ab").run(), 2);
}

mod old_types {
    #![allow(deprecated)]
    use super::process_fn;

    #[deprecated]
    #[derive(serde::Serialize, serde::Deserialize)]
    pub(crate) struct Old;

    #[process_fn]
    pub(crate) fn with_old_type(old: Old) -> Old {
        old
    }
}

#[cfg(any())]
#[process_fn]
fn absent_before(does: Not, exist: Either) {}

#[process_fn]
#[cfg(any())]
fn absent_after(does: Not, exist: Either) {}

#[process_fn]
#[cfg_attr(not(any()), cfg(any()))]
fn absent_by_cfg_attr(does: Not, exist: Either) {}

#[cfg_attr(not(any()), process_fn)]
#[cfg(not(any()))]
#[cfg_attr(not(any()), doc(hidden), inline)]
fn present(a: u8) -> u8 {
    a
}

#[test]
fn it_works() {
    assert_eq!(must_use::call().run(), must_use());
    assert_eq!(must_use_later::call(&1).run(), Err(1));
    assert_ne!(track_caller::call().run(), 0);
    let (line, caller) = direct_call();
    assert_eq!(line, caller);
    assert_eq!(track_caller_of_references::call("", &[]).run().0, file!());
    expected_of_a_reference::call("").run();
    expected_before::call("").run();
    on_a_reference::call("").run();
    assert_eq!(others::before::call("ab").run(), 2);
    assert_eq!(others::after::call(3).run(), 3);
    assert_eq!(others::around::call(&[1]).run(), Ok(1));
    assert_eq!(others::RUNS.load(std::sync::atomic::Ordering::SeqCst), 1111);
    allowed::call(1).run();
    expected::call(1).run();
    on_a_parameter::call(1).run();
    use_old();
    let _ = old_types::with_old_type::call;
    assert_eq!(present::call(1).run(), 1);
}
