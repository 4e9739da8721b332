//! A server, its processes and its owner are killed.

use std::thread;
use std::time::Duration;

use mp_core::{Builder, ExitStatus, ForkServer, JoinError, Sender, SpawnError, pipe, process_fn, wait};
use mp_testing::faults::{Random, busy};
use mp_testing::{PATIENCE, eventually, nothing, procfs, run_for_ever, scenario};
use rustix::process::{Signal, kill_process};

pub(crate) fn signal(pid: u32, signal: Signal) {
    kill_process(procfs::number_of(pid), signal).unwrap();
}

#[process_fn]
fn echo_after(milliseconds: u64) -> u64 {
    thread::sleep(Duration::from_millis(milliseconds));
    milliseconds
}

scenario!(the_processes_of_a_server_that_was_killed_run_on, {
    let server = ForkServer::builder().build().unwrap();
    let (returns, ends) = (server.spawn(echo_after::call(30)).unwrap(), server.spawn(run_for_ever::call()).unwrap());
    signal(server.pid(), Signal::KILL);
    let error = server.spawn(nothing::call()).unwrap_err();
    assert!(matches!(error, SpawnError::ForkServerGone(ExitStatus::Signal { signal: 9, .. })), "{error}");
    assert!(!server.is_alive() && ends.is_alive());
    assert_eq!(returns.join().unwrap(), 30);
    ends.kill().unwrap();
    // The kernel tells how it ended since Linux 6.15.
    let error = ends.join().unwrap_err();
    assert!(matches!(error, JoinError::Exited(ExitStatus::Signal { signal: 9, .. } | ExitStatus::Unknown)), "{error}");
});

scenario!(a_server_that_was_killed_is_started_again_if_wanted, {
    let builder = ForkServer::builder().preload(super::preload::load::call("a b")).restart(true);
    let server = builder.build().unwrap();
    for _ in 0..5 {
        let before = server.pid();
        signal(before, Signal::KILL);
        // Several threads at once start one server.
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let process = server.spawn(super::preload::word::call(1)).unwrap();
                    assert_eq!(process.join().unwrap().unwrap(), "b");
                });
            }
        });
        assert_ne!(server.pid(), before);
    }
});

scenario!(a_server_is_killed_at_any_instant_and_every_spawn_ends, {
    let server = ForkServer::builder().restart(true).build().unwrap();
    let mut random = Random::new();
    for _ in 0..mp_testing::faults::count(30) {
        let (pid, delay) = (server.pid(), random.below(1_500));
        thread::scope(|scope| {
            scope.spawn(move || {
                busy(Duration::from_micros(delay));
                // It may have ended in the round before.
                let _ = kill_process(procfs::number_of(pid), Signal::KILL);
            });
            for _ in 0..4 {
                match server.spawn(echo_after::call(0)) {
                    Ok(process) => assert_eq!(process.join().unwrap(), 0),
                    // It was killed twice: the one that was started instead has the same owner.
                    Err(SpawnError::ForkServerGone(_)) => {}
                    Err(error) => panic!("{error}"),
                }
            }
        });
    }
});

#[process_fn]
fn own_a_server(pids: Sender<u32>) {
    let server = ForkServer::builder().build().unwrap();
    pids.send(server.pid()).unwrap();
    loop {
        if let Ok(process) = server.spawn(run_for_ever::call()) {
            pids.send(process.pid()).unwrap();
            process.detach();
        }
    }
}

scenario!(a_server_and_its_processes_die_with_their_owner, {
    let mut random = Random::new();
    for _ in 0..mp_testing::faults::count(20) {
        let (sender, pids) = pipe().unwrap();
        let owner = Builder::new().spawn(own_a_server::call(sender)).unwrap();
        let mut started = vec![pids.recv().unwrap()];
        busy(Duration::from_micros(random.below(3_000)));
        owner.kill().unwrap();
        owner.join().unwrap_err();
        started.extend(pids.iter().map_while(Result::ok));
        eventually("all have ended", || started.iter().all(|pid| !procfs::runs(*pid)));
    }
});

scenario!(a_process_whose_server_is_stopped_can_be_joined, {
    let server = ForkServer::builder().build().unwrap();
    let process = server.spawn(echo_after::call(20)).unwrap();
    let mut killed = server.spawn(run_for_ever::call()).unwrap();
    signal(server.pid(), Signal::STOP);
    assert_eq!(process.join().unwrap(), 20);
    // Without a value, the status is what there is to say.
    killed.kill().unwrap();
    wait(&[&killed], Some(PATIENCE)).unwrap();
    assert!(killed.is_finished());
    // Before Linux 6.15 only the server knows it, and it is stopped for longer than calls wait.
    let at_once = killed.join_timeout(Duration::ZERO);
    let after_a_second = killed.join_timeout(Duration::from_millis(1_100));
    let kernel_tells = at_once.is_err();
    assert!(kernel_tells || matches!((&at_once, &after_a_second), (Ok(None), Ok(None))), "{after_a_second:?}");
    assert!(killed.is_finished());
    signal(server.pid(), Signal::CONT);
    let error = at_once.err().unwrap_or_else(|| killed.join().unwrap_err());
    assert!(matches!(error, JoinError::Exited(ExitStatus::Signal { signal: 9, .. })), "{error}");
    assert_eq!(server.spawn(echo_after::call(0)).unwrap().join().unwrap(), 0);
});

scenario!(interrupting_the_group_leaves_the_server_and_ends_its_processes, {
    let server = ForkServer::builder().build().unwrap();
    let process = server.spawn(run_for_ever::call()).unwrap();
    signal(server.pid(), Signal::INT);
    process.interrupt().unwrap();
    wait(&[&process], Some(PATIENCE)).unwrap();
    let error = process.join().unwrap_err();
    assert!(matches!(error, JoinError::Exited(ExitStatus::Signal { signal: 2, .. })), "{error}");
    assert!(server.is_alive());
});

scenario!(the_status_of_each_process_is_known, {
    let server = ForkServer::builder().build().unwrap();
    let end = |call: mp_core::Call<end_with>| server.spawn(call).unwrap().join().unwrap_err();
    for code in [1, 7, 255] {
        assert!(matches!(end(end_with::call(code)), JoinError::Exited(ExitStatus::Code(found)) if found == code));
    }
    for number in [libc::SIGTERM, libc::SIGKILL, libc::SIGUSR1] {
        let error = end(end_with::call(-number));
        assert!(matches!(error, JoinError::Exited(ExitStatus::Signal { signal, .. }) if signal == number), "{error}");
    }
});

#[process_fn]
fn end_with(status: i32) {
    if status >= 0 {
        std::process::exit(status);
    }
    // SAFETY: raising a signal has no precondition.
    unsafe { libc::raise(-status) };
}
