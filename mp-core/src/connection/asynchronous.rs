//! Waiting for messages, and for room for them, without a thread.
//!
//! Each future tries what `try_recv` or `try_send` does, waits until that may have become possible, and tries again. It holds nothing
//! while it waits, neither a message nor the turn of a large one, so it can be dropped at any time, and one that nobody polls any
//! more is in nobody's way.

use std::future::poll_fn;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::error::{RecvError, SendError, SendErrorReason};
use super::packet::{self, MAX_INLINE};
use super::raw::{ENCODING, Patience, Socket};
use super::turn::{Taken, Turn};
use super::{Connection, Receiver, Sender};
use crate::codec::EncodeError;
use crate::message::{Body, Encoded};
use crate::sys::socket::Blocking;

/// A message that is ready to be sent.
struct Ready {
    body: Body,
    handles: Vec<OwnedFd>,
}

impl Socket {
    async fn recv_async<T: DeserializeOwned>(&self) -> Result<T, RecvError> {
        loop {
            if let Some(value) = self.recv(Patience::None)? {
                return Ok(value);
            }
            self.fd.readable().await.map_err(RecvError::Io)?;
        }
    }

    fn make_ready<T: Serialize>(&self, value: &T) -> Result<Ready, SendErrorReason> {
        let mut scratch = ENCODING.take();
        scratch.clear();
        match Body::encode(value, MAX_INLINE, scratch, None) {
            Ok(Encoded::Whole(body, handles)) => Ok(Ready { body, handles }),
            Ok(Encoded::Passed) => Err(SendErrorReason::Encode(EncodeError::new("there was nowhere for it to pass"))),
            Err(error) => Err(SendErrorReason::Encode(error)),
        }
    }

    async fn send_ready(&self, message: Ready) -> Result<(), SendErrorReason> {
        match &message.body {
            Body::Inline(_) => self.send_short(&message).await?,
            Body::Sealed { .. } => self.send_large_async(&message).await?,
        }
        if let Body::Inline(scratch) = message.body {
            ENCODING.set(scratch);
        }
        Ok(())
    }

    async fn send_short(&self, message: &Ready) -> Result<(), SendErrorReason> {
        loop {
            match packet::send(self.fd.as_fd(), &message.body, &message.handles, None, Blocking::No) {
                Ok(()) => return Ok(()),
                Err(error) => self.judge(error)?,
            }
            self.fd.writable().await.map_err(SendErrorReason::Io)?;
        }
    }

    async fn send_large_async(&self, message: &Ready) -> Result<(), SendErrorReason> {
        loop {
            let turn = self.turn.take_async().await.map_err(SendErrorReason::Io)?;
            if self.try_send_large(message, turn)? {
                return Ok(());
            }
            // The turn is given back by now.
            self.fd.writable().await.map_err(SendErrorReason::Io)?;
        }
    }

    /// Sends a large message if there is room for it; false if there is none.
    fn try_send_large(&self, message: &Ready, turn: Taken<'_>) -> Result<bool, SendErrorReason> {
        let (mine, theirs) = crate::sys::fd::pipe().map_err(SendErrorReason::Io)?;
        let receipt = Some(theirs.as_fd());
        match packet::send(self.fd.as_fd(), &message.body, &message.handles, receipt, Blocking::No) {
            Ok(()) => {
                turn.sent(mine);
                Ok(true)
            }
            Err(error) => self.judge(error).map(|()| false),
        }
    }
}

impl Turn {
    /// Waits until no large message of this end is under way.
    async fn take_async(&self) -> io::Result<Taken<'_>> {
        loop {
            let receipt = match poll_fn(|context| self.poll_take(context.waker())).await {
                Ok(taken) => return Ok(taken),
                Err(receipt) => receipt,
            };
            receipt.hung_up().await?;
            self.note_received(&receipt);
        }
    }
}

impl<T: DeserializeOwned> Receiver<T> {
    /// Receives the next message; the future waits for it without a thread, on any executor (feature `async`).
    ///
    /// Dropping the future loses no message: one is taken only when the future is ready. Several may wait at once, also together with
    /// threads in [`recv`](Self::recv); each message goes to one of them. A message longer than 64 KiB comes through memory of its own,
    /// as to [`try_recv`](Self::try_recv), and is decoded on the thread that polls.
    ///
    /// # Errors
    ///
    /// As [`recv`](Self::recv); also [`RecvError::Io`] if the thread that waits for all tasks cannot be started.
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
    /// Sends `value`; the future waits for room without a thread, on any executor (feature `async`).
    ///
    /// The value is encoded when the future is first polled. It was sent if, and only if, the future was ready with success: dropping it
    /// before sends nothing, and the value is gone with it. Several may wait at once, also together with threads in
    /// [`send`](Self::send); which of them goes first is not said. A message longer than 64 KiB waits for the one before it of this
    /// sender to be received.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send); also [`SendErrorReason::Io`] if the thread that waits for all tasks cannot be started.
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
    /// Sends `value`; the future waits for room without a thread (feature `async`). See [`Sender::send_async`].
    ///
    /// # Errors
    ///
    /// As [`Sender::send_async`].
    pub async fn send_async(&self, value: Tx) -> Result<(), SendError<Tx>> {
        send(&self.socket, value).await
    }
}

impl<Tx, Rx: DeserializeOwned> Connection<Tx, Rx> {
    /// Receives the next message; the future waits for it without a thread (feature `async`). See [`Receiver::recv_async`].
    ///
    /// # Errors
    ///
    /// As [`Receiver::recv_async`].
    pub async fn recv_async(&self) -> Result<Rx, RecvError> {
        self.socket.recv_async().await
    }
}

async fn send<T: Serialize>(socket: &Socket, value: T) -> Result<(), SendError<T>> {
    // What waits borrows nothing of the value, which need not be `Sync`.
    let ready = socket.make_ready(&value);
    let sent = match ready {
        Ok(message) => socket.send_ready(message).await,
        Err(reason) => Err(reason),
    };
    sent.map_err(|reason| SendError { value, reason })
}
