//! Functions, processes and messages that are awaited.

mod asynchronous;
mod asynchronous_messages;
mod forked;
mod futures;
#[cfg(feature = "async")]
mod reactor;

#[cfg(feature = "async")]
/// Runs a future with tokio, on this thread.
pub(crate) fn on_tokio<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(future)
}
