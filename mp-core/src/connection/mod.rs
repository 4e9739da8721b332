//! Typed channels between processes: [`pipe`] one way, [`duplex`] both ways.

#[cfg(feature = "async")]
mod asynchronous;
mod duplex;
mod error;
mod packet;
mod raw;
mod receiver;
mod sender;
mod serialize;

use std::io;

pub use duplex::{Connection, Messages, duplex};
pub use error::{RecvError, SendError, SendErrorReason};
pub(crate) use raw::leave_buffer;
pub use receiver::{Iter, Receiver};
pub use sender::Sender;

use crate::sys::socket;

/// Makes a one-way channel for values of type `T`. The [`Receiver`] gets the values of the
/// [`Sender`] in order, each of them whole.
///
/// Either end can be an argument or a result of a call, or be sent over another connection. It then
/// belongs to the process that receives it. The kernel's socket buffer holds messages that were not
/// received yet: by default about 200 KiB, or a few hundred short messages. A sender waits while it
/// is full.
///
/// A message longer than 200 KiB is sent in a memory file, which the receiver copies. Each sender
/// may have two such messages that are not received yet, and waits before it sends a third.
///
/// # Errors
///
/// Fails if this process or the system has no descriptors left.
///
/// # Process death
///
/// When the last sender is closed or dies, receivers get the messages that it sent, and then
/// [`RecvError::Disconnected`]. No message arrives in part. When the last receiver is closed or
/// dies, sending fails with [`SendErrorReason::Disconnected`], and unreceived messages are lost.
///
/// # Examples
///
/// ```
/// use mp_core::{Sender, pipe, process_fn};
///
/// #[process_fn]
/// fn count(to: u32, numbers: Sender<u32>) {
///     for number in 0..to {
///         numbers.send(number).unwrap();
///     }
/// }
///
/// let (sender, receiver) = pipe()?;
/// let child = count::spawn(3, sender)?;
/// assert_eq!(receiver.iter().collect::<Result<Vec<_>, _>>()?, [0, 1, 2]);
/// child.join()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn pipe<T>() -> io::Result<(Sender<T>, Receiver<T>)> {
    let (sender, receiver) = socket::pair()?;
    Ok((Sender::from_fd(sender), Receiver::from_fd(receiver)))
}
