//! However a process ends, its parent is told how.

use std::process::{abort, exit};
use std::time::Duration;

use mp_core::{Builder, ExitStatus, JoinError, Process, Resource, Stdio, process_fn, wait};
use mp_testing::{PATIENCE, PROMPTLY, eventually, nothing, run_for_ever, scenario};

#[process_fn]
fn exit_with(code: i32) {
    exit(code);
}

#[process_fn]
fn exit_instead_of_a_number(code: i32) -> u64 {
    exit(code);
}

#[process_fn]
fn exit_instead_of_an_option(code: i32) -> Option<()> {
    exit(code);
}

#[process_fn]
fn exit_always(code: i32) -> ! {
    exit(code);
}

#[process_fn]
fn exit_from_a_thread(code: i32) {
    std::thread::spawn(move || exit(code)).join().unwrap();
}

#[process_fn]
fn crash(how: u8) {
    match how {
        0 => abort(),
        // SAFETY: the signal's default action ends the process, which is the purpose.
        1 => _ = unsafe { libc::raise(libc::SIGSEGV) },
        // SAFETY: it is not: nothing is mapped at this address, so that the processor stops it.
        _ => unsafe { std::ptr::without_provenance_mut::<u8>(8).write_volatile(1) },
    }
}

#[track_caller]
fn status_of<T: serde::de::DeserializeOwned + std::fmt::Debug>(process: Process<T>) -> ExitStatus {
    match process.join() {
        Err(JoinError::Exited(status)) => status,
        other => panic!("it did not just exit: {other:?}"),
    }
}

#[track_caller]
fn signal_of<T: serde::de::DeserializeOwned + std::fmt::Debug>(process: Process<T>) -> i32 {
    match status_of(process) {
        ExitStatus::Signal { signal, .. } => signal,
        other => panic!("it was not ended by a signal: {other}"),
    }
}

scenario!(exit_0_is_success_where_nothing_was_to_be_returned, {
    exit_with::spawn(0).unwrap().join().unwrap();
    exit_from_a_thread::spawn(0).unwrap().join().unwrap();
});

scenario!(exit_0_is_no_value, {
    assert_eq!(status_of(exit_instead_of_a_number::spawn(0).unwrap()), ExitStatus::Code(0));
    assert_eq!(status_of(exit_instead_of_an_option::spawn(0).unwrap()), ExitStatus::Code(0));
});

scenario!(any_other_exit_code_is_an_error_with_that_code, {
    for code in [1, 7, 125, 255] {
        assert_eq!(status_of(exit_with::spawn(code).unwrap()), ExitStatus::Code(code));
    }
    assert_eq!(status_of(exit_instead_of_a_number::spawn(7).unwrap()), ExitStatus::Code(7));
    assert_eq!(status_of(exit_from_a_thread::spawn(7).unwrap()), ExitStatus::Code(7));
});

scenario!(a_function_that_never_returns_can_only_exit, {
    assert_eq!(status_of(exit_always::spawn(7).unwrap()), ExitStatus::Code(7));
});

scenario!(a_crash_names_its_signal, {
    assert_eq!(signal_of(crash::spawn(0).unwrap()), libc::SIGABRT);
    assert_eq!(signal_of(crash::spawn(1).unwrap()), libc::SIGSEGV);
    assert_eq!(signal_of(crash::spawn(2).unwrap()), libc::SIGSEGV);
});

scenario!(each_way_to_end_a_process_sends_its_signal, {
    type End = fn(&Process<()>) -> std::io::Result<()>;
    let ways: [(End, i32); 3] =
        [(Process::interrupt, libc::SIGINT), (Process::terminate, libc::SIGTERM), (Process::kill, libc::SIGKILL)];
    for (end, signal) in ways {
        let process = run_for_ever::spawn().unwrap();
        end(&process).unwrap();
        assert_eq!(signal_of(process), signal);
    }
});

scenario!(a_killed_process_is_joined_promptly, {
    let mut process = run_for_ever::spawn().unwrap();
    assert!(process.join_timeout(Duration::from_millis(20)).unwrap().is_none());
    process.kill().unwrap();
    let error = process.join_timeout(PROMPTLY).unwrap_err();
    assert_eq!(error.to_string(), "the process ended with signal 9 (SIGKILL) and sent no result");
});

#[process_fn]
fn close_all_and(how: String) -> u32 {
    // SAFETY: nothing in this process uses a descriptor afterwards, but for the library, which is
    // prepared for that.
    assert_eq!(unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, 0) }, 0);
    match how.as_str() {
        "panic" => panic!("for a reason"),
        "replace" => {
            for _ in 0..8 {
                std::mem::forget(std::fs::File::open("/dev/null").unwrap());
            }
        }
        _ => {}
    }
    5
}

// The value cannot arrive, and nobody can know whether the function returned.
scenario!(a_function_that_closes_all_descriptors_sends_no_result_and_says_so, {
    for (how, said) in
        [("return", "cannot send its result"), ("replace", "cannot send its result"), ("panic", "for a reason")]
    {
        let process = Builder::new().stderr(Stdio::piped()).spawn(close_all_and::call(how.to_owned())).unwrap();
        let (result, output) = process.join_with_output();
        assert_eq!(result.unwrap_err().to_string(), "the process ended with exit code 1 and sent no result", "{how}");
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(text.contains(said), "{how}: {text}");
    }
});

scenario!(a_core_dump_is_told_of, {
    let directory = tempfile::tempdir().unwrap();
    let crash_with = |limit| {
        let builder = Builder::new().rlimit(Resource::CoreSize, limit, limit).current_dir(directory.path());
        status_of(builder.spawn(crash::call(0)).unwrap())
    };
    let ExitStatus::Signal { core_dumped, .. } = crash_with(0) else { panic!("it did not crash") };
    let pattern = std::fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap();
    // Where a program takes dumps, the limit does not hold for it.
    if pattern.starts_with('|') {
        return;
    }
    assert!(!core_dumped);
    let hard = rustix::process::getrlimit(rustix::process::Resource::Core).maximum;
    if hard.is_some_and(|hard| hard < 1 << 30) {
        println!("not tested further: core dumps are not allowed here");
        return;
    }
    let ExitStatus::Signal { core_dumped, .. } = crash_with(hard.unwrap_or(Resource::UNLIMITED)) else {
        panic!("it did not crash")
    };
    let written = std::fs::read_dir(directory.path()).unwrap().count() > 0;
    // A pattern may name another directory, which may not be there.
    assert!(core_dumped || (pattern.contains('/') && !written));
});

scenario!(signals_to_a_process_that_has_ended_do_nothing, {
    let mut process = nothing::spawn().unwrap();
    // Ended, not yet reaped.
    wait(&[&process], Some(PATIENCE)).unwrap();
    process.kill().unwrap();
    process.join_timeout(PATIENCE).unwrap().unwrap();
    // Reaped.
    process.kill().unwrap();
    process.terminate().unwrap();
    process.interrupt().unwrap();
    assert_eq!(process.exit_status(), Some(ExitStatus::Code(0)));
});

scenario!(the_exit_status_is_there_when_the_process_has_ended_and_stays, {
    let process = run_for_ever::spawn().unwrap();
    assert_eq!(process.exit_status(), None);
    assert!(process.is_alive());
    process.kill().unwrap();
    let killed = ExitStatus::Signal { signal: libc::SIGKILL, core_dumped: false };
    eventually("the process has ended", || !process.is_alive());
    assert_eq!(process.exit_status(), Some(killed));
    // Asking does not take the status from whoever joins.
    assert_eq!(status_of(process), killed);
});

scenario!(a_parent_that_ignores_its_children_gets_their_values_all_the_same, {
    // SAFETY: SIG_IGN is a valid disposition for SIGCHLD, and this process has no handler that
    // would be lost.
    let previous = unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
    for _ in 0..50 {
        let mut process = nothing::spawn().unwrap();
        process.join_timeout(PATIENCE).unwrap().expect("it has ended");
        // The kernel tells it since Linux 6.15.
        assert!(matches!(process.exit_status(), Some(ExitStatus::Code(0) | ExitStatus::Unknown)));
    }
    drop(nothing::spawn().unwrap());
    let process = run_for_ever::spawn().unwrap();
    process.kill().unwrap();
    assert!(matches!(status_of(process), ExitStatus::Signal { signal: libc::SIGKILL, .. } | ExitStatus::Unknown));
    // SAFETY: as above; the disposition is the one that was there.
    unsafe { libc::signal(libc::SIGCHLD, previous) };
});

scenario!(a_thread_that_blocks_signals_starts_processes_that_can_be_terminated, {
    let process = std::thread::spawn(|| {
        let mut mask = std::mem::MaybeUninit::uninit();
        // SAFETY: the call initialises the set that it is given.
        unsafe { libc::sigfillset(mask.as_mut_ptr()) };
        // SAFETY: the set is initialised; only this thread's mask changes.
        unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, mask.as_ptr(), std::ptr::null_mut()) };
        Builder::new().spawn(run_for_ever::call()).unwrap()
    });
    let process = process.join().unwrap();
    process.terminate().unwrap();
    assert_eq!(signal_of(process), libc::SIGTERM);
});
