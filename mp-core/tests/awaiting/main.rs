//! Functions, processes and messages that are awaited.

mod asynchronous;
mod asynchronous_messages;
mod futures;
#[cfg(feature = "async")]
mod reactor;
