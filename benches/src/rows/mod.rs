//! What is measured.

mod codec;
mod fill;
mod flow;
mod idle;
pub(crate) mod manager;
mod memory;
mod pool;
pub(crate) mod queue;
mod redis;
mod resident;
mod round_trip;
mod spawn;
mod sync;

pub use spawn::EXIT;

#[cfg(feature = "peers")]
pub(crate) use flow::{Pace, receive_turns, turn};
#[cfg(feature = "peers")]
pub(crate) use memory::middle;
#[cfg(feature = "peers")]
pub(crate) use round_trip::exchanges;
#[cfg(feature = "peers")]
pub(crate) use spawn::repeated;

use crate::measure::{Contender, Row, Scale};

/// Every row, in the order in which they run.
pub fn all() -> Vec<Row> {
    [
        spawn::rows(),
        resident::rows(),
        round_trip::rows(),
        idle::rows(),
        flow::rows(),
        sync::rows(),
        memory::rows(),
        fill::rows(),
        queue::rows(),
        codec::rows(),
        pool::rows(),
        manager::rows(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// A row on as many cores as there are.
fn row(name: &str, contenders: impl Fn(Scale) -> Vec<Contender> + 'static) -> Row {
    Row { name: name.to_owned(), pinned: false, operations: None, contenders: Box::new(contenders) }
}

/// The same on one core.
fn pinned(name: &str, contenders: impl Fn(Scale) -> Vec<Contender> + 'static) -> Row {
    Row { pinned: true, ..row(&format!("{name}/one-core"), contenders) }
}
