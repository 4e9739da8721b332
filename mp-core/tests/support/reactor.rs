//! Scenarios with tasks that wait. Not part of `support`, which other crates use without the feature `async`.

#![allow(dead_code, unused_macros, unused_imports, reason = "each test executable uses some of it")]

use futures_lite::future::poll_once;
use mp_core::pipe;

/// As `scenario!`, with the thread that waits for tasks there from the beginning: it stays, and would be taken for a leak.
macro_rules! async_scenario {
    ($name:ident, $body:block) => {{
        #[mp_core::process_fn]
        fn $name() {
            $crate::reactor::start();
            $crate::support::leaks::check(|| $body);
        }
        $crate::support::run::<$name>($crate::support::LIMIT);
    }};
}
pub(crate) use async_scenario;

/// Starts the thread that waits for tasks.
pub(crate) fn start() {
    let (_sender, receiver) = pipe::<()>().unwrap();
    assert!(pollster::block_on(poll_once(receiver.recv_async())).is_none());
}

/// Runs a future with tokio, on this thread.
pub(crate) fn on_tokio<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(future)
}
