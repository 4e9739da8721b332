//! What every proxy holds.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use mp_core::raw::{Deadline, SharedFd};
use mp_core::{DecodeError, ProcessFn};
use serde::de::{self, DeserializeOwned};
use serde::{Deserialize, Serialize};

use crate::change::Change;
use crate::error::CallError;
use crate::link::{self, Link, Pending};
use crate::value::Value;
use crate::wire::{self, Answer, Body, Initial, Lease, NO_CALL, Operation, Place, Request};

/// One object of a server, and the lease that keeps it alive.
#[derive(Clone, Serialize, Deserialize)]
pub struct Handle {
    #[serde(with = "link")]
    link: Arc<Link>,
    object: u64,
    lease: SharedFd,
    /// How long a call may take.
    #[serde(skip)]
    limit: Option<Duration>,
}

impl Handle {
    pub(crate) fn new(link: &Arc<Link>, Lease { object, descriptor }: Lease) -> Result<Self, CallError> {
        let lease = descriptor.ok_or_else(|| unexpected(Body::Done))?;
        Ok(Self { link: Arc::clone(link), object, lease, limit: None })
    }

    /// Makes an object with proxies of type `P`.
    pub(crate) fn create<P: Proxy>(host: &impl Host, initial: Initial) -> Result<P, CallError> {
        ask_for(host.link(), Operation::Create { initial, interface: P::interface() })
    }

    /// Returns the object of a lease that came as an answer of this one.
    pub(crate) fn beside(&self, lease: Lease) -> Result<Self, CallError> {
        Ok(Self { limit: self.limit, ..Self::new(&self.link, lease)? })
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

    fn request(&self, timeout: Option<Duration>, operation: Operation) -> Request {
        Request { call: NO_CALL, object: self.object, timeout: timeout.into_iter().chain(self.limit).min(), operation }
    }

    /// Sends a request without waiting for the answer: if it is `later`, together with others.
    pub(crate) fn begin(
        &self,
        timeout: Option<Duration>,
        operation: Operation,
        later: bool,
    ) -> Result<Pending, CallError> {
        self.link.begin(self.request(timeout, operation), Deadline::from_timeout(self.limit), later)
    }

    pub(crate) fn call<A: Answer>(&self, operation: Operation) -> Result<A, CallError> {
        self.wait(None, operation)
    }

    /// Calls an operation that may wait in the server: for `timeout`, or as long as a call of this
    /// proxy may.
    pub(crate) fn wait<A: Answer>(&self, timeout: Option<Duration>, operation: Operation) -> Result<A, CallError> {
        expect(self.begin(timeout, operation, false)?.finish())
    }

    /// Waits for a value, and acknowledges it.
    pub(crate) fn take<T: DeserializeOwned>(&self, timeout: Option<Duration>) -> Result<Option<T>, CallError> {
        let pending = self.begin(timeout, Operation::Take, false)?;
        let taken = expect::<Option<Value>>(pending.finish());
        if !matches!(taken, Ok(None) | Err(CallError::Forked)) {
            pending.acknowledge(self.object, taken.is_ok());
        }
        taken?.map(Value::decode).transpose()
    }

    /// Sends a request that has no answer.
    pub(crate) fn post(&self, operation: Operation) {
        // If the server has ended, there is nothing to be told.
        let _ = self.link.post(self.request(None, operation));
    }

    /// Asks for a value.
    pub(crate) fn value<T: DeserializeOwned>(&self, operation: Operation) -> Result<Option<T>, CallError> {
        self.call::<Option<Value>>(operation)?.map(Value::decode).transpose()
    }

    /// Asks for a value that is always there.
    pub(crate) fn certain<T: DeserializeOwned>(&self, operation: Operation) -> Result<T, CallError> {
        self.call(operation).and_then(Value::decode)
    }

    /// Changes the object, and drops the value that was there before.
    pub(crate) fn change(&self, change: wire::Change) -> Result<(), CallError> {
        self.call::<Option<Value>>(Operation::Change(change)).map(drop)
    }

    /// Changes the value at a place by a function.
    pub(crate) fn modify<V, F: Change<V>>(&self, place: Place, argument: &F::Argument) -> Result<F::Result, CallError> {
        let function = <F as ProcessFn>::ID.to_owned();
        self.certain(Operation::Modify { place, function, argument: Value::encode(argument)? })
    }

    /// Compares and exchanges a value. The inner error holds the value that was there instead.
    pub(crate) fn compare_exchange<T: Serialize + DeserializeOwned>(
        &self,
        place: Place,
        old: Option<&T>,
        new: Option<&T>,
    ) -> Result<Result<(), Option<T>>, CallError> {
        let (old, new) = (old.map(Value::encode).transpose()?, new.map(Value::encode).transpose()?);
        match self.call::<Result<(), Option<Value>>>(Operation::CompareExchange { place, old, new })? {
            Ok(()) => Ok(Ok(())),
            Err(found) => found.map(Value::decode).transpose().map(Err),
        }
    }
}

/// Finds an object by its name.
pub(crate) fn find<P: Proxy>(link: &Arc<Link>, name: &str) -> Result<P, CallError> {
    ask_for(link, Operation::Find { name: name.to_owned(), interface: P::interface() })
}

fn ask_for<P: Proxy>(link: &Arc<Link>, operation: Operation) -> Result<P, CallError> {
    Handle::new(link, ask(link, operation)?).map(P::from_handle)
}

/// Asks the server itself.
pub(crate) fn ask<A: Answer>(link: &Link, operation: Operation) -> Result<A, CallError> {
    let request = Request { call: NO_CALL, object: 0, timeout: None, operation };
    expect(link.begin(request, Deadline::NEVER, false)?.finish())
}

/// Returns the answer of a call, if it is one that the call can have.
pub(crate) fn expect<A: Answer>(answer: Result<Body, CallError>) -> Result<A, CallError> {
    A::from_body(answer?).map_err(unexpected)
}

/// The server's answer is an error, or none that this call has.
pub(crate) fn unexpected(body: Body) -> CallError {
    match body {
        Body::Failed(error) => error,
        _ => CallError::Decode(<DecodeError as de::Error>::custom("the server has answered another question")),
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "object {}", self.object)
    }
}

/// Lets calls of one proxy be sent together: when it is dropped.
#[derive(Debug)]
pub struct Together<'a>(pub(crate) &'a Handle);

impl Drop for Together<'_> {
    fn drop(&mut self) {
        self.0.link.send_together(Deadline::from_timeout(self.0.limit));
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
    }
}

/// Declares a proxy, and implements what all proxies have.
#[doc(hidden)]
#[macro_export]
macro_rules! __proxy {
    ($(#[$attribute:meta])* pub struct $name:ident $(<$($type:ident),*>)? $(, digest = $digest:literal)?;) => {
        $(#[$attribute])*
        pub struct $name $(<$($type),*>)? {
            handle: $crate::__private::Handle,
            types: std::marker::PhantomData<fn() -> ($($($type,)*)?)>,
        }

        impl $(<$($type),*>)? $crate::__private::Sealed for $name $(<$($type),*>)? {
            $(fn interface() -> String {
                format!("{} (methods {:016x})", std::any::type_name::<Self>(), $digest)
            })?

            fn from_handle(handle: $crate::__private::Handle) -> Self {
                Self { handle, types: std::marker::PhantomData }
            }

            fn handle(&self) -> &$crate::__private::Handle {
                &self.handle
            }
        }

        impl $(<$($type),*>)? $name $(<$($type),*>)? {
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

        impl $(<$($type),*>)? Clone for $name $(<$($type),*>)? {
            fn clone(&self) -> Self {
                $crate::__private::Sealed::from_handle(self.handle.clone())
            }
        }

        impl $(<$($type),*>)? std::fmt::Debug for $name $(<$($type),*>)? {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_struct(stringify!($name)).field("object", &self.handle.id()).finish_non_exhaustive()
            }
        }

        /// Outside of a message between processes this is an error.
        impl $(<$($type),*>)? $crate::__private::serde::Serialize for $name $(<$($type),*>)? {
            fn serialize<Ser: $crate::__private::serde::Serializer>(&self, serializer: Ser) -> Result<Ser::Ok, Ser::Error> {
                $crate::__private::serde::Serialize::serialize(&self.handle, serializer)
            }
        }

        impl<'de, $($($type),*)?> $crate::__private::serde::Deserialize<'de> for $name $(<$($type),*>)? {
            fn deserialize<De: $crate::__private::serde::Deserializer<'de>>(deserializer: De) -> Result<Self, De::Error> {
                $crate::__private::serde::Deserialize::deserialize(deserializer).map($crate::__private::Sealed::from_handle)
            }
        }
    };
}
pub(crate) use __proxy as proxy;
