//! How an operation waits: as a thread until a deadline, or as a task until an alarm.
//!
//! Every operation that waits for a socket is written once, as an `async fn` that takes a
//! [`Waits`]. A thread waits inside the future, by poll(2), so the future never suspends and
//! [`now`] runs it to its end.

use std::future::Future;
use std::io;
use std::os::fd::AsFd;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use mp_core::raw::{self, Deadline, PollableFd};

pub(crate) enum Waits {
    /// The thread waits until the deadline.
    Thread(Deadline),
    /// The task waits until the alarm is readable, or indefinitely without an alarm.
    #[cfg(feature = "async")]
    Task { alarm: Option<PollableFd> },
}

impl Waits {
    /// Tells whether the deadline of a thread has passed.
    pub(crate) fn is_over(&self) -> bool {
        match self {
            Self::Thread(deadline) => deadline.has_passed(),
            #[cfg(feature = "async")]
            Self::Task { .. } => false,
        }
    }

    /// Waits until the socket is readable, at its end or in error. Returns false at the deadline.
    pub(crate) async fn readable(&self, socket: &PollableFd) -> io::Result<bool> {
        match self {
            Self::Thread(deadline) => raw::readable(socket.as_fd(), *deadline),
            #[cfg(feature = "async")]
            Self::Task { alarm } => before(socket.readable(), alarm.as_ref()).await,
        }
    }

    /// Waits until the socket is writable or in error. Returns false at the deadline.
    pub(crate) async fn writable(&self, socket: &PollableFd) -> io::Result<bool> {
        match self {
            Self::Thread(deadline) => raw::writable(socket.as_fd(), *deadline),
            #[cfg(feature = "async")]
            Self::Task { alarm } => before(socket.writable(), alarm.as_ref()).await,
        }
    }
}

/// Waits for `ready`, and returns false if the alarm is readable first.
#[cfg(feature = "async")]
async fn before(mut ready: raw::Readiness, alarm: Option<&PollableFd>) -> io::Result<bool> {
    let mut alarm = alarm.map(PollableFd::readable);
    std::future::poll_fn(|context| {
        if let Poll::Ready(result) = pin!(&mut ready).poll(context) {
            return Poll::Ready(result.map(|()| true));
        }
        match &mut alarm {
            Some(alarm) => pin!(alarm).poll(context).map_ok(|()| false),
            None => Poll::Pending,
        }
    })
    .await
}

/// Runs a future that waits as [`Waits::Thread`].
pub(crate) fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => result,
        Poll::Pending => unreachable!("a thread waits inside the future"),
    }
}
