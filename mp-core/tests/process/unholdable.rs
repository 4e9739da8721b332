//! Children that make it hard to kill them with their parent.

use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Instant;

use mp_core::{Sender, parent, pipe, process_fn, wait};
use mp_testing::procfs::number_of;
use mp_testing::{PATIENCE, PROMPTLY, holds_within, run_for_ever, scenario};
use rustix::process::{PidfdFlags, Signal, kill_process, pidfd_open};

fn close_all() {
    // SAFETY: nothing in these tests uses a descriptor afterwards.
    assert_eq!(unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, 0) }, 0);
}

#[process_fn]
fn live(way: String, ready: Sender<()>) {
    ready.send(()).unwrap();
    match way.as_str() {
        "closes its descriptors" => close_all(),
        "closes its descriptors and stops" => {
            close_all();
            kill_process(number_of(std::process::id()), Signal::STOP).unwrap();
        }
        "calls exec" => panic!("{}", Command::new("sleep").arg("1000").exec()),
        "spins" => loop {
            std::hint::spin_loop();
        },
        _ => {}
    }
    loop {
        std::thread::park();
    }
}

/// Starts a child that lives in a way, in a PID namespace of its own or not.
#[process_fn]
fn start(way: String, namespace: bool, started: Sender<u32>) {
    if namespace {
        // SAFETY: it concerns the children that are started from now on.
        assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWPID) }, 0);
    }
    let (ready, is_ready) = pipe().unwrap();
    let child = live::spawn(way, ready).unwrap();
    is_ready.recv().unwrap();
    started.send(child.pid()).unwrap();
    run_for_ever();
}

/// Fails if the child outlives its parent, which is killed.
fn check(way: &str, namespace: bool) {
    let (started, child) = pipe().unwrap();
    let parent = start::spawn(way.to_owned(), namespace, started).unwrap();
    let child = child.recv_timeout(PATIENCE).unwrap().unwrap();
    let pidfd = pidfd_open(number_of(child), PidfdFlags::empty()).unwrap();
    // It does what it does after it has said that it is ready. A parent that dies meanwhile may not
    // be noticed: see `lifeline`.
    let has_begun = || match way {
        "calls exec" => std::fs::read_to_string(format!("/proc/{child}/comm")).unwrap() == "sleep\n",
        _ => !way.contains("desc") || std::fs::read_dir(format!("/proc/{child}/fd")).unwrap().count() == 3,
    };
    assert!(holds_within(PATIENCE, has_begun));
    let killed = Instant::now();
    parent.kill().unwrap();
    let left = PROMPTLY.saturating_sub(killed.elapsed());
    let ended = !wait(&[&pidfd], Some(left)).unwrap().is_empty();
    if !ended {
        kill_process(number_of(child), Signal::KILL).unwrap();
    }
    assert!(ended, "it lives on: {way}, {namespace}");
    parent.join().unwrap_err();
}

scenario!(children_that_closed_their_descriptors_die_with_their_parent, {
    check("closes its descriptors", false);
    check("closes its descriptors and stops", false);
});

scenario!(children_that_called_exec_die_with_their_parent, {
    check("calls exec", false);
});

scenario!(the_first_process_of_a_pid_namespace_dies_with_its_parent, {
    if !rustix::process::geteuid().is_root() {
        println!("only root makes a PID namespace; not tested");
        return;
    }
    check("parked", true);
    check("spins", true);
    check("closes its descriptors", true);
});

#[process_fn]
fn arm_again() {
    let parent = parent().unwrap();
    parent.rearm().unwrap();
    mp_testing::copies::in_copy(|| assert!(parent.rearm().is_err()));
    close_all();
    assert!(parent.rearm().is_err());
    std::process::exit(0);
}

scenario!(a_process_can_be_tied_again, {
    arm_again::spawn().unwrap().join().unwrap();
});
