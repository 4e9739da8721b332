//! The hazards of becoming a child before `main`.

// Before mp-core, and the test of the constructors fails without: see there.
extern crate late_constructor;

use std::fs::File;
use std::io::Write;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use late_constructor::Plugin;
use mp_core::raw::CallError;
use mp_core::{Builder, ExitStatus, JoinError, ProcessFn, Resource, SpawnError, process_fn};
use mp_testing::start_method::is_not_for_fork_server;
use mp_testing::{MARKER, error_chain, nothing, scenario, this_executable};

inventory::submit!(Plugin("early"));

static EARLY_RUNS: [AtomicU32; 2] = [AtomicU32::new(0), AtomicU32::new(0)];

extern "C" fn constructor() {
    late_constructor::count(&EARLY_RUNS);
    // Nothing of this is set in the test process itself.
    match std::env::var("MP_TEST_EARLY").as_deref() {
        Ok("exit") => std::process::exit(3),
        // SAFETY: the signal ends the process, which is the purpose.
        Ok("kill") => _ = unsafe { libc::raise(libc::SIGKILL) },
        Ok("abort") => std::process::abort(),
        Ok("127") => std::process::exit(127),
        _ => {}
    }
}

// SAFETY: the section holds pointers to functions, which the C library calls; this one ignores what
// it is passed.
#[used]
#[unsafe(link_section = ".init_array")]
static CONSTRUCTOR: extern "C" fn() = constructor;

#[process_fn]
fn constructors() -> ([u32; 2], [u32; 2], Vec<String>) {
    let early = EARLY_RUNS.each_ref().map(|runs| runs.load(Ordering::Relaxed));
    (early, late_constructor::runs(), late_constructor::plugins().into_iter().map(str::to_owned).collect())
}

scenario!(every_constructor_has_run_once_before_the_function_does, {
    let (early, late, plugins) = constructors::spawn().unwrap().join().unwrap();
    // The one with the marker still there came before ours, the other after: which is what makes
    // this a test.
    assert_eq!(early, [1, 0]);
    assert_eq!(late, [0, 1], "the linker did not put that constructor after ours");
    assert_eq!(plugins, ["early", "late"]);
});

scenario!(a_constructor_that_ends_the_process_is_reported, {
    if is_not_for_fork_server("its copies run no constructors") {
        return;
    }
    let join = |builder: Builder| builder.spawn(nothing::call()).unwrap().join();
    match join(Builder::new().env("MP_TEST_EARLY", "exit")) {
        Err(JoinError::NotStarted(why)) => assert!(why.contains("exit code 3"), "{why}"),
        other => panic!("{other:?}"),
    }
    match join(Builder::new().env("MP_TEST_EARLY", "127")) {
        Err(JoinError::NotStarted(why)) => assert!(why.contains("could not be loaded"), "{why}"),
        other => panic!("{other:?}"),
    }
    match join(Builder::new().env("MP_TEST_EARLY", "abort").rlimit(Resource::CoreSize, 0, 0)) {
        Err(JoinError::NotStarted(why)) => assert!(why.contains("SIGABRT") && why.contains("limit"), "{why}"),
        other => panic!("{other:?}"),
    }
    match join(Builder::new().env("MP_TEST_EXIT_LATE", "")) {
        Err(JoinError::Exited(ExitStatus::Code(3))) => {}
        other => panic!("{other:?}"),
    }
    match join(Builder::new().env("MP_TEST_EARLY", "kill")) {
        Err(JoinError::Exited(ExitStatus::Signal { signal: libc::SIGKILL, .. })) => {}
        other => panic!("{other:?}"),
    }
});

#[process_fn]
fn write_to_a_closed_pipe() -> Option<i32> {
    let (reader, writer) = rustix::pipe::pipe().unwrap();
    drop(reader);
    File::from(writer).write_all(b"x").unwrap_err().raw_os_error()
}

/// Undoes what std did, because a process that ignores a signal starts others that do.
fn heed_sigpipe() {
    // SAFETY: the default is a valid disposition, and there is no handler that would be lost.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
}

scenario!(a_closed_pipe_is_an_error_and_not_a_signal, {
    heed_sigpipe();
    assert_eq!(write_to_a_closed_pipe::spawn().unwrap().join().unwrap(), Some(libc::EPIPE));
});

#[process_fn]
fn what_a_program_inherits() -> (bool, String, String) {
    let output = |command: &mut Command| String::from_utf8(command.output().unwrap().stdout).unwrap();
    let own = std::env::vars_os().any(|(name, _)| name.to_string_lossy().contains("MP_CORE"));
    // The C library's view as well as std's.
    (own, output(&mut Command::new("env")), output(Command::new(this_executable()).arg("--list")))
}

scenario!(a_program_that_a_child_starts_is_no_child, {
    let (own, environment, tests) = what_a_program_inherits::spawn().unwrap().join().unwrap();
    assert!(!own);
    assert!(environment.contains("PATH=") && !environment.contains("MP_CORE"), "{environment}");
    assert!(tests.contains("a_program_that_a_child_starts_is_no_child: test"), "{tests}");
});

scenario!(a_marker_of_the_callers_own_making_is_not_passed_on, {
    let builder = Builder::new().env(MARKER, "7").env_remove(MARKER).env(MARKER, "9");
    let (own, ..) = builder.spawn(what_a_program_inherits::call()).unwrap().join().unwrap();
    assert!(!own);
    // SAFETY: this process has one thread.
    unsafe { std::env::set_var(MARKER, "9") };
    let (own, environment, _) = what_a_program_inherits::spawn().unwrap().join().unwrap();
    assert!(!own && !environment.contains("MP_CORE"), "{environment}");
    // SAFETY: as above.
    unsafe { std::env::remove_var(MARKER) };
});

#[process_fn]
fn threads_and_signals() -> (usize, Vec<i32>) {
    let threads = std::fs::read_dir("/proc/self/task").unwrap().count();
    let ignored = (1..=64).filter(|&signal| {
        let mut action = std::mem::MaybeUninit::<libc::sigaction>::uninit();
        // SAFETY: asking for the action of a signal changes nothing; the call fills `action` in if
        // it succeeds.
        let result = unsafe { libc::sigaction(signal, std::ptr::null(), action.as_mut_ptr()) };
        // SAFETY: it succeeded, so `action` is initialised.
        result == 0 && unsafe { action.assume_init() }.sa_sigaction == libc::SIG_IGN
    });
    (threads, ignored.collect())
}

scenario!(a_child_has_one_thread_and_ignores_what_a_rust_program_ignores, {
    heed_sigpipe();
    assert_eq!(threads_and_signals::spawn().unwrap().join().unwrap(), (1, vec![libc::SIGPIPE]));
});

#[test]
fn calling_init_does_nothing_where_it_is_not_needed() {
    mp_core::init();
    mp_core::init();
    assert!(!mp_core::current().is_child());
}

/// What the attribute would have registered, made by hand.
struct Unregistered;

impl ProcessFn for Unregistered {
    const NAME: &'static str = "nobody registered this";
    type Args = ();
    type Output = ();
    fn invoke((): ()) {}
}

scenario!(a_function_that_is_not_registered_does_not_start, {
    let call = || mp_core::Call::<Unregistered>::new(());
    match Builder::new().spawn(call()) {
        Err(SpawnError::Unregistered { name }) => assert_eq!(name, Unregistered::NAME),
        other => panic!("{other:?}"),
    }
    let outcome = call().encode().unwrap().run().decode::<()>();
    assert_eq!(outcome, Err(CallError::UnknownFunction(Unregistered::NAME.to_owned())));
    assert!(error_chain(&outcome.unwrap_err()).contains(Unregistered::NAME));
});

scenario!(the_body_of_a_function_can_contain_one_of_any_name, {
    #[process_fn]
    fn value() -> u8 {
        1
    }
    assert_eq!(value::spawn().unwrap().join().unwrap(), 1);
});

scenario!(another_body_can_contain_one_of_the_same_name, {
    #[process_fn]
    fn value() -> u8 {
        2
    }
    assert_eq!(value::spawn().unwrap().join().unwrap(), 2);
});
