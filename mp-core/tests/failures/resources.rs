//! Nothing grows with the number of processes, and what runs out is an error that leaves nothing
//! behind.

use std::fs::File;
use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::time::Duration;

use mp_core::{Builder, JoinError, RecvError, SendErrorReason, Sender, SpawnError, Stdio, duplex, pipe, process_fn};
use mp_testing::leaks::{Resources, status_kib};
use mp_testing::limits::{become_a_user_of_its_own, with_descriptors};
use mp_testing::start_method::{self, is_not_for_fork_server};
use mp_testing::{error_chain, nothing, procfs, scenario};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

/// What may grow: by how much memory differs from one moment to another.
const TOLERANCE_KIB: u64 = 2_048;

#[process_fn]
fn echo(bytes: ByteBuf) -> ByteBuf {
    bytes
}

scenario!(two_thousand_processes_one_after_another_leave_nothing, Duration::from_secs(600), {
    let run = |number: u32| {
        // Now and then one with a message of its own memory.
        let size = if number % 50 == 0 { 300_000 } else { 10 };
        let process = echo::spawn(ByteBuf::from(vec![1; size])).unwrap();
        if number % 3 == 0 {
            drop(process);
        } else {
            assert_eq!(process.join().unwrap().len(), size);
        }
    };
    let measure = || {
        // Those that were dropped are reaped by a spawn after they have ended.
        mp_testing::eventually("all have ended", || {
            nothing::spawn().unwrap().join().unwrap();
            start_method::children().is_empty()
        });
        (Resources::of_this_process(), status_kib("VmRSS"), status_kib("VmSize"))
    };
    (0..200).for_each(run);
    let early = measure();
    let mut zombies = 0;
    for number in 200..2_000 {
        run(number);
        if number % 100 == 0 {
            zombies = zombies.max(procfs::children(std::process::id()).len());
        }
    }
    let late = measure();
    assert_eq!(early.0, late.0);
    assert!(late.1 <= early.1 + TOLERANCE_KIB, "resident: {} KiB, then {}", early.1, late.1);
    assert!(late.2 <= early.2 + TOLERANCE_KIB, "virtual: {} KiB, then {}", early.2, late.2);
    // Only those that have not ended or ended since the last spawn.
    assert!(zombies < 30, "{zombies} children at once");
});

#[process_fn]
fn leave_a_mark(marks: Sender<u8>, _large: ByteBuf) {
    marks.send(1).unwrap();
}

scenario!(a_spawn_without_descriptors_is_an_error_and_runs_nothing, {
    let before = Resources::of_this_process();
    let mut started = Vec::new();
    for size in [0, 300_000] {
        for more in 0..30 {
            let (marks, marked) = pipe().unwrap();
            let streams = || (Stdio::piped(), Stdio::piped(), Stdio::piped());
            let (stdin, stdout, stderr) = streams();
            let builder = Builder::new().stdin(stdin).stdout(stdout).stderr(stderr);
            let bytes = ByteBuf::from(vec![0; size]);
            let result = with_descriptors(more, || builder.spawn(leave_a_mark::call(marks, bytes)));
            match result {
                Ok(process) => {
                    process.join().unwrap();
                    assert_eq!(marked.recv().unwrap(), 1);
                    started.push(more);
                }
                Err(SpawnError::Io { source, .. }) => {
                    assert_eq!(source.raw_os_error(), Some(libc::EMFILE), "with {more}: {source}");
                }
                Err(SpawnError::Encode(error)) => assert!(error.to_string().contains("os error 24"), "{error}"),
                Err(other) => panic!("with {more}: {other:?}"),
            }
            // Also not by a child that the caller was told does not exist.
            assert!(matches!(marked.recv(), Err(RecvError::Disconnected)), "with {more}");
            drop(marked);
            assert_eq!(Resources::of_this_process(), before, "with {more}");
        }
    }
    assert!(started.contains(&29) && !started.contains(&0), "{started:?}");
});

scenario!(a_pipe_without_descriptors_is_an_error, {
    let before = Resources::of_this_process();
    for more in 0..2 {
        let results = with_descriptors(more, || (pipe::<u8>().err(), duplex::<u8, u8>().err()));
        for error in [results.0.unwrap(), results.1.unwrap()] {
            assert_eq!(error.raw_os_error(), Some(libc::EMFILE));
        }
        assert_eq!(Resources::of_this_process(), before);
    }
    with_descriptors(3, || pipe::<u8>().unwrap());
    let (sender, receiver) = pipe::<ByteBuf>().unwrap();
    with_descriptors(1, || {
        sender.try_clone().unwrap();
        assert!(std::iter::repeat_with(|| sender.try_clone()).take(2).collect::<Result<Vec<_>, _>>().is_err());
        let error = sender.send(ByteBuf::from(vec![0; 300_000])).unwrap_err();
        assert_eq!(error.value.len(), 300_000);
        assert!(matches!(error.reason, SendErrorReason::Io(_) | SendErrorReason::Encode(_)), "{error:?}");
        sender.send(ByteBuf::from(vec![0; 1_000])).unwrap();
    });
    assert_eq!(receiver.recv().unwrap().len(), 1_000);
    sender.send(ByteBuf::from(vec![0; 300_000])).unwrap();
    assert_eq!(receiver.recv().unwrap().len(), 300_000);
});

#[derive(Serialize, Deserialize)]
struct Opened(#[serde(with = "mp_core::fd")] OwnedFd);

fn opened(count: usize) -> Vec<Opened> {
    (0..count).map(|_| Opened(File::open("/dev/null").unwrap().into())).collect()
}

scenario!(handles_that_find_no_place_are_an_error_of_their_message_alone, {
    let before = Resources::of_this_process();
    let (sender, receiver) = pipe::<Vec<Opened>>().unwrap();
    for (count, more) in [(5, 0), (5, 1), (5, 4), (300, 10), (300, 252)] {
        sender.send(opened(count)).unwrap();
        sender.send(opened(0)).unwrap();
        with_descriptors(more, || {
            assert!(matches!(receiver.recv(), Err(RecvError::Io(_))), "{count} into {more}");
            assert!(receiver.recv().unwrap().is_empty());
        });
    }
    sender.send(opened(5)).unwrap();
    assert_eq!(with_descriptors(5, || receiver.recv().unwrap().len()), 5);
    // Nor can they be sent.
    let error = with_descriptors(1, || sender.send(vec![]).and(sender.send(opened(0)))).err();
    assert!(error.is_none());
    let values = opened(5);
    let error = with_descriptors(3, || sender.send(values)).unwrap_err();
    assert_eq!(error.value.len(), 5);
    assert!(error_chain(&error).contains("os error 24"), "{error:?}");
    drop((error, sender, receiver));
    assert_eq!(Resources::of_this_process(), before);
});

#[process_fn]
fn make_handles(count: usize) -> Vec<Opened> {
    opened(count)
}

scenario!(a_result_whose_handles_find_no_place_is_an_error, {
    if is_not_for_fork_server("the pipe for the status leaves a place") {
        return;
    }
    let before = Resources::of_this_process();
    let process = make_handles::spawn(5).unwrap();
    let error = with_descriptors(2, || process.join().err().expect("there is no room"));
    assert!(matches!(&error, JoinError::Decode(_)), "{error:?}");
    assert!(error_chain(&error).contains("descriptors of a message were lost"), "{error:?}");
    assert_eq!(make_handles::spawn(5).unwrap().join().unwrap().len(), 5);
    assert_eq!(Resources::of_this_process(), before);
});

scenario!(a_spawn_without_processes_is_an_error, {
    if !rustix::process::geteuid().is_root() {
        println!("not tested: other processes of this user count as well");
        return;
    }
    as_an_ordinary_user::spawn().unwrap().join().unwrap();
});

/// The limit does not hold for root.
#[process_fn]
fn as_an_ordinary_user() {
    become_a_user_of_its_own();
    nothing::spawn().unwrap().join().unwrap();
    let limit = getrlimit(Resource::Nproc);
    setrlimit(Resource::Nproc, Rlimit { current: Some(1), maximum: limit.maximum }).unwrap();
    let before = Resources::of_this_process();
    match nothing::spawn() {
        Err(SpawnError::Io { source, .. }) => assert_eq!(source.kind(), ErrorKind::WouldBlock),
        other => panic!("{other:?}"),
    }
    assert_eq!(Resources::of_this_process(), before);
    setrlimit(Resource::Nproc, limit).unwrap();
    nothing::spawn().unwrap().join().unwrap();
}
