//! A child has the descriptors that are meant for it, and no other.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use mp_core::{Receiver, Sender, Stdio, pipe, process_fn};
use mp_testing::leaks::descriptors;
use mp_testing::start_method::is_fork_server;
use mp_testing::{is_run_again, run_again, scenario, this_executable};
use rustix::io::{FdFlags, dup, fcntl_getfd, fcntl_setfd};

#[process_fn]
fn own_descriptors() -> BTreeMap<i32, String> {
    descriptors()
}

#[process_fn]
fn own_descriptors_with(ends: (Sender<u8>, Vec<Receiver<u8>>)) -> BTreeMap<i32, String> {
    let descriptors = descriptors();
    drop(ends);
    descriptors
}

/// What a child has beside its standard streams, as far as it differs from process to process.
#[track_caller]
fn assert_bare(descriptors: &BTreeMap<i32, String>, more: usize) {
    let beside: Vec<_> = descriptors.iter().filter(|(number, _)| **number > 2).map(|(_, target)| target).collect();
    let sockets = beside.iter().filter(|target| target.starts_with("socket:")).count();
    let pipes = beside.iter().filter(|target| target.starts_with("pipe:")).count();
    // The control socket, and the lifeline.
    assert_eq!((sockets, pipes, beside.len()), (1 + more, 1, 2 + more), "{descriptors:?}");
    assert!((0..=2).all(|number| descriptors.contains_key(&number)), "{descriptors:?}");
    assert!(is_fork_server() || descriptors[&3].starts_with("socket:"), "{descriptors:?}");
}

/// Opens files that every program started by exec would inherit.
fn open_inheritable(count: usize) -> Vec<OwnedFd> {
    let file = File::open("/proc/self/status").unwrap();
    (0..count)
        .map(|_| {
            let copy = dup(&file).unwrap();
            assert!(!fcntl_getfd(&copy).unwrap().contains(FdFlags::CLOEXEC));
            copy
        })
        .collect()
}

scenario!(a_child_inherits_nothing_beside_its_streams, {
    let open = open_inheritable(200);
    let streams: Vec<_> = (0..3).map(|number| descriptors()[&number].clone()).collect();
    for _ in 0..3 {
        let found = own_descriptors::spawn().unwrap().join().unwrap();
        assert_bare(&found, 0);
        assert!(streams.iter().zip(found.values()).all(|(own, found)| own == found), "{found:?}");
    }
    // The program of another library would have inherited them, so there was something to keep
    // away.
    let listing = std::process::Command::new("ls").arg("/proc/self/fd").output().unwrap();
    assert!(String::from_utf8(listing.stdout).unwrap().lines().count() > 200);
    drop(open);
});

scenario!(a_child_has_what_its_arguments_hold, {
    let open = open_inheritable(20);
    let (sender, receivers) = (pipe().unwrap().0, (0..4).map(|_| pipe().unwrap().1).collect());
    assert_bare(&own_descriptors_with::spawn((sender, receivers)).unwrap().join().unwrap(), 5);
    drop(open);
});

scenario!(the_pipes_to_a_child_are_closed_in_its_siblings, {
    let builder = || mp_core::Builder::new().stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let elder = builder().spawn(mp_testing::run_for_ever::call()).unwrap();
    let found = builder().spawn(own_descriptors::call()).unwrap().join().unwrap();
    assert_bare(&found, 0);
    elder.kill().unwrap();
    elder.join().unwrap_err();
});

/// Opens, duplicates and closes descriptors of several kinds, close-on-exec or not, as fast as it
/// can.
fn open_and_close(stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        let inheritable = open_inheritable(50);
        let (sender, receiver) = pipe::<u8>().unwrap();
        fcntl_setfd(&sender, FdFlags::empty()).unwrap();
        // Neither is close-on-exec.
        let ends = rustix::pipe::pipe().unwrap();
        let copies = (dup(&receiver).unwrap(), sender.try_clone().unwrap(), ends.0.try_clone().unwrap());
        let (near, far) = std::os::unix::net::UnixStream::pair().unwrap();
        drop((inheritable, near, sender, copies, far, receiver, ends));
        std::thread::yield_now();
    }
}

scenario!(no_descriptor_slips_into_a_child_while_sixteen_threads_start_and_four_open, {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| open_and_close(&stop));
        }
        let spawning: Vec<_> = (0..16)
            .map(|thread| {
                scope.spawn(move || {
                    let mut lifelines = Vec::new();
                    for round in 0..10 {
                        let more = (thread + round) % 3;
                        let found = if more == 0 {
                            own_descriptors::spawn().unwrap().join().unwrap()
                        } else {
                            let (sender, receivers) = (pipe().unwrap().0, (1..more).map(|_| pipe().unwrap().1));
                            own_descriptors_with::spawn((sender, receivers.collect())).unwrap().join().unwrap()
                        };
                        assert_bare(&found, more);
                        let beside = found.range(3..).map(|(_, target)| target);
                        lifelines.extend(beside.filter(|target| target.starts_with("pipe:")).cloned());
                    }
                    lifelines
                })
            })
            .collect();
        let results: Vec<_> = spawning.into_iter().map(std::thread::ScopedJoinHandle::join).collect();
        stop.store(true, Ordering::Relaxed);
        let lifelines: Vec<_> = results.into_iter().flat_map(|result| result.unwrap()).collect();
        // Each has one of its own, and none is a pipe that happened to be open.
        let distinct: std::collections::BTreeSet<_> = lifelines.iter().collect();
        assert!(lifelines.len() == 160 && distinct.len() == 160, "{lifelines:?}");
        assert!(descriptors().values().all(|own| !distinct.contains(own)));
    });
});

scenario!(a_process_costs_its_parent_a_bounded_number_of_descriptors, {
    let before = descriptors().len();
    let processes: Vec<_> = (0..20).map(|_| mp_testing::run_for_ever::spawn().unwrap()).collect();
    // The pidfd, the control socket and the lifeline, and the socket for the status from a server
    // where the kernel does not tell it.
    let each = (descriptors().len() - before) as f64 / 20.0;
    assert!(each == 4.0 || each == 5.0 && is_fork_server(), "{each}");
    for process in &processes {
        process.kill().unwrap();
    }
    processes.into_iter().for_each(|process| _ = process.join().unwrap_err());
    assert_eq!(descriptors().len(), before);
});

scenario!(every_descriptor_of_this_library_is_closed_on_exec, {
    let (sender, receiver) = pipe::<Vec<u8>>().unwrap();
    let (left, right) = mp_core::duplex::<u8, u8>().unwrap();
    sender.send(vec![0; 100_000]).unwrap();
    let process = mp_testing::run_for_ever::spawn().unwrap();
    let mut builder =
        mp_core::Builder::new().stdin(Stdio::piped()).stdout(Stdio::piped()).spawn(own_descriptors::call()).unwrap();
    let output = builder.take_stdout();
    for (number, target) in descriptors().range(3..) {
        let flags = std::fs::read_to_string(format!("/proc/self/fdinfo/{number}")).unwrap();
        let flags = flags.lines().find_map(|line| line.strip_prefix("flags:")).unwrap();
        let flags = u32::from_str_radix(flags.trim(), 8).unwrap();
        assert!(flags & libc::O_CLOEXEC as u32 != 0, "{number}: {target}");
    }
    drop((output, sender, receiver, left, right));
    builder.join().unwrap();
    process.kill().unwrap();
    process.join().unwrap_err();
});

#[process_fn]
fn echo_stream() -> String {
    let text = std::io::read_to_string(std::io::stdin()).unwrap();
    println!("{text}");
    eprintln!("{text}");
    text
}

/// Takes every number from 3 to 30 but `hole`.
fn fill_all_but(hole: i32) -> Vec<OwnedFd> {
    let null = File::open("/dev/null").unwrap();
    let mut fill = Vec::new();
    while fill.last().is_none_or(|last: &OwnedFd| last.as_raw_fd() < 30) {
        fill.push(rustix::io::fcntl_dupfd_cloexec(&null, 3).unwrap());
    }
    drop(null);
    fill.retain(|fd| fd.as_raw_fd() != hole);
    fill
}

/// A descriptor of the parent may already have the number that it, or another one, gets in the
/// child. In a program of its own, because in a child number 3 is always taken.
#[test]
fn whatever_numbers_the_parent_uses_the_child_has_its_own() {
    if !is_run_again() {
        return run_again(&this_executable(), "descriptors::whatever_numbers_the_parent_uses_the_child_has_its_own");
    }
    for hole in 3..12 {
        let fill = fill_all_but(hole);
        assert_bare(&own_descriptors::spawn().unwrap().join().unwrap(), 0);
        let streams = || (Stdio::piped(), Stdio::piped(), Stdio::piped());
        let (stdin, stdout, stderr) = streams();
        let builder = mp_core::Builder::new().stdin(stdin).stdout(stdout).stderr(stderr);
        let mut process = builder.spawn(echo_stream::call()).unwrap();
        process.take_stdin().unwrap().write_all(b"hello").unwrap();
        assert_eq!(std::io::read_to_string(process.take_stdout().unwrap()).unwrap(), "hello\n");
        assert_eq!(std::io::read_to_string(process.take_stderr().unwrap()).unwrap(), "hello\n");
        assert_eq!(process.join().unwrap(), "hello");
        drop(fill);
    }
    // With stdin closed and number 3 free the child's end of the control socket is made with the
    // number that it gets. SAFETY: nothing in this process reads its standard input.
    drop(unsafe { OwnedFd::from_raw_fd(0) });
    let fill = fill_all_but(3);
    assert_bare(&own_descriptors::spawn().unwrap().join().unwrap(), 0);
    drop(fill);
}
