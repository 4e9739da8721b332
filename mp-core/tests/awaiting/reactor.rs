//! Scenarios with tasks that wait.

use futures_lite::future::poll_once;
use mp_core::pipe;

/// Declares a test as `scenario!` does. The thread that waits for tasks runs from the beginning: it
/// stays, and would count as a leak.
macro_rules! async_scenario {
    ($name:ident, $body:block) => {
        #[test]
        fn $name() {
            #[mp_core::process_fn]
            fn $name() {
                $crate::reactor::start();
                mp_testing::leaks::check(|| $body);
            }
            mp_testing::run::<$name>(mp_testing::LIMIT);
        }
    };
}
pub(crate) use async_scenario;

/// Starts the thread that waits for tasks.
pub(crate) fn start() {
    let (_sender, receiver) = pipe::<()>().unwrap();
    assert!(pollster::block_on(poll_once(receiver.recv_async())).is_none());
}
