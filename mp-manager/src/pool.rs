//! `Pool`: workers that run the calls of any process.

use std::marker::PhantomData;
use std::time::Duration;

use mp_core::raw::{EncodedCall, Outcome, error_chain};
use mp_core::{Call, ProcessFn, process_fn};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::CallError;
use crate::handle::Host;
use crate::queue::Queue;
use workers::WorkersProxy;

/// The place of a call among those that were submitted together, and its outcome.
type Ended = (u64, Result<Outcome, String>);

/// A pool of worker processes in a server, to which every process with a proxy can give calls.
///
/// A program that needs the workers for itself uses `mp_pool::Pool`: it has more settings, and its
/// short tasks are many times as fast. The workers are children of the server's process, and end
/// with it, or when the last proxy is dropped.
///
/// The pool holds any number of calls that wait. A submission costs the server one descriptor until
/// all its calls have ended. It holds no thread of the server.
///
/// # Process death
///
/// If a worker dies, the call that it ran fails with [`CallError::Task`], which names the worker
/// and says how it ended, and another worker replaces it. If the process that submitted calls dies,
/// they run to their end, and their results are dropped.
///
/// # Examples
///
/// ```
/// use mp_core::process_fn;
/// use mp_manager::{Manager, Pool};
///
/// #[process_fn]
/// fn square(number: u64) -> u64 {
///     number * number
/// }
///
/// #[process_fn]
/// fn sum_of_squares(pool: Pool, numbers: Vec<u64>) -> u64 {
///     pool.map(numbers.into_iter().map(square::call)).unwrap().into_iter().sum()
/// }
///
/// let manager = Manager::spawn()?;
/// let pool = Pool::new(&manager, 2)?;
/// assert_eq!(pool.submit(square::call(5))?.join()?, 25);
/// assert_eq!(sum_of_squares::spawn(pool, vec![1, 2, 3])?.join()?, 14);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Pool {
    workers: WorkersProxy,
    #[serde(skip)]
    limit: Option<Duration>,
}

impl Pool {
    /// Starts a pool of `workers` processes in a server, and at least one.
    ///
    /// # Errors
    ///
    /// [`CallError::Task`] if the workers cannot be started, and as any call.
    pub fn new(host: &impl Host, workers: usize) -> Result<Self, CallError> {
        let workers = WorkersProxy::new(host, workers.max(1))?.map_err(CallError::Task)?;
        Ok(Self { workers, limit: None })
    }

    /// Limits how long a submission may take, and then the wait for each result. `None`, the
    /// default, is no limit. It does not travel with the proxy to another process.
    ///
    /// What takes longer fails with [`CallError::TimedOut`]. The workers may still run it.
    #[must_use]
    pub fn with_limit(self, limit: Option<Duration>) -> Self {
        Self { workers: self.workers.with_limit(limit), limit }
    }

    /// Gives a call to the workers.
    ///
    /// # Errors
    ///
    /// [`CallError::Encode`] if the arguments cannot be encoded, and as any call.
    pub fn submit<F: ProcessFn, A>(&self, call: Call<F, A>) -> Result<PoolTask<F::Output>, CallError> {
        let (ended, _) = self.begin([call])?;
        Ok(PoolTask { ended, _pool: self.clone(), types: PhantomData })
    }

    /// Gives calls to the workers, in one message, and waits for all results, which are in the
    /// order of the calls.
    ///
    /// # Errors
    ///
    /// That of the first call that fails, of those that end first; the others still run. And as
    /// [`submit`](Self::submit).
    pub fn map<F: ProcessFn, A>(
        &self,
        calls: impl IntoIterator<Item = Call<F, A>>,
    ) -> Result<Vec<F::Output>, CallError> {
        let (ended, count) = self.begin(calls)?;
        let mut results: Vec<_> = (0..count).map(|_| ended.get()).collect::<Result<_, _>>()?;
        results.sort_by_key(|(place, _)| *place);
        results.into_iter().map(|(_, outcome)| decode(outcome)).collect()
    }

    fn begin<F: ProcessFn, A>(
        &self,
        calls: impl IntoIterator<Item = Call<F, A>>,
    ) -> Result<(Queue<Ended>, usize), CallError> {
        let calls = calls.into_iter().map(|call| call.encode().map_err(CallError::Encode));
        let calls: Vec<_> = calls.collect::<Result<_, _>>()?;
        let (ended, count) = (Queue::new(&self.workers)?.with_limit(self.limit), calls.len());
        self.workers.submit(calls, ended.clone())?;
        Ok((ended, count))
    }
}

fn decode<R: DeserializeOwned>(outcome: Result<Outcome, String>) -> Result<R, CallError> {
    match outcome.map_err(CallError::Task)? {
        Outcome::Returned(message) => message.decode().map_err(CallError::Decode),
        other => Err(CallError::from_outcome(other)),
    }
}

/// A call that was given to a [`Pool`]. If it is dropped, the call still runs.
#[must_use = "dropping it drops the result"]
#[derive(Debug)]
pub struct PoolTask<R> {
    ended: Queue<Ended>,
    /// The workers end with the last proxy.
    _pool: Pool,
    types: PhantomData<fn() -> R>,
}

impl<R: DeserializeOwned> PoolTask<R> {
    /// Waits for the result.
    ///
    /// # Errors
    ///
    /// [`CallError::Task`] if the worker died, [`CallError::Panicked`] if the function panicked,
    /// and as any call.
    pub fn join(self) -> Result<R, CallError> {
        decode(self.ended.get()?.1)
    }
}

/// What is in the server.
mod workers {
    // The linker collects the type as it does types of other crates.
    #![allow(unsafe_code, unreachable_pub)]

    use super::{EncodedCall, Ended, Outcome, Queue, error_chain, process_fn};

    /// What a worker runs.
    #[process_fn(name = "mp_manager::run_task")]
    fn run_task(call: EncodedCall) -> Outcome {
        call.run()
    }

    pub struct Workers(mp_pool::Pool);

    #[crate::shared(crate = crate, name = "mp_manager::Pool")]
    impl Workers {
        pub fn new(workers: usize) -> Result<Self, String> {
            mp_pool::Pool::new(workers).map(Self).map_err(|error| error_chain(&error))
        }

        pub fn submit(&self, calls: Vec<EncodedCall>, ended: Queue<Ended>) {
            for (place, call) in (0..).zip(calls) {
                let ended = ended.clone();
                self.0.submit(run_task::call(call)).on_done(move |outcome| {
                    // If the queue cannot be told, the server has ended.
                    let _ = ended.put((place, outcome.map_err(|error| error_chain(&error))));
                });
            }
        }
    }
}
