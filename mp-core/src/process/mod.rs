//! Starting, signalling and joining processes.

mod builder;
mod child;
mod children;
mod environment;
mod error;
mod handle;
#[cfg(feature = "async")]
mod join_future;
mod limits;
mod output;
mod record;
mod stdio;

pub use builder::{Builder, StartMethod};
pub use children::{ChildInfo, active_children};
pub use error::{JoinError, SpawnError};
pub use handle::Process;
#[cfg(feature = "async")]
pub use join_future::JoinFuture;
pub use output::Output;
pub use stdio::Stdio;
