//! Starting, signalling and joining processes.

mod builder;
mod child;
mod children;
mod environment;
mod error;
mod fork_server;
mod handle;
#[cfg(feature = "async")]
mod join_future;
mod limits;
mod output;
mod portable;
mod record;
mod server;
mod server_builder;
mod start_method;
mod stdio;

pub use builder::Builder;
pub use children::{ChildInfo, active_children};
pub use error::{ForkServerError, JoinError, SpawnError};
pub use fork_server::ForkServer;
pub use handle::Process;
#[cfg(feature = "async")]
pub use join_future::JoinFuture;
pub use output::Output;
pub use portable::Portable;
pub use server_builder::ForkServerBuilder;
pub use start_method::{StartMethod, set_start_method};
pub use stdio::Stdio;
