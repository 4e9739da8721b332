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

fn main() {
    assert_eq!(must_use::call().run(), must_use());
    assert_ne!(track_caller::call().run(), 0);
    allowed::call(1).run();
    expected::call(1).run();
    on_a_parameter::call(1).run();
    use_old();
    let _ = old_types::with_old_type::call;
    assert_eq!(present::call(1).run(), 1);
}
