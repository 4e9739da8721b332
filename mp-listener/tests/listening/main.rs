//! Listeners, clients and the connections between them.

mod asynchronous;
mod byte_connection;
mod errors;
mod forked;
mod hostile;
mod listener;
mod python;
#[path = "../../../mp-core/tests/awaiting/reactor.rs"]
mod reactor;
