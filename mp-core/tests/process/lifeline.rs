//! When a process dies, however it dies, everything that it started dies within a second.

use std::os::fd::OwnedFd;
use std::time::Instant;

use mp_core::{Builder, Receiver, Sender, pipe, process_fn, wait};
use mp_testing::procfs::{self, number_of};
use mp_testing::start_method::others;
use mp_testing::{PATIENCE, PROMPTLY, eventually, nothing, run_for_ever, scenario};
use rustix::process::{PidfdFlags, Signal, kill_process, pidfd_open};

/// How a process spends its time.
const WAYS: [&str; 5] = ["parked", "spinning", "reading", "stopped", "deaf"];

#[process_fn]
fn live(way: String, pids: Sender<u32>, never: Receiver<u8>) {
    pids.send(std::process::id()).unwrap();
    match way.as_str() {
        "spinning" => loop {
            std::hint::spin_loop();
        },
        "reading" => drop(never.recv()),
        "stopped" => kill_process(number_of(std::process::id()), Signal::STOP).unwrap(),
        "deaf" => block_signals(),
        _ => {}
    }
    loop {
        std::thread::park();
    }
}

/// Blocks every signal that can be blocked, and ignores the one that the kernel sends about
/// descriptors unless told which.
fn block_signals() {
    let mut all = std::mem::MaybeUninit::uninit();
    // SAFETY: the call initialises the set that it is given.
    unsafe { libc::sigfillset(all.as_mut_ptr()) };
    // SAFETY: the set is initialised.
    unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, all.as_ptr(), std::ptr::null_mut()) };
    // SAFETY: a valid disposition, and there is no handler that would be lost.
    unsafe { libc::signal(libc::SIGIO, libc::SIG_IGN) };
}

/// Starts one process of each kind, and the same a level below.
#[process_fn]
fn start_all(levels: u32, pids: Sender<u32>, never: Receiver<u8>) {
    for way in WAYS {
        let call = live::call(way.to_owned(), pids.try_clone().unwrap(), never.try_clone().unwrap());
        Builder::new().name(way).spawn(call).unwrap().detach();
    }
    if levels > 0 {
        start_all::spawn(levels - 1, pids.try_clone().unwrap(), never.try_clone().unwrap()).unwrap().detach();
    }
    pids.send(std::process::id()).unwrap();
    loop {
        std::thread::park();
    }
}

/// A process that is watched, though it is no child of this one.
struct Watched {
    pid: u32,
    pidfd: OwnedFd,
}

impl Watched {
    fn new(pid: u32) -> Self {
        Self { pid, pidfd: pidfd_open(number_of(pid), PidfdFlags::empty()).unwrap() }
    }
}

/// Fails unless all of them have ended within a second of `since`.
#[track_caller]
fn assert_gone(watched: &[Watched], since: Instant) {
    for process in watched {
        let left = PROMPTLY.saturating_sub(since.elapsed());
        let ended = !wait(&[&process.pidfd], Some(left)).unwrap().is_empty();
        assert!(
            ended,
            "it lives on:\n{}",
            procfs::describe(&procfs::Entry::read(process.pid).into_iter().collect::<Vec<_>>())
        );
    }
}

fn all_of_them(levels: u32) -> usize {
    (WAYS.len() + 1) * (levels as usize + 1)
}

scenario!(children_and_grandchildren_die_with_a_parent_that_is_killed, {
    const LEVELS: u32 = 2;
    let (pids, started) = pipe().unwrap();
    let (_never, silent) = pipe().unwrap();
    let parent = start_all::spawn(LEVELS, pids, silent).unwrap();
    let watched: Vec<Watched> = (0..all_of_them(LEVELS))
        .map(|_| Watched::new(started.recv_timeout(PATIENCE).unwrap().expect("all have started")))
        .collect();
    eventually("one of each level has stopped", || {
        let stopped = watched.iter().filter(|process| procfs::Entry::read(process.pid).unwrap().state == 'T');
        stopped.count() == LEVELS as usize + 1
    });
    let killed = Instant::now();
    parent.kill().unwrap();
    assert_gone(&watched, killed);
    parent.join().unwrap_err();
});

#[process_fn]
fn end(how: u8, pids: Sender<u32>, never: Receiver<u8>) {
    for way in WAYS {
        live::spawn(way.to_owned(), pids.try_clone().unwrap(), never.try_clone().unwrap()).unwrap().detach();
    }
    // The children have all begun when they are heard of; the parent's order to end comes after
    // that.
    never.recv().unwrap();
    match how {
        0 => {}
        1 => std::process::exit(0),
        2 => panic!("the end"),
        _ => std::process::abort(),
    }
}

scenario!(children_die_with_a_parent_that_ends_in_any_other_way, {
    for how in 0..4 {
        let (pids, started) = pipe().unwrap();
        let (order, orders) = pipe().unwrap();
        let builder = Builder::new().stderr(mp_core::Stdio::null());
        let parent = builder.spawn(end::call(how, pids, orders.try_clone().unwrap())).unwrap();
        let watched: Vec<Watched> = WAYS
            .map(|_| Watched::new(started.recv_timeout(PATIENCE).unwrap().expect("all have started")))
            .into_iter()
            .collect();
        // One of the children reads too: whichever of them gets the first order, its parent gets
        // one.
        order.send(0).unwrap();
        order.send(0).unwrap();
        wait(&[&parent], Some(PATIENCE)).unwrap();
        assert_gone(&watched, Instant::now());
        let _ = parent.join();
    }
});

#[process_fn]
fn start_many(begun: Sender<()>) {
    begun.send(()).unwrap();
    loop {
        // Dropped at once: neither joined nor waited for.
        drop(run_for_ever::spawn());
    }
}

scenario!(children_that_had_hardly_begun_die_with_their_parent, {
    for round in 0..25 {
        let (begun, begins) = pipe().unwrap();
        let parent = Builder::new().stderr(mp_core::Stdio::null()).spawn(start_many::call(begun)).unwrap();
        begins.recv_timeout(PATIENCE).unwrap().unwrap();
        eventually("some have been started", || others().len() > 1 + round % 7);
        let killed = Instant::now();
        parent.kill().unwrap();
        parent.join().unwrap_err();
        // A grandchild is in the same session, whatever it had come to.
        let gone = mp_testing::holds_within(PROMPTLY.saturating_sub(killed.elapsed()), || others().is_empty());
        assert!(gone, "they live on:\n{}", procfs::describe(&others()));
    }
});

scenario!(children_do_not_die_with_the_thread_that_started_them, {
    let (sender, receiver) = pipe().unwrap();
    let process = std::thread::spawn(move || relay_one::spawn(receiver).unwrap()).join().unwrap();
    // A signal would have come with the end of the thread, so before this process was started and
    // ended.
    nothing::spawn().unwrap().join().unwrap();
    assert!(process.is_alive());
    sender.send(5).unwrap();
    assert_eq!(process.join().unwrap(), 5);
});

#[process_fn]
fn relay_one(numbers: Receiver<u8>) -> u8 {
    numbers.recv().unwrap()
}

scenario!(children_do_not_die_with_their_siblings_or_the_descriptors_of_their_parent, {
    let (sender, receiver) = pipe().unwrap();
    let process = relay_one::spawn(receiver).unwrap();
    for _ in 0..5 {
        let sibling = run_for_ever::spawn().unwrap();
        sibling.kill().unwrap();
        sibling.join().unwrap_err();
    }
    // A program of another kind that the parent starts, and its end, change nothing either.
    assert!(std::process::Command::new("true").status().unwrap().success());
    assert!(process.is_alive());
    sender.send(6).unwrap();
    assert_eq!(process.join().unwrap(), 6);
});

#[process_fn]
#[expect(clippy::zombie_processes, reason = "the program is to outlive this process")]
fn start_a_program(pids: Sender<u32>) {
    let program = std::process::Command::new("sleep").arg("600").spawn().unwrap();
    let child = live_with_pid::spawn(pids.try_clone().unwrap()).unwrap();
    pids.send(program.id()).unwrap();
    drop(child);
    loop {
        std::thread::park();
    }
}

#[process_fn]
fn live_with_pid(pids: Sender<u32>) {
    pids.send(std::process::id()).unwrap();
    loop {
        std::thread::park();
    }
}

// A program that outlives its parent must not keep the parent's children alive by what it
// inherited.
scenario!(a_program_that_outlives_the_parent_does_not_hold_its_lifeline, {
    let (pids, started) = pipe().unwrap();
    let parent = start_a_program::spawn(pids).unwrap();
    let pids: Vec<u32> = (0..2).map(|_| started.recv_timeout(PATIENCE).unwrap().unwrap()).collect();
    let (programs, children): (Vec<_>, Vec<_>) = pids
        .into_iter()
        .map(Watched::new)
        .partition(|process| procfs::Entry::read(process.pid).unwrap().comm == "sleep");
    assert_eq!((programs.len(), children.len()), (1, 1));
    let killed = Instant::now();
    parent.kill().unwrap();
    assert_gone(&children, killed);
    assert!(procfs::runs(programs[0].pid), "it was to outlive its parent");
    kill_process(number_of(programs[0].pid), Signal::KILL).unwrap();
    parent.join().unwrap_err();
});
