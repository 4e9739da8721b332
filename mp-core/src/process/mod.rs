//! Starting processes, and what their parent can do with them.

mod builder;
mod child;
mod environment;
mod error;
mod handle;
mod opaque;
mod reaper;
mod status;
mod stdio;

pub use builder::{Builder, StartMethod};
pub use error::{JoinError, SpawnError};
pub use handle::Process;
pub use status::ExitStatus;
pub use stdio::Stdio;
