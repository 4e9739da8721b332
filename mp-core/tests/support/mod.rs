//! What the tests of this folder share: a process for each scenario, a watchdog, and a check that nothing is left.
//!
//! A test that starts processes runs in a process of its own, so that what is left afterwards is its own:
//!
//! ```ignore
//! #[test]
//! fn a_process_returns_its_value() {
//!     scenario!(a_process_returns_its_value, {
//!         assert_eq!(add::spawn(1, 2).unwrap().join().unwrap(), 3);
//!     });
//! }
//! ```

#![allow(dead_code, unused_macros, unused_imports, reason = "each test executable uses some of it")]

pub(crate) mod faults;
pub(crate) mod leaks;
pub(crate) mod limits;
pub(crate) mod procfs;
pub(crate) mod python;

use std::fs::File;
use std::io::{Read, Seek};
use std::panic::resume_unwind;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use mp_core::{Builder, Call, JoinError, ProcessFn, process_fn};

/// Runs a block in a process of its own, under the watchdog, with the leak check around it.
///
/// The name has to be unique in its module; that of the test is.
macro_rules! scenario {
    ($name:ident, $body:block) => {{
        #[mp_core::process_fn]
        fn $name() {
            $crate::support::leaks::check(|| $body);
        }
        $crate::support::run::<$name>($crate::support::LIMIT);
    }};
    ($name:ident, $limit:expr, $body:block) => {{
        #[mp_core::process_fn]
        fn $name() {
            $crate::support::leaks::check(|| $body);
        }
        $crate::support::run::<$name>($limit);
    }};
}
pub(crate) use scenario;

/// How long a test may take before it counts as hung.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// How long a test waits for something that has to happen, before it says that it has not.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// What "at once" and "promptly" promise.
pub(crate) const PROMPTLY: Duration = Duration::from_secs(1);

/// Does nothing, in another process.
#[process_fn]
pub(crate) fn nothing() {}

/// Runs until it is killed.
#[process_fn]
pub(crate) fn run_for_ever() {
    loop {
        thread::park();
    }
}

/// Runs the scenario `F` in a process of its own, and fails as it fails.
pub(crate) fn run<F: ProcessFn<Args = (), Output = ()>>(limit: Duration) {
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
        Ok(()) => assert!(left.is_empty(), "{} left processes behind", F::NAME),
        Err(JoinError::Panicked(panic)) => {
            eprintln!("{}", printed(&mut output));
            panic!("{} {panic}", F::NAME)
        }
        Err(error) => panic!("{}: {}\n{}", F::NAME, chain(&error), printed(&mut output)),
    }
}

fn printed(output: &mut File) -> String {
    let mut text = Vec::new();
    output.rewind().unwrap();
    output.read_to_end(&mut text).unwrap();
    String::from_utf8_lossy(&text).into_owned()
}

/// Runs `body` under the watchdog alone, for what starts no process, or must not be a child.
pub(crate) fn watched<R: Send + 'static>(body: impl FnOnce() -> R + Send + 'static) -> R {
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

/// Tells a test that it was started again, by itself.
const AGAIN: &str = "MP_TEST_AGAIN";

/// Whether this is a test that [`run_again`] has started.
pub(crate) fn is_run_again() -> bool {
    std::env::var_os(AGAIN).is_some()
}

/// Runs a test of `executable`, this one or a copy of it, as a program of its own, and fails as it fails.
pub(crate) fn run_again(executable: &std::path::Path, test: &str) {
    // The watchdog is a program as well, because the one that hangs cannot be trusted.
    let mut command = std::process::Command::new("timeout");
    command.args(["--signal=KILL", &LIMIT.as_secs().to_string()]).arg(executable);
    let output = command.args(["--exact", test, "--nocapture"]).env(AGAIN, "").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{output:#?}");
}

/// Waits until `condition` holds, or fails the test.
#[track_caller]
pub(crate) fn eventually(what: &str, condition: impl FnMut() -> bool) {
    assert!(holds_within(PATIENCE, condition), "not in {PATIENCE:?}: {what}");
}

/// Waits until `condition` holds, and tells whether it did in time.
pub(crate) fn holds_within(limit: Duration, mut condition: impl FnMut() -> bool) -> bool {
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

/// An error with everything that caused it.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", chain(source)),
        None => error.to_string(),
    }
}

/// The path of this executable.
pub(crate) fn this_executable() -> std::path::PathBuf {
    std::env::current_exe().unwrap()
}
