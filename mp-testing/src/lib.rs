//! The harness of the tests: a process for each scenario, a watchdog, and a check that nothing is
//! left.
//!
//! A test that starts processes runs in a process of its own, so that whatever is left afterwards
//! belongs to it:
//!
//! ```ignore
//! scenario!(a_process_returns_its_value, {
//!     assert_eq!(add::spawn(1, 2).unwrap().join().unwrap(), 3);
//! });
//! ```

pub mod copies;
pub mod faults;
pub mod filters;
pub mod leaks;
pub mod limits;
pub mod procfs;
pub mod python;
pub mod start_method;
pub mod victims;

use std::fs::File;
use std::io::{Read, Seek};
use std::panic::resume_unwind;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

pub use mp_core::raw::error_chain;
use mp_core::{Builder, Call, JoinError, ProcessFn, process_fn};

/// Declares a test of this name, whose block runs in a process of its own, under the watchdog, with
/// the leak check around it.
///
/// A limit between the name and the block replaces [`LIMIT`].
#[macro_export]
macro_rules! scenario {
    ($name:ident, $limit:expr, $body:block) => {
        #[test]
        fn $name() {
            #[mp_core::process_fn]
            fn $name() {
                $crate::leaks::check(|| $body);
            }
            $crate::run::<$name>($limit);
        }
    };
    ($name:ident, $body:block) => {
        $crate::scenario!($name, $crate::LIMIT, $body);
    };
}

/// The variable that makes a process a child of mp-core, whose version is that of this package too.
pub const MARKER: &str = concat!(
    "MP_CORE_",
    env!("CARGO_PKG_VERSION_MAJOR"),
    "_",
    env!("CARGO_PKG_VERSION_MINOR"),
    "_",
    env!("CARGO_PKG_VERSION_PATCH"),
    "_CHILD"
);

/// How long a test may take before it counts as hung.
pub const LIMIT: Duration = Duration::from_secs(60);

/// How long a test waits for something that has to happen before it fails.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// What "at once" and "promptly" promise.
pub const PROMPTLY: Duration = Duration::from_secs(1);

/// Does nothing, in another process.
#[process_fn]
pub fn nothing() {}

/// Runs until it is killed.
#[process_fn]
pub fn run_for_ever() {
    loop {
        thread::park();
    }
}

/// Runs the scenario `F` in a process of its own, and panics if it fails, hangs or leaves processes
/// behind.
pub fn run<F: ProcessFn<Args = (), Output = ()>>(limit: Duration) {
    let mut output = tempfile::tempfile().unwrap();
    let streams = [output.try_clone().unwrap(), output.try_clone().unwrap()];
    let (started, pid) = mpsc::channel();
    let (ended, result) = mpsc::channel();
    let runner = thread::spawn(move || {
        let [stdout, stderr] = streams;
        let builder = Builder::new().name("scenario").stdout(stdout).stderr(stderr);
        let process = builder.spawn(Call::<F>::new(())).expect("the scenario starts");
        started.send(process.pid()).unwrap();
        ended.send(process.join()).unwrap();
    });
    let result = match result.recv_timeout(limit) {
        Ok(result) => result,
        Err(RecvTimeoutError::Disconnected) => resume_unwind(runner.join().expect_err("it sent no result")),
        Err(RecvTimeoutError::Timeout) => {
            eprintln!("{} has not ended after {limit:?}:\n{}", F::NAME, printed(&mut output));
            match pid.try_recv() {
                Ok(session) => {
                    eprintln!("{}", procfs::describe(&procfs::session(session)));
                    procfs::kill_session(session);
                }
                Err(_) => eprintln!("it has not even started"),
            }
            panic!("{} hung", F::NAME);
        }
    };
    runner.join().unwrap();
    let session = pid.recv().unwrap();
    let left = leaks::left_of_session(session);
    if !left.is_empty() {
        eprintln!("{}", procfs::describe(&left));
        procfs::kill_session(session);
    }
    match result {
        Ok(()) => {
            print!("{}", printed(&mut output));
            assert!(left.is_empty(), "{} left processes behind", F::NAME);
        }
        Err(JoinError::Panicked(panic)) => {
            eprintln!("{}", printed(&mut output));
            panic!("{} {panic}", F::NAME)
        }
        Err(error) => panic!("{}: {}\n{}", F::NAME, error_chain(&error), printed(&mut output)),
    }
}

fn printed(output: &mut File) -> String {
    let mut text = Vec::new();
    output.rewind().unwrap();
    output.read_to_end(&mut text).unwrap();
    String::from_utf8_lossy(&text).into_owned()
}

/// Runs `body` under the watchdog alone: for a test that starts no process, or must not be a child.
pub fn watched<R: Send + 'static>(body: impl FnOnce() -> R + Send + 'static) -> R {
    let (ended, end) = mpsc::channel();
    let runner = thread::spawn(move || {
        let result = body();
        let _ = ended.send(());
        result
    });
    if let Err(RecvTimeoutError::Timeout) = end.recv_timeout(LIMIT) {
        let own = procfs::children(std::process::id());
        panic!("it has not ended after {LIMIT:?}; its children are:\n{}", procfs::describe(&own));
    }
    match runner.join() {
        Ok(result) => result,
        Err(panic) => resume_unwind(panic),
    }
}

/// The variable that tells a test that it has started itself again.
const AGAIN: &str = "MP_TEST_AGAIN";

/// Returns whether [`run_again`] has started this test.
pub fn is_run_again() -> bool {
    std::env::var_os(AGAIN).is_some()
}

/// Runs a test of `executable`, which is this one or a copy of it, as a program of its own, and
/// panics if it fails.
///
/// `test` is the name of the test with its modules.
pub fn run_again(executable: &std::path::Path, test: &str) {
    // The watchdog is a program as well, because the one that hangs cannot be trusted.
    let mut command = std::process::Command::new("timeout");
    command.args(["--signal=KILL", &LIMIT.as_secs().to_string()]).arg(executable);
    let output = command.args(["--exact", test, "--nocapture"]).env(AGAIN, "").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{output:#?}");
}

/// Waits until `condition` holds, or fails the test.
#[track_caller]
pub fn eventually(what: &str, condition: impl FnMut() -> bool) {
    assert!(holds_within(PATIENCE, condition), "not in {PATIENCE:?}: {what}");
}

/// Waits until `condition` holds, and returns whether it did in time.
pub fn holds_within(limit: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    loop {
        // Asked once more after the deadline: this process may not have been running meanwhile.
        let late = start.elapsed() > limit;
        if condition() {
            return true;
        }
        if late {
            return false;
        }
        thread::park_timeout(Duration::from_millis(1));
    }
}

/// Returns the path of this executable.
pub fn this_executable() -> std::path::PathBuf {
    std::env::current_exe().unwrap()
}
