//! How processes are made, and the default of that.

use std::mem;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::fork_server::ForkServer;
use crate::sys::fork::PerProcess;

/// How a new process is made.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub enum StartMethod {
    /// The same executable is started again, with no memory of this process. The cost does not
    /// depend on how much memory this process has.
    #[default]
    Spawn,
    /// A fork server makes a copy of itself, with what it has loaded.
    ForkServer(ForkServer),
}

static DEFAULT: PerProcess<Mutex<StartMethod>> = PerProcess::new(Mutex::default);

pub(super) fn default_method() -> MutexGuard<'static, StartMethod> {
    DEFAULT.get().lock().unwrap_or_else(PoisonError::into_inner)
}

/// Sets how this process makes processes whose [`Builder`](super::Builder) does not say it, those
/// of pools and managers included. At first it is [`StartMethod::Spawn`].
///
/// Processes do not inherit it. A library should not set it, but take a [`StartMethod`] from its
/// user.
///
/// # Examples
///
/// ```
/// use mp_core::{ForkServer, StartMethod, process_fn, set_start_method};
///
/// #[process_fn]
/// fn parent() -> u32 {
///     std::os::unix::process::parent_id()
/// }
///
/// let server = ForkServer::builder().build()?;
/// set_start_method(StartMethod::ForkServer(server.clone()));
/// assert_eq!(parent::spawn()?.join()?, server.pid());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn set_start_method(method: StartMethod) {
    // The old one is dropped without the lock.
    drop(mem::replace(&mut *default_method(), method));
}
