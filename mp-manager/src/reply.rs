//! `Reply`: the answer of a call that was sent.

use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll};

use serde::de::DeserializeOwned;

use crate::error::CallError;
use crate::handle::{Handle, expect};
use crate::link::Pending;
use crate::value::Value;
use crate::wire::Operation;

/// The answer of a call that was sent with `later()`, which a thread can [`join`](Self::join) and a
/// task can await.
///
/// A process can send many calls before it joins the first. They arrive in the order in which they
/// were sent. If a reply is dropped, the call still runs.
///
/// Awaiting works on any executor, and a poll waits for nothing. While tasks of this process wait
/// for a server, one thread waits for all of them.
#[must_use = "dropping it drops the answer"]
#[derive(Debug)]
pub struct Reply<T> {
    sent: Result<Pending, CallError>,
    /// Keeps the object alive until the call has arrived.
    _handle: Handle,
    types: PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned> Reply<T> {
    /// Sends a call of the method at a place, with its arguments: with others, if it is short.
    pub(crate) fn new(handle: &Handle, method: u32, arguments: Result<Value, CallError>) -> Self {
        let sent = arguments.and_then(|arguments| {
            let short = arguments.is_small();
            handle.begin(None, Operation::Call(method, arguments), short)
        });
        Self { sent, _handle: handle.clone(), types: PhantomData }
    }

    /// Waits for the answer. A limit of the proxy counts from when the call was sent.
    ///
    /// # Errors
    ///
    /// Any [`CallError`], also one of sending the call.
    pub fn join(self) -> Result<T, CallError> {
        expect(self.sent?.finish()).and_then(Value::decode)
    }
}

/// A limit of the proxy does not apply.
impl<T: DeserializeOwned> Future for Reply<T> {
    type Output = Result<T, CallError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match &self.sent {
            Err(error) => Poll::Ready(Err(error.clone())),
            Ok(pending) => pending.poll(context.waker()).map(|answer| expect(answer).and_then(Value::decode)),
        }
    }
}
