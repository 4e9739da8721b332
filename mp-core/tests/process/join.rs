//! Waiting for a process: as often as one likes, once for the value.

use std::time::Duration;

use mp_core::{ExitStatus, JoinError, Receiver, Sender, pipe, process_fn, wait};
use mp_testing::{PATIENCE, nothing, run_for_ever, scenario};
use serde_bytes::ByteBuf;

#[process_fn]
fn return_what_comes(numbers: Receiver<u32>) -> u32 {
    numbers.recv().unwrap()
}

#[process_fn]
fn large(bytes: usize) -> ByteBuf {
    ByteBuf::from(vec![7; bytes])
}

#[process_fn]
fn say_and_return(started: Sender<()>) -> u32 {
    started.send(()).unwrap();
    5
}

scenario!(join_timeout_says_none_until_there_is_a_value, {
    let (sender, receiver) = pipe().unwrap();
    let mut process = return_what_comes::spawn(receiver).unwrap();
    for _ in 0..3 {
        assert_eq!(process.join_timeout(Duration::from_millis(5)).unwrap(), None);
        assert_eq!(process.join_timeout(Duration::ZERO).unwrap(), None);
    }
    assert!(process.is_alive());
    sender.send(9).unwrap();
    assert_eq!(process.join_timeout(Duration::MAX).unwrap(), Some(9));
});

scenario!(the_value_can_be_had_once, {
    let (sender, _receiver) = pipe().unwrap();
    let mut process = say_and_return::spawn(sender).unwrap();
    assert_eq!(process.join_timeout(PATIENCE).unwrap(), Some(5));
    assert!(matches!(process.join_timeout(PATIENCE), Err(JoinError::AlreadyJoined)));
    assert!(matches!(process.join_timeout(Duration::ZERO), Err(JoinError::AlreadyJoined)));
    assert!(matches!(process.join(), Err(JoinError::AlreadyJoined)));
});

scenario!(an_error_can_be_had_once, {
    let mut process = run_for_ever::spawn().unwrap();
    process.kill().unwrap();
    assert!(matches!(process.join_timeout(PATIENCE), Err(JoinError::Exited(ExitStatus::Signal { signal: 9, .. }))));
    assert!(matches!(process.join(), Err(JoinError::AlreadyJoined)));
});

scenario!(a_zero_timeout_finds_the_value_of_a_process_that_has_ended, {
    let (sender, _receiver) = pipe().unwrap();
    let mut process = say_and_return::spawn(sender).unwrap();
    wait(&[&process], Some(PATIENCE)).unwrap();
    assert_eq!(process.join_timeout(Duration::ZERO).unwrap(), Some(5));
});

scenario!(a_result_of_64_mib_arrives_through_join_timeout, {
    let mut process = large::spawn(64 << 20).unwrap();
    let mut value = None;
    mp_testing::eventually("the value has arrived", || {
        value = process.join_timeout(Duration::from_millis(1)).unwrap();
        value.is_some()
    });
    let value = value.unwrap();
    assert_eq!(value.len(), 64 << 20);
    assert!(value.iter().all(|&byte| byte == 7));
});

scenario!(a_process_with_a_large_result_ends_without_being_joined, {
    let process = large::spawn(64 << 20).unwrap();
    assert_eq!(wait(&[&process], Some(PATIENCE)).unwrap(), [0]);
    assert_eq!(process.exit_status(), Some(ExitStatus::Code(0)));
    assert_eq!(process.join().unwrap().len(), 64 << 20);
    // Nor is the memory left behind if nobody ever joins.
    let process = large::spawn(1 << 20).unwrap();
    wait(&[&process], Some(PATIENCE)).unwrap();
    drop(process);
});

scenario!(the_sentinel_is_ready_when_the_process_has_ended_and_not_before, {
    let (sender, receiver) = pipe().unwrap();
    let waiting = return_what_comes::spawn(receiver).unwrap();
    let ending = nothing::spawn().unwrap();
    assert_eq!(wait(&[&waiting, &ending], Some(PATIENCE)).unwrap(), [1]);
    assert!(wait(&[&waiting], Some(Duration::ZERO)).unwrap().is_empty());
    sender.send(1).unwrap();
    assert_eq!(wait(&[&waiting], Some(PATIENCE)).unwrap(), [0]);
    assert_eq!(wait(&[&waiting, &ending], None).unwrap(), [0, 1]);
    assert_eq!(waiting.join().unwrap(), 1);
    ending.join().unwrap();
});

scenario!(a_process_can_be_joined_by_another_thread_than_started_it, {
    let (sender, receiver) = pipe().unwrap();
    let process = return_what_comes::spawn(receiver).unwrap();
    let joining = std::thread::spawn(move || process.join().unwrap());
    sender.send(3).unwrap();
    assert_eq!(joining.join().unwrap(), 3);
});

#[process_fn]
fn leave_a_descendant() -> u32 {
    // Its own lifeline ends it with this process, but it holds no end of the control socket
    // meanwhile.
    let descendant = run_for_ever::spawn().unwrap();
    let pid = descendant.pid();
    descendant.detach();
    pid
}

scenario!(a_descendant_that_still_runs_does_not_delay_joining, {
    let descendant = leave_a_descendant::spawn().unwrap().join().unwrap();
    mp_testing::eventually("the descendant has ended", || !mp_testing::procfs::runs(descendant));
});
