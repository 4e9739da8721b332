//! Processes that are awaited.
#![cfg(feature = "async")]

use std::collections::BTreeSet;
use std::future::IntoFuture;
use std::io::{Read, Write};
use std::time::Duration;
use std::{fs, process, thread};

use crate::on_tokio;
use crate::reactor::async_scenario;
use futures_lite::future::{block_on, or, poll_once, zip};
use mp_core::{Builder, ExitStatus, JoinError, Process, Receiver, RecvError, Stdio, active_children, pipe, process_fn};
use mp_testing::{PATIENCE, eventually, run_for_ever, scenario};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_bytes::ByteBuf;

#[process_fn]
fn add(a: u64, b: u64) -> u64 {
    a + b
}

#[process_fn]
fn fails(text: &str) -> u64 {
    panic!("{text} failed");
}

#[process_fn]
fn exits(code: i32) -> u64 {
    process::exit(code)
}

#[process_fn]
fn bytes(length: usize) -> ByteBuf {
    ByteBuf::from(vec![7; length])
}

/// Returns once every sender of the gate is gone.
#[process_fn]
fn after(gate: Receiver<()>, value: u64) -> u64 {
    assert!(matches!(gate.recv(), Err(RecvError::Disconnected)));
    value
}

async fn values_and_errors() {
    assert_eq!(add::spawn(1, 2).unwrap().await.unwrap(), 3);
    match fails::spawn("it").unwrap().await {
        Err(JoinError::Panicked(panic)) => assert_eq!(panic.message, "it failed"),
        other => panic!("it did not panic: {other:?}"),
    }
    let exited = exits::spawn(3).unwrap().await;
    assert!(matches!(exited, Err(JoinError::Exited(ExitStatus::Code(3)))), "{exited:?}");
    let killed = run_for_ever::spawn().unwrap();
    killed.kill().unwrap();
    let killed = killed.await;
    assert!(matches!(killed, Err(JoinError::Exited(ExitStatus::Signal { signal: 9, .. }))), "{killed:?}");
    // Some that are in the control socket when the child ends, and some that are too large to be.
    for length in [0, 60_000, 70_000, 10 << 20] {
        assert_eq!(bytes::spawn(length).unwrap().await.unwrap(), vec![7; length], "{length}");
    }
}

async_scenario!(a_process_is_awaited_on_any_executor, {
    pollster::block_on(values_and_errors());
    block_on(values_and_errors());
    on_tokio(values_and_errors());
    on_tokio(async { tokio::spawn(values_and_errors()).await.unwrap() });
});

async_scenario!(a_process_that_is_killed_while_it_is_awaited_says_so, {
    for _ in 0..10 {
        let mut joining = run_for_ever::spawn().unwrap().into_future();
        assert!(block_on(poll_once(&mut joining)).is_none());
        joining.process().kill().unwrap();
        let killed = block_on(&mut joining);
        assert!(matches!(killed, Err(JoinError::Exited(ExitStatus::Signal { signal: 9, .. }))), "{killed:?}");
        assert!(matches!(block_on(&mut joining), Err(JoinError::AlreadyJoined)));
        let taken = joining.into_process().join();
        assert!(matches!(taken, Err(JoinError::AlreadyJoined)), "{taken:?}");
    }
});

#[process_fn]
fn read_to_the_end() -> usize {
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap()
}

async_scenario!(a_pipe_that_was_not_taken_is_closed_first, {
    let piped = || Builder::new().stdin(Stdio::piped()).spawn(read_to_the_end::call()).unwrap();
    assert_eq!(block_on(piped().into_future()).unwrap(), 0);
    let mut process = piped();
    process.take_stdin().unwrap().write_all(b"four").unwrap();
    assert_eq!(block_on(process.into_future()).unwrap(), 4);
});

async_scenario!(dropping_the_future_detaches_the_process, {
    let (gate, theirs) = pipe().unwrap();
    let waits = async { after::spawn(theirs, 1).unwrap().await.map(drop) };
    // The other is ready at once, and the first is dropped.
    block_on(or(waits, async { Ok(()) })).unwrap();
    let children = active_children();
    assert_eq!(children.len(), 1);
    drop(gate);
    eventually("it has returned", || !children[0].is_alive());
    assert_eq!(children[0].exit_status(), Some(ExitStatus::Code(0)));
});

async_scenario!(a_process_that_was_awaited_in_vain_can_be_joined, {
    let (gate, theirs) = pipe().unwrap();
    let mut joining = after::spawn(theirs, 5).unwrap().into_future();
    let late = on_tokio(async { tokio::time::timeout(Duration::from_millis(2), &mut joining).await });
    late.unwrap_err();
    let mut process = joining.into_process();
    assert!(process.join_timeout(Duration::ZERO).unwrap().is_none());
    drop(gate);
    assert_eq!(process.join_timeout(PATIENCE).unwrap(), Some(5));
});

fn threads() -> BTreeSet<u32> {
    let entries = fs::read_dir("/proc/self/task").unwrap();
    entries.map(|entry| entry.unwrap().file_name().to_str().unwrap().parse().unwrap()).collect()
}

/// Waits for `count` processes and as many receivers at once, and returns by how many threads.
#[process_fn]
fn wait_for_many(count: u32) -> usize {
    let (gate, theirs) = pipe().unwrap();
    let spawn = |value: u32| after::spawn(theirs.try_clone().unwrap(), value.into()).unwrap().into_future();
    let mut processes: Vec<_> = (0..count).map(spawn).collect();
    let (senders, receivers): (Vec<_>, Vec<_>) = (0..count).map(|_| pipe::<u32>().unwrap()).unzip();
    let mut messages: Vec<_> = receivers.iter().map(|receiver| Box::pin(receiver.recv_async())).collect();
    let before = threads();
    assert!(processes.iter_mut().all(|joining| block_on(poll_once(joining)).is_none()));
    assert!(messages.iter_mut().all(|message| block_on(poll_once(message)).is_none()));
    let waiting = threads().len() - before.len();
    drop((gate, theirs));
    for (number, joining) in (0..).zip(processes) {
        assert_eq!(block_on(joining).unwrap(), number);
    }
    // The last one first, so that all others wait meanwhile.
    for (number, (sender, message)) in (0..count).zip(senders.iter().zip(messages)).rev() {
        let ((), received) = block_on(zip(async { sender.send(number).unwrap() }, message));
        assert_eq!(received.unwrap(), number);
    }
    assert_eq!(threads().len() - before.len(), waiting);
    waiting
}

scenario!(one_thread_waits_for_everything, {
    assert_eq!(wait_for_many::spawn(200).unwrap().join().unwrap(), 1);
});

async_scenario!(many_tasks_wait_for_their_processes, {
    on_tokio(async {
        let join = |value: u64| tokio::spawn(add::spawn(value, 1).unwrap().into_future());
        let tasks: Vec<_> = (0..50).map(join).collect();
        for (value, task) in (1..).zip(tasks) {
            assert_eq!(task.await.unwrap().unwrap(), value);
        }
    });
});

#[process_fn]
fn wait_without_descriptors() {
    let process = run_for_ever::spawn().unwrap();
    let (sender, receiver) = pipe::<u8>().unwrap();
    let before = threads();
    let limit = getrlimit(Resource::Nofile);
    // Those that are open stay so.
    setrlimit(Resource::Nofile, Rlimit { current: Some(0), maximum: limit.maximum }).unwrap();
    let mut joining = process.into_future();
    let messages = block_on(receiver.recv_async());
    let joined = block_on(&mut joining);
    setrlimit(Resource::Nofile, limit).unwrap();
    assert!(matches!(messages, Err(RecvError::Io(_))), "{messages:?}");
    assert!(matches!(joined, Err(JoinError::Io(_))), "{joined:?}");
    assert_eq!(threads(), before);
    // After relief everything goes on, this future as well.
    let ((), message) = block_on(zip(async { sender.send(1).unwrap() }, receiver.recv_async()));
    assert_eq!(message.unwrap(), 1);
    assert!(block_on(poll_once(&mut joining)).is_none());
    joining.process().kill().unwrap();
    assert!(matches!(block_on(joining), Err(JoinError::Exited(_))));
}

scenario!(the_first_wait_fails_without_descriptors_and_the_next_does_not, {
    wait_without_descriptors::spawn().unwrap().join().unwrap();
});

/// The signals that the thread that waits has blocked, and those that this one has.
#[process_fn]
fn blocked_signals() -> (String, String) {
    let of = |thread: &str| {
        let status = fs::read_to_string(format!("/proc/self/task/{thread}/status")).unwrap();
        status.lines().find_map(|line| line.strip_prefix("SigBlk:")).unwrap().trim().to_owned()
    };
    let own = process::id().to_string();
    let before = of(&own);
    crate::reactor::start();
    assert_eq!(of(&own), before);
    let other = threads().into_iter().map(|thread| thread.to_string()).find(|thread| *thread != own).unwrap();
    (of(&other), before)
}

scenario!(signals_are_for_the_threads_of_the_program, {
    let (theirs, ours) = blocked_signals::spawn().unwrap().join().unwrap();
    let blocked = |signal: i32, mask: &str| u64::from_str_radix(mask, 16).unwrap() & 1 << (signal - 1) != 0;
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGCHLD, libc::SIGALRM, libc::SIGUSR1] {
        assert!(blocked(signal, &theirs) && !blocked(signal, &ours), "{signal}: {theirs} {ours}");
    }
});

async_scenario!(the_future_can_go_to_another_thread, {
    fn is_send_and_static<T: Send + 'static>(_: &T) {}
    let (gate, theirs) = pipe().unwrap();
    let process: Process<u64> = after::spawn(theirs, 9).unwrap();
    let mut joining = process.into_future();
    is_send_and_static(&joining);
    // First polled here, with a waker that wakes nobody any more, then there.
    assert!(block_on(poll_once(&mut joining)).is_none());
    let other = thread::spawn(move || block_on(joining).unwrap());
    drop(gate);
    assert_eq!(other.join().unwrap(), 9);
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

async_scenario!(all_output_arrives_whatever_becomes_of_the_futures, {
    let mut process = Builder::new().stdout(Stdio::piped()).stderr(Stdio::piped()).spawn(print_much::call()).unwrap();
    let (result, output) = on_tokio(async {
        loop {
            let joining = process.join_with_output_async();
            if let Ok(ended) = tokio::time::timeout(Duration::from_micros(100), joining).await {
                break ended;
            }
        }
    });
    assert_eq!((result.unwrap(), output.stdout.len(), output.stderr.len()), (7, 1_000_000, 1_000_000));
    let (result, _) = on_tokio(process.join_with_output_async());
    assert!(matches!(result, Err(JoinError::AlreadyJoined)));
});
