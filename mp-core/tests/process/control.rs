//! Killing a process from another thread, when it is dropped, and with all that it started; joining
//! it with its output until a deadline.

use std::process::Command;
use std::thread;
use std::time::Duration;

use mp_core::{Builder, ExitStatus, JoinError, Process, Sender, Stdio, pipe, process_fn, wait};
use mp_testing::leaks::descriptors;
use mp_testing::procfs::runs;
use mp_testing::{PATIENCE, PROMPTLY, eventually, nothing, run_for_ever, scenario};

fn killed<T>(result: Result<T, JoinError>) -> bool {
    matches!(result, Err(JoinError::Exited(ExitStatus::Signal { signal: 9, .. })))
}

scenario!(another_thread_kills_a_process_that_is_being_joined, {
    for group in [false, true] {
        let process = Builder::new().process_group(group).spawn(run_for_ever::call()).unwrap();
        let info = process.info();
        let joining = thread::spawn(move || process.join());
        assert!(info.is_alive());
        info.kill().unwrap();
        assert!(killed(joining.join().unwrap()));
        assert!(!info.is_alive());
        // Nobody gets this one.
        info.kill().unwrap();
    }
});

scenario!(a_process_is_killed_when_it_is_dropped_if_that_was_wanted, {
    let spawn = || Builder::new().kill_on_drop(true).spawn(run_for_ever::call()).unwrap();
    let process = spawn();
    let info = process.info();
    drop(process);
    assert_eq!(wait(&[&info], Some(PROMPTLY)).unwrap(), [0]);
    let process = spawn();
    let info = process.info();
    process.detach();
    assert!(wait(&[&info], Some(Duration::from_millis(20))).unwrap().is_empty());
    info.kill().unwrap();
});

scenario!(a_copy_that_fork_made_kills_nothing_when_it_drops_its_copy, {
    let process = Builder::new().kill_on_drop(true).spawn(run_for_ever::call()).unwrap();
    let info = process.info();
    // SAFETY: the copy of this process drops what it has and ends; no other thread runs.
    let copy = unsafe { libc::fork() };
    if copy == 0 {
        drop(process);
        // SAFETY: it ends the copy.
        unsafe { libc::_exit(0) }
    }
    let mut status = 0;
    // SAFETY: it writes the status of the copy, a child of this process.
    assert_eq!(unsafe { libc::waitpid(copy, &raw mut status, 0) }, copy);
    assert_eq!(status, 0);
    assert!(wait(&[&info], Some(Duration::from_millis(20))).unwrap().is_empty());
    process.kill().unwrap();
    assert!(killed(process.join()));
});

/// Starts what this library does not know, says so, and prints from there for ever.
#[process_fn]
#[expect(clippy::zombie_processes, reason = "the parent of this process kills all of them")]
fn start_others(pids: Sender<u32>, ends: bool) {
    // SAFETY: the child of the fork calls only functions that are safe there.
    let fork = unsafe { libc::fork() };
    if fork == 0 {
        loop {
            // SAFETY: as above.
            unsafe { libc::pause() };
        }
    }
    let program = Command::new("sh").args(["-c", "while :; do echo y; sleep 0.01; done"]).spawn().unwrap();
    pids.send(fork.unsigned_abs()).unwrap();
    pids.send(program.id()).unwrap();
    if !ends {
        loop {
            thread::park();
        }
    }
}

scenario!(a_process_group_is_killed_as_a_whole, {
    for (ends, on_drop) in [(false, false), (true, false), (false, true)] {
        let (sender, pids) = pipe().unwrap();
        let builder = Builder::new().process_group(true).kill_on_drop(on_drop).stdout(Stdio::null());
        let process = builder.spawn(start_others::call(sender, ends)).unwrap();
        let (fork, program) = (pids.recv().unwrap(), pids.recv().unwrap());
        if ends {
            wait(&[&process], Some(PATIENCE)).unwrap();
        }
        assert!(runs(fork) && runs(program));
        if on_drop {
            drop(process);
        } else {
            process.kill().unwrap();
            assert_eq!(process.join().is_ok(), ends);
        }
        eventually("all of it is gone", || !runs(fork) && !runs(program));
    }
});

scenario!(a_deadline_with_output_holds_although_others_have_the_pipe, {
    let (sender, pids) = pipe().unwrap();
    let builder = Builder::new().process_group(true).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut process = builder.spawn(start_others::call(sender, false)).unwrap();
    let (fork, program) = (pids.recv().unwrap(), pids.recv().unwrap());
    assert!(process.join_with_output_timeout(Duration::ZERO).is_none());
    assert!(process.join_with_output_timeout(Duration::from_millis(50)).is_none());
    process.kill().unwrap();
    let (result, output) = process.join_with_output_timeout(PATIENCE).expect("it has ended");
    assert!(killed(result));
    // What was read before is there as well.
    assert!(output.stdout.starts_with(b"y\ny\n"), "{output:?}");
    let (result, output) = process.join_with_output();
    assert!(matches!(result, Err(JoinError::AlreadyJoined)) && output.stdout.is_empty());
    eventually("all of it is gone", || !runs(fork) && !runs(program));
});

/// Prints more than a pipe holds, in both streams.
#[process_fn]
fn print_much() -> u32 {
    for _ in 0..1000 {
        println!("{}", "o".repeat(999));
        eprintln!("{}", "e".repeat(999));
    }
    7
}

fn print_with_pipes() -> Process<u32> {
    Builder::new().stdout(Stdio::piped()).stderr(Stdio::piped()).spawn(print_much::call()).unwrap()
}

scenario!(all_output_arrives_whatever_the_deadlines, {
    let mut process = print_with_pipes();
    let (result, output) = loop {
        if let Some(ended) = process.join_with_output_timeout(Duration::from_micros(100)) {
            break ended;
        }
    };
    assert_eq!((result.unwrap(), output.stdout.len(), output.stderr.len()), (7, 1_000_000, 1_000_000));
});

scenario!(a_process_that_has_ended_keeps_its_sentinel_open_and_nothing_else, {
    let before = descriptors().len();
    let mut processes: Vec<_> = (0..5).map(|_| nothing::spawn().unwrap()).collect();
    for process in &mut processes {
        wait(&[&*process], Some(PATIENCE)).unwrap();
        assert_eq!(process.exit_status(), Some(ExitStatus::Code(0)));
    }
    assert_eq!(descriptors().len(), before + 5);
    // The value is still there.
    for process in processes {
        process.join().unwrap();
    }
    let mut process = nothing::spawn().unwrap();
    process.join_timeout(PATIENCE).unwrap().unwrap();
    assert_eq!(descriptors().len(), before + 1);
});
