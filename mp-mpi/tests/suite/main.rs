//! The tests of mp-pool, with a pool over MPI.
//!
//! Their files are those of mp-pool. What these call `mp_pool` and `mp_testing` is this crate, so
//! their pools are those of `pool`, and each of their scenarios is a job of three ranks: the test
//! starts this program again under a launcher, and rank 0 runs the scenario. `skipped` names those
//! that cannot be, with the reason.
//!
//! Of the files of mp-pool that are not here, `errors` needs no pool, `scarcity` takes the
//! descriptors that MPI needs as well, and `warm` has fork servers, which belong to one host.

#![allow(unexpected_cfgs, reason = "the features are those of mp-pool")]

extern crate mp_pool as real_pool;
extern crate mp_testing as real_testing;
extern crate self as mp_pool;
extern crate self as mp_testing;

#[path = "../cluster/job.rs"]
#[allow(dead_code, reason = "the other tests use the rest")]
mod job;
mod pool;
mod skipped;

pub(crate) use pool::Pool;
pub(crate) use real_pool::{FunctionReport, PoolError, Report, TaskError, TaskOptions, deadline};
pub(crate) use real_testing::{
    PATIENCE, PROMPTLY, eventually, faults, holds_within, leaks, procfs, start_method, this_executable,
};

#[path = "../../../mp-pool/tests/pool/awaiting.rs"]
mod awaiting;
#[path = "../../../mp-pool/tests/pool/chunks.rs"]
mod chunks;
#[path = "../../../mp-pool/tests/pool/crash.rs"]
mod crash;
#[path = "../../../mp-pool/tests/pool/hostile.rs"]
mod hostile;
#[path = "../../../mp-pool/tests/pool/limits.rs"]
mod limits;
#[path = "../../../mp-pool/tests/pool/maps.rs"]
mod maps;
#[path = "../../../mp-pool/tests/pool/peers.rs"]
mod peers;
#[path = "../../../mp-pool/tests/pool/report.rs"]
mod report;
#[path = "../../../mp-pool/tests/pool/shutdown.rs"]
mod shutdown;
#[path = "../../../mp-pool/tests/pool/start.rs"]
mod start;
#[path = "../../../mp-pool/tests/pool/state.rs"]
mod state;
#[path = "../../../mp-pool/tests/pool/tasks.rs"]
mod tasks;

/// Declares a test, as the macro of mp-testing does.
macro_rules! scenario {
    ($name:ident, $limit:expr, $body:block) => {
        $crate::scenario!($name, $body);
    };
    ($name:ident, $body:block) => {
        #[test]
        fn $name() {
            $crate::run(concat!(module_path!(), "::", stringify!($name)), || $body);
        }
    };
}
pub(crate) use scenario;

/// Runs a scenario in rank 0 of a job of its own.
fn run(path: &str, body: impl FnOnce()) {
    if std::env::var_os(job::RUN).is_some() {
        return body();
    }
    let (_, name) = path.split_once("::").expect("it begins with the crate");
    if let Some(why) = skipped::reason(name) {
        return eprintln!("SKIPPED: {why}");
    }
    let program = job::executable().to_string_lossy().into_owned();
    let arguments = ["-n", "3", &program, "--exact", name, "--nocapture"].map(str::to_owned);
    let mut run = job::Run::with_arguments(&arguments, &[]);
    let status = run.wait();
    run.is_gone();
    let (text, errors) = (run.stdout(), run.stderr());
    assert!(status.success() && text.contains("1 passed"), "{status}\n{text}\n{errors}");
}
