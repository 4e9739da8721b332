//! Waiting for messages, and for room for them, without a thread.
//!
//! Each future tries what `try_recv` or `try_send` does, waits until that may be possible, and
//! tries again. It holds no received message and no credit while it waits. So it can be dropped at
//! any time, and a future that is no longer polled does not block other senders.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::task::Poll;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::error::{RecvError, SendError, SendErrorReason};
use super::raw::{Attempt, Outgoing, Socket};
use super::{Connection, Receiver, Sender};
use crate::large::Receipt;
use crate::sys::poll::Deadline;
use crate::sys::socket::Blocking;

impl Socket {
    async fn recv_async<T: DeserializeOwned>(&self) -> Result<T, RecvError> {
        loop {
            if let Some(value) = self.recv(Deadline::PASSED)? {
                return Ok(value);
            }
            self.fd.readable().await.map_err(RecvError::Io)?;
        }
    }

    async fn send_async(&self, mut message: Outgoing) -> Result<(), SendErrorReason> {
        loop {
            match self.attempt(&mut message, Blocking::No)? {
                Attempt::Sent => {
                    self.recycle(message.body);
                    return Ok(());
                }
                Attempt::NoRoom => self.fd.writable().await,
                Attempt::NoCredit(receipts) => first_closed(&receipts).await,
            }
            .map_err(SendErrorReason::Io)?;
        }
    }
}

/// Waits until one of `receipts` is closed.
async fn first_closed(receipts: &[Receipt]) -> io::Result<()> {
    let mut waits: Vec<_> = receipts.iter().map(|receipt| receipt.hung_up()).collect();
    poll_fn(|context| {
        let closed = waits.iter_mut().map(|wait| Pin::new(wait).poll(context)).find(Poll::is_ready);
        closed.unwrap_or(Poll::Pending)
    })
    .await
}

impl<T: DeserializeOwned> Receiver<T> {
    /// Receives the next message; the future waits for it without a thread, on any executor
    /// (feature `async`).
    ///
    /// Dropping the future loses no message: it takes one only when it is ready. Several tasks and
    /// threads in [`recv`](Self::recv) can wait at once; each message goes to one of them. The
    /// thread that polls decodes the message.
    ///
    /// # Errors
    ///
    /// As [`recv`](Self::recv), and [`RecvError::Io`] if the thread that waits for all tasks cannot
    /// be started.
    ///
    /// # Examples
    ///
    /// ```
    /// use mp_core::{RecvError, Sender, pipe, process_fn};
    ///
    /// #[process_fn]
    /// fn count(to: u32, numbers: Sender<u32>) {
    ///     for number in 0..to {
    ///         numbers.send(number).unwrap();
    ///     }
    /// }
    ///
    /// pollster::block_on(async {
    ///     let (sender, receiver) = pipe()?;
    ///     let child = count::spawn(3, sender)?;
    ///     let mut sum = 0;
    ///     loop {
    ///         match receiver.recv_async().await {
    ///             Ok(number) => sum += number,
    ///             Err(RecvError::Disconnected) => break,
    ///             Err(error) => return Err(error.into()),
    ///         }
    ///     }
    ///     assert_eq!(sum, 3);
    ///     child.await?;
    ///     Ok::<(), Box<dyn std::error::Error>>(())
    /// })
    /// # .unwrap();
    /// ```
    pub async fn recv_async(&self) -> Result<T, RecvError> {
        self.socket.recv_async().await
    }
}

impl<T: Serialize> Sender<T> {
    /// Sends `value`; the future waits for room without a thread, on any executor (feature
    /// `async`).
    ///
    /// The first poll encodes the value. The message is sent if and only if the future returns
    /// `Ok`: dropping it earlier sends nothing, and drops the value. Several tasks and threads in
    /// [`send`](Self::send) can wait at once, and their messages go in any order. A message longer
    /// than 200 KiB also waits while two such messages of this sender are unreceived.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send), and [`SendErrorReason::Io`] if the thread that waits for all tasks
    /// cannot be started.
    ///
    /// # Examples
    ///
    /// ```
    /// use mp_core::{Receiver, pipe, process_fn};
    ///
    /// #[process_fn]
    /// fn sum(numbers: Receiver<u64>) -> u64 {
    ///     numbers.iter().map(|number| number.unwrap()).sum()
    /// }
    ///
    /// pollster::block_on(async {
    ///     let (sender, receiver) = pipe()?;
    ///     let child = sum::spawn(receiver)?;
    ///     for number in 0..1000 {
    ///         sender.send_async(number).await?;
    ///     }
    ///     drop(sender);
    ///     assert_eq!(child.await?, 499_500);
    ///     Ok::<(), Box<dyn std::error::Error>>(())
    /// })
    /// # .unwrap();
    /// ```
    pub async fn send_async(&self, value: T) -> Result<(), SendError<T>> {
        send(&self.socket, value).await
    }
}

impl<Tx: Serialize, Rx> Connection<Tx, Rx> {
    /// Sends `value`; the future waits for room without a thread (feature `async`). See
    /// [`Sender::send_async`].
    ///
    /// # Errors
    ///
    /// As [`Sender::send_async`].
    pub async fn send_async(&self, value: Tx) -> Result<(), SendError<Tx>> {
        self.sender.send_async(value).await
    }
}

impl<Tx, Rx: DeserializeOwned> Connection<Tx, Rx> {
    /// Receives the next message; the future waits for it without a thread (feature `async`). See
    /// [`Receiver::recv_async`].
    ///
    /// # Errors
    ///
    /// As [`Receiver::recv_async`].
    pub async fn recv_async(&self) -> Result<Rx, RecvError> {
        self.receiver.recv_async().await
    }
}

async fn send<T: Serialize>(socket: &Socket, value: T) -> Result<(), SendError<T>> {
    // The part that waits does not borrow the value, which need not be `Sync`.
    let message = socket.encode(&value);
    let sent = match message {
        Ok(message) => socket.send_async(message).await,
        Err(reason) => Err(reason),
    };
    sent.map_err(|reason| SendError { value, reason })
}
