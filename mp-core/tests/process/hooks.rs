//! Functions that run at the start of every child.

use std::sync::Mutex;

use mp_core::{Builder, ExitStatus, JoinError, on_start, process_fn};
use mp_testing::scenario;
use mp_testing::start_method::is_not_for_fork_server;

static RUN: Mutex<Vec<String>> = Mutex::new(Vec::new());

fn note(hook: &str) {
    RUN.lock().unwrap().push(format!("{hook} in {}", mp_core::current().name()));
}

#[on_start]
fn second() {
    note("second");
}

mod earlier {
    #[mp_core::on_start]
    fn first() {
        super::note("first");
        match std::env::var("MP_TEST_HOOK").as_deref() {
            Ok("panics") => panic!("the hook was told to"),
            Ok("exits") => std::process::exit(7),
            _ => {}
        }
    }
}

#[on_start]
#[cfg(any())]
fn not_here() {
    note("not here");
}

#[process_fn]
fn noted() -> Vec<String> {
    RUN.lock().unwrap().clone()
}

#[process_fn]
fn noted_below() -> Vec<String> {
    Builder::new().name("below").spawn(noted::call()).unwrap().join().unwrap()
}

scenario!(hooks_run_once_in_every_child_and_in_order, {
    if is_not_for_fork_server("the hooks run in the server") {
        return;
    }
    let expected = |name: &str| [format!("first in {name}"), format!("second in {name}")];
    assert_eq!(Builder::new().name("child").spawn(noted::call()).unwrap().join().unwrap(), expected("child"));
    assert_eq!(noted_below::spawn().unwrap().join().unwrap(), expected("below"));
    // In process, a function is only called.
    let here = noted::call().run();
    assert_eq!(here, expected("scenario"), "a scenario is a child as well, and only once");
});

scenario!(a_hook_that_fails_ends_the_process_and_its_parent_is_told, {
    if is_not_for_fork_server("the hooks run in the server") {
        return;
    }
    let with = |how| Builder::new().env("MP_TEST_HOOK", how).spawn(noted::call()).unwrap().join();
    let Err(JoinError::Panicked(panic)) = with("panics") else { panic!("it panics") };
    assert!(panic.message.contains("the hook was told to") && panic.location.is_some());
    assert!(matches!(with("exits"), Err(JoinError::Exited(status)) if status == ExitStatus::Code(7)));
});
