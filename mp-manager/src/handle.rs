//! What every proxy holds.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use mp_core::DecodeError;
use mp_core::raw::Deadline;
use serde::de::{self, DeserializeOwned};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::CallError;
use crate::link::{self, Link, Pending};
use crate::value::{Entry, Value};
use crate::wire::{Body, Initial, Operation, Timeout};

/// One object of a server, and the lease that keeps it alive.
#[derive(Clone, Debug)]
pub struct Handle {
    link: Arc<Link>,
    object: u64,
    lease: Arc<OwnedFd>,
    /// How long a call may take.
    limit: Option<Duration>,
}

impl Handle {
    pub(crate) fn new(link: &Arc<Link>, body: Body) -> Result<Self, CallError> {
        match body {
            Body::Object(object, Some(lease)) => {
                Ok(Self { link: Arc::clone(link), object, lease: Arc::new(lease.into_inner()), limit: None })
            }
            other => Err(unexpected(other)),
        }
    }

    /// Makes an object with proxies of type `P`.
    pub(crate) fn create<P: Proxy>(host: &impl Host, initial: Initial) -> Result<P, CallError> {
        let body = ask(host.link(), Operation::Create { initial, interface: P::interface() })?;
        Self::new(host.link(), body).map(P::from_handle)
    }

    /// Returns the number of the object.
    pub fn id(&self) -> u64 {
        self.object
    }

    pub(crate) fn is_through(&self, link: &Arc<Link>) -> bool {
        Arc::ptr_eq(&self.link, link)
    }

    /// Sets how long a call may take.
    pub fn limit(&mut self, limit: Option<Duration>) {
        self.limit = limit;
    }

    /// Sends a request without waiting for the answer.
    pub(crate) fn begin(&self, operation: Operation, deadline: Deadline) -> Result<Pending, CallError> {
        self.link.begin(self.object, operation, deadline)
    }

    /// Sends a request together with others if it is short, without waiting for the answer.
    pub(crate) fn begin_later(&self, operation: Operation, deadline: Deadline) -> Result<Pending, CallError> {
        match &operation {
            Operation::Call(_, value) if value.is_small() => self.link.begin_later(self.object, operation, deadline),
            _ => self.begin(operation, deadline),
        }
    }

    pub(crate) fn deadline(&self) -> Deadline {
        Deadline::from_timeout(self.limit)
    }

    pub(crate) fn call(&self, operation: Operation) -> Result<Body, CallError> {
        let deadline = self.deadline();
        self.begin(operation, deadline)?.finish(deadline)
    }

    /// Calls an operation that may wait in the server: for `timeout`, or as long as a call of this
    /// proxy may.
    pub(crate) fn wait(
        &self,
        timeout: Option<Duration>,
        operation: impl FnOnce(Timeout) -> Operation,
    ) -> Result<Body, CallError> {
        self.begin_wait(timeout, operation)?.finish(Deadline::NEVER)
    }

    fn begin_wait(
        &self,
        timeout: Option<Duration>,
        operation: impl FnOnce(Timeout) -> Operation,
    ) -> Result<Pending, CallError> {
        let shortest = timeout.into_iter().chain(self.limit).min();
        self.begin(operation(shortest), Deadline::from_timeout(self.limit))
    }

    /// Waits for a value, and acknowledges it.
    pub(crate) fn take<T: DeserializeOwned>(&self, timeout: Option<Duration>) -> Result<Option<T>, CallError> {
        let pending = self.begin_wait(timeout, Operation::Take)?;
        match pending.finish(Deadline::NEVER)? {
            Body::Value(Some(value)) => {
                pending.acknowledge(self.object);
                decode(value).map(Some)
            }
            Body::Value(None) => Ok(None),
            other => Err(unexpected(other)),
        }
    }

    /// Waits for something that is true in the end, or false if the time is over.
    pub(crate) fn wait_flag(
        &self,
        timeout: Option<Duration>,
        operation: impl FnOnce(Timeout) -> Operation,
    ) -> Result<bool, CallError> {
        match self.wait(timeout, operation)? {
            Body::Flag(flag) => Ok(flag),
            other => Err(unexpected(other)),
        }
    }

    /// Sends a request that has no answer.
    pub(crate) fn post(&self, operation: Operation) {
        // If the server has ended, there is nothing to be told.
        let _ = self.link.post(self.object, operation);
    }

    /// Asks for all values, and decodes each.
    pub(crate) fn entries<T>(&self, decode: fn(Entry) -> Result<T, CallError>) -> Result<Vec<T>, CallError> {
        match self.call(Operation::Entries)? {
            Body::Entries(entries) => entries.into_iter().map(decode).collect(),
            other => Err(unexpected(other)),
        }
    }

    /// Calls an operation whose answer is another object.
    pub(crate) fn made(&self, operation: Operation) -> Result<Self, CallError> {
        Ok(Self { limit: self.limit, ..Self::new(&self.link, self.call(operation)?)? })
    }

    pub(crate) fn done(&self, operation: Operation) -> Result<(), CallError> {
        match self.call(operation)? {
            Body::Done => Ok(()),
            other => Err(unexpected(other)),
        }
    }

    pub(crate) fn flag(&self, operation: Operation) -> Result<bool, CallError> {
        match self.call(operation)? {
            Body::Flag(flag) => Ok(flag),
            other => Err(unexpected(other)),
        }
    }

    pub(crate) fn number(&self, operation: Operation) -> Result<u64, CallError> {
        match self.call(operation)? {
            Body::Number(number) => Ok(number),
            other => Err(unexpected(other)),
        }
    }

    pub(crate) fn value<T: DeserializeOwned>(&self, operation: Operation) -> Result<Option<T>, CallError> {
        match self.call(operation)? {
            Body::Value(value) => value.map(decode).transpose(),
            other => Err(unexpected(other)),
        }
    }

    /// Asks for a value that is always there.
    pub(crate) fn certain<T: DeserializeOwned>(&self, operation: Operation) -> Result<T, CallError> {
        match self.call(operation)? {
            Body::Value(Some(value)) => decode(value),
            other => Err(unexpected(other)),
        }
    }

    pub(crate) fn values<T: DeserializeOwned>(&self, operation: Operation) -> Result<Vec<Option<T>>, CallError> {
        match self.call(operation)? {
            Body::Values(values) => values.into_iter().map(|value| value.map(decode).transpose()).collect(),
            other => Err(unexpected(other)),
        }
    }

    /// Compares and exchanges a value. The inner error holds the value that was there instead.
    pub(crate) fn compare_exchange<T: Serialize + DeserializeOwned>(
        &self,
        place: crate::wire::Place,
        old: Option<T>,
        new: Option<T>,
    ) -> Result<Result<(), Option<T>>, CallError> {
        let (old, new) = (old.as_ref().map(encode).transpose()?, new.as_ref().map(encode).transpose()?);
        match self.call(Operation::CompareExchange { place, old, new })? {
            Body::Done => Ok(Ok(())),
            Body::Unequal(found) => found.map(decode).transpose().map(Err),
            other => Err(unexpected(other)),
        }
    }
}

/// Finds an object by its name.
pub(crate) fn find<P: Proxy>(link: &Arc<Link>, name: &str) -> Result<P, CallError> {
    let body = ask(link, Operation::Find { name: name.to_owned(), interface: P::interface() })?;
    Handle::new(link, body).map(P::from_handle)
}

/// Asks the server itself.
pub(crate) fn ask(link: &Link, operation: Operation) -> Result<Body, CallError> {
    link.begin(0, operation, Deadline::NEVER)?.finish(Deadline::NEVER)
}

pub(crate) fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Value, CallError> {
    Value::encode(value).map_err(CallError::Encode)
}

pub(crate) fn decode<T: DeserializeOwned>(value: Value) -> Result<T, CallError> {
    value.decode().map_err(CallError::Decode)
}

/// The server's answer is an error, or none that this call has.
pub(crate) fn unexpected(body: Body) -> CallError {
    match body {
        Body::Failed(error) => error,
        _ => CallError::Decode(<DecodeError as de::Error>::custom("the server has answered another question")),
    }
}

impl Serialize for Handle {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Sent<'a> {
            link: &'a Link,
            object: u64,
            #[serde(serialize_with = "mp_core::fd::serialize")]
            lease: &'a OwnedFd,
        }
        Sent { link: &self.link, object: self.object, lease: &self.lease }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Handle {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Received {
            #[serde(deserialize_with = "link::deserialize")]
            link: Arc<Link>,
            object: u64,
            #[serde(with = "mp_core::fd")]
            lease: OwnedFd,
        }
        let Received { link, object, lease } = Received::deserialize(deserializer)?;
        Ok(Self { link, object, lease: Arc::new(lease), limit: None })
    }
}

/// Lets calls of one proxy be sent together: when it is dropped.
#[derive(Debug)]
pub struct Together<'a>(pub(crate) &'a Handle);

impl Drop for Together<'_> {
    fn drop(&mut self) {
        self.0.link.send_together();
    }
}

/// A value that stands for an object in a server.
///
/// A proxy can be cloned and sent: in the arguments and results of calls, over connections and
/// queues, and inside other objects. It is complete on arrival, in any process that descends from
/// the one that made the server. The object lives as long as a proxy of it exists.
///
/// The types of this crate implement it.
pub trait Proxy: Clone + Serialize + DeserializeOwned + sealed::Sealed {}

impl<P: sealed::Sealed + Clone + Serialize + DeserializeOwned> Proxy for P {}

/// Where objects can be made: a [`Manager`](crate::Manager), or the server of any [`Proxy`].
pub trait Host: sealed::Hosted {}

impl<H: sealed::Hosted> Host for H {}

impl<P: sealed::Sealed> sealed::Hosted for P {
    fn link(&self) -> &Arc<Link> {
        &self.handle().link
    }
}

pub(crate) mod sealed {
    use std::sync::Arc;

    use super::Handle;
    use crate::link::Link;

    pub trait Hosted {
        #[doc(hidden)]
        fn link(&self) -> &Arc<Link>;
    }

    /// What every proxy has.
    pub trait Sealed: Sized {
        #[doc(hidden)]
        fn interface() -> String {
            std::any::type_name::<Self>().to_owned()
        }
        #[doc(hidden)]
        fn from_handle(handle: Handle) -> Self;
        #[doc(hidden)]
        fn handle(&self) -> &Handle;
        #[doc(hidden)]
        fn handle_mut(&mut self) -> &mut Handle;
    }
}

/// Implements what all proxies have, for one with the fields `handle` and `types`.
#[doc(hidden)]
#[macro_export]
macro_rules! __proxy {
    ($name:ident $(, digest = $digest:literal)?) => { $crate::__proxy!($name<> $(, digest = $digest)?); };
    ($name:ident<$($parameter:ident),*> $(, digest = $digest:literal)?) => {
        impl<$($parameter),*> $crate::__private::Sealed for $name<$($parameter),*> {
            $(fn interface() -> String {
                format!("{} {:016x}", std::any::type_name::<Self>(), $digest)
            })?

            fn from_handle(handle: $crate::__private::Handle) -> Self {
                Self { handle, types: std::marker::PhantomData }
            }

            fn handle(&self) -> &$crate::__private::Handle {
                &self.handle
            }

            fn handle_mut(&mut self) -> &mut $crate::__private::Handle {
                &mut self.handle
            }
        }

        impl<$($parameter),*> $name<$($parameter),*> {
            /// Limits how long each call through this proxy may take, and through what is cloned
            /// from it. `None`, the default, is no limit. The limit does not travel with the proxy
            /// to another process.
            ///
            /// A call that takes longer fails with [`CallError::TimedOut`]($crate::CallError). The
            /// server may still run it.
            #[must_use]
            pub fn with_limit(mut self, limit: Option<std::time::Duration>) -> Self {
                self.handle.limit(limit);
                self
            }
        }

        impl<$($parameter),*> Clone for $name<$($parameter),*> {
            fn clone(&self) -> Self {
                Self { handle: self.handle.clone(), types: std::marker::PhantomData }
            }
        }

        impl<$($parameter),*> std::fmt::Debug for $name<$($parameter),*> {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_struct(stringify!($name)).field("object", &self.handle.id()).finish_non_exhaustive()
            }
        }

        /// Outside of a message between processes this is an error.
        impl<$($parameter),*> $crate::__private::serde::Serialize for $name<$($parameter),*> {
            fn serialize<Ser: $crate::__private::serde::Serializer>(&self, serializer: Ser) -> Result<Ser::Ok, Ser::Error> {
                $crate::__private::serde::Serialize::serialize(&self.handle, serializer)
            }
        }

        impl<'de, $($parameter),*> $crate::__private::serde::Deserialize<'de> for $name<$($parameter),*> {
            fn deserialize<De: $crate::__private::serde::Deserializer<'de>>(deserializer: De) -> Result<Self, De::Error> {
                let handle = <$crate::__private::Handle as $crate::__private::serde::Deserialize>::deserialize(deserializer)?;
                Ok(Self { handle, types: std::marker::PhantomData })
            }
        }
    };
}
pub(crate) use __proxy as proxy;
