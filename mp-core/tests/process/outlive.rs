//! Parents and children, as they see each other; and processes that outlive their parent.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

use mp_core::{
    Builder, ExitStatus, Parent, Receiver, RecvError, Sender, Stdio, active_children, current, parent, pipe,
    process_fn, wait,
};
use mp_testing::leaks::descriptors;
use mp_testing::start_method::is_fork_server;
use mp_testing::{PATIENCE, eventually, procfs, run_for_ever, scenario};
use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat, open};
use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

#[process_fn]
fn describe_parent() -> (String, u32, bool, bool) {
    let parent = parent().unwrap();
    assert!(is_fork_server() || parent.pid() == std::os::unix::process::parent_id());
    let ended = parent.wait_timeout(Duration::from_millis(5)).unwrap();
    assert!(wait(&[&parent], Some(Duration::ZERO)).unwrap().is_empty());
    (parent.name().to_owned(), parent.pid(), parent.is_alive(), ended)
}

#[process_fn]
fn describe_parent_from_below() -> (String, u32, bool, bool) {
    describe_parent::spawn().unwrap().join().unwrap()
}

scenario!(a_child_knows_its_parent, {
    let (name, pid, alive, ended) = describe_parent::spawn().unwrap().join().unwrap();
    assert_eq!((name.as_str(), pid, alive, ended), ("scenario", std::process::id(), true, false));
    let middle = Builder::new().name("middle").spawn(describe_parent_from_below::call()).unwrap();
    let middle_pid = middle.pid();
    let (name, pid, alive, ended) = middle.join().unwrap();
    assert_eq!((name.as_str(), pid, alive, ended), ("middle", middle_pid, true, false));
});

#[test]
fn a_program_of_its_own_has_no_parent() {
    assert!(parent().is_none());
}

/// Says when its parent has ended, and what else it sees, as long as somebody listens.
#[process_fn]
fn survive(ready: Sender<u32>, seen: Sender<(bool, bool, String)>, orders: Receiver<()>) -> u32 {
    ready.send(std::process::id()).unwrap();
    let parent: Parent = parent().unwrap();
    parent.wait().unwrap();
    assert!(parent.wait_timeout(Duration::ZERO).unwrap());
    let ready = wait(&[&parent], Some(Duration::ZERO)).unwrap() == [0];
    seen.send((parent.is_alive(), ready, current().name().to_owned())).unwrap();
    // It goes on for as long as it likes, and can start others.
    assert!(matches!(orders.recv(), Ok(()) | Err(RecvError::Disconnected)));
    mp_testing::nothing::spawn().unwrap().join().unwrap();
    seen.send((true, true, "done".to_owned())).unwrap();
    7
}

/// Leaves a survivor behind, and ends as it is told to.
#[process_fn]
fn leave_behind(how: u8, ready: Sender<u32>, seen: Sender<(bool, bool, String)>, orders: Receiver<()>) {
    let call = survive::call(ready, seen, orders);
    let builder = Builder::new().name("survivor").outlive_parent(true).stdin(Stdio::null());
    let process = builder.spawn(call).unwrap();
    match how {
        // Before the survivor has begun.
        0 => std::process::exit(0),
        1 => std::process::abort(),
        2 => process.detach(),
        _ => {
            // Its handle is alive, and this waits to be killed.
            let _ = process.join();
        }
    }
}

scenario!(a_process_outlives_its_parent_however_that_one_ends, {
    for how in 0..4 {
        let (ready, readiness) = pipe().unwrap();
        let (seen, sights) = pipe().unwrap();
        let (order, orders) = pipe::<()>().unwrap();
        let builder = Builder::new().rlimit(mp_core::Resource::CoreSize, 0, 0);
        let middle = builder.spawn(leave_behind::call(how, ready, seen, orders)).unwrap();
        let survivor = readiness.recv_timeout(PATIENCE).unwrap().expect("the survivor begins");
        if how == 3 {
            middle.kill().unwrap();
        }
        let pidfd = pidfd_open(procfs::number_of(survivor), PidfdFlags::empty()).unwrap();
        let status = middle.join();
        assert_eq!(status.is_ok(), how == 0 || how == 2, "{status:?}");
        let sight = sights.recv_timeout(PATIENCE).unwrap().expect("it sees the end of its parent");
        assert_eq!(sight, (false, true, "survivor".to_owned()));
        let entry = procfs::Entry::read(survivor).unwrap();
        assert_eq!(entry.session, survivor, "it leads a session of its own");
        order.send(()).unwrap();
        let sight = sights.recv_timeout(PATIENCE).unwrap().expect("it comes to its end");
        assert_eq!(sight.2, "done");
        drop((order, sights));
        assert!(!wait(&[&pidfd], Some(PATIENCE)).unwrap().is_empty());
    }
});

#[derive(Serialize, Deserialize)]
struct Handle(#[serde(with = "mp_core::fd")] OwnedFd);

#[process_fn]
fn tell_of_parent(alive: Sender<bool>) {
    alive.send(parent().unwrap().is_alive()).unwrap();
}

/// The names of a gate in a directory, and of a file for what is said there.
const GATE: &str = "gate";
const SAID: &str = "said";

/// Starts a survivor that cannot begin yet, gives away copies of the sockets over which it is told
/// what to do, and waits to be killed.
#[process_fn]
fn start_at_a_gate(directory: PathBuf, alive: Sender<bool>, started: Sender<(u32, Vec<Handle>)>) {
    let before = descriptors();
    // The dynamic linker, which wants to read it as a library, waits for somebody to write into it,
    // and does without it then.
    let builder = Builder::new().outlive_parent(true).env("LD_PRELOAD", directory.join(GATE)).stdin(Stdio::null());
    let said = File::create(directory.join(SAID)).unwrap();
    let survivor = builder.stderr(said).spawn(tell_of_parent::call(alive)).unwrap();
    let here = pidfd_open(getpid(), PidfdFlags::empty()).unwrap();
    let new = descriptors().into_iter().filter(|(fd, to)| to.starts_with("socket:") && before.get(fd) != Some(to));
    let copies = new.map(|(fd, _)| Handle(pidfd_getfd(&here, fd, PidfdGetfdFlags::empty()).unwrap()));
    started.send((survivor.pid(), copies.collect())).unwrap();
    let _ = survivor.join();
}

/// A survivor that begins when its parent is dead, and whose parent's descriptors are open
/// elsewhere, with what it says of its parent if it gets that far, and the directory of its last
/// words.
struct Orphan {
    pid: u32,
    pidfd: OwnedFd,
    copies: Vec<Handle>,
    tells: Receiver<bool>,
    directory: TempDir,
}

impl Orphan {
    fn begin() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let gate = directory.path().join(GATE);
        mknodat(CWD, &gate, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        let (alive, tells) = pipe().unwrap();
        let (started, starts) = pipe().unwrap();
        let middle = start_at_a_gate::spawn(directory.path().to_owned(), alive, started).unwrap();
        let (pid, copies) = starts.recv_timeout(PATIENCE).unwrap().expect("the survivor was started");
        assert_eq!(copies.len(), 1);
        let pidfd = pidfd_open(procfs::number_of(pid), PidfdFlags::empty()).unwrap();
        let mut opened = None;
        eventually("the survivor is at the gate", || {
            opened = open(&gate, OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty()).ok();
            opened.is_some()
        });
        middle.kill().unwrap();
        middle.join().unwrap_err();
        drop(opened);
        Self { pid, pidfd, copies, tells, directory }
    }

    /// Waits for its end, and returns what it said of its parent.
    fn ends(&self) -> Option<bool> {
        assert!(!wait(&[&self.pidfd], Some(PATIENCE)).unwrap().is_empty(), "it never ends");
        match self.tells.try_recv() {
            Ok(told) => told,
            Err(RecvError::Disconnected) => None,
            Err(error) => panic!("{error:?}"),
        }
    }
}

scenario!(an_orphan_waits_for_its_parents_descriptors_to_be_closed, {
    // It waits for a second, for some of which this process may not have been running.
    let found = (0..10).find_map(|_| {
        let mut orphan = Orphan::begin();
        let mut asleep = 0;
        eventually("it waits", || {
            // Not just for a moment, as in reading a page.
            match procfs::Entry::read(orphan.pid) {
                Some(entry) if entry.state == 'S' => asleep += 1,
                Some(entry) if !entry.has_ended() => asleep = 0,
                _ => return true,
            }
            asleep == 20
        });
        orphan.copies.clear();
        orphan.ends()
    });
    assert_eq!(found, Some(false));
});

scenario!(an_orphan_whose_parents_descriptors_stay_open_runs_nothing, {
    let orphan = Orphan::begin();
    assert_eq!(orphan.ends(), None);
    let said = std::fs::read_to_string(orphan.directory.path().join(SAID)).unwrap();
    assert!(said.contains("does not belong to the parent process"), "{said}");
});

#[process_fn]
fn start_below(pids: Sender<u32>) {
    let child = run_for_ever::spawn().unwrap();
    pids.send(child.pid()).unwrap();
    let _ = child.join();
}

scenario!(what_a_survivor_starts_dies_with_it, {
    let (pids, started) = pipe().unwrap();
    let survivor = Builder::new().outlive_parent(true).spawn(start_below::call(pids)).unwrap();
    let below: u32 = started.recv_timeout(PATIENCE).unwrap().expect("it has started one");
    let pidfd: OwnedFd = pidfd_open(procfs::number_of(below), PidfdFlags::empty()).unwrap();
    survivor.kill().unwrap();
    assert!(!wait(&[&pidfd], Some(PATIENCE)).unwrap().is_empty());
    survivor.join().unwrap_err();
});

scenario!(the_value_of_one_that_could_outlive_is_joined_as_any_other, {
    let process = Builder::new().outlive_parent(true).spawn(describe_parent::call()).unwrap();
    assert!(process.join().unwrap().2);
});

scenario!(active_children_are_those_that_run, {
    assert!(active_children().is_empty());
    let first = Builder::new().name("first").spawn(run_for_ever::call()).unwrap();
    Builder::new().name("second").spawn(run_for_ever::call()).unwrap().detach();
    let third = Builder::new().name("third").spawn(run_for_ever::call()).unwrap();
    let names = || active_children().iter().map(|child| child.name().to_owned()).collect::<Vec<_>>();
    assert_eq!(names(), ["first", "second", "third"]);

    let children = active_children();
    assert_eq!(children[0].pid(), first.pid());
    assert!(children.iter().all(|child| child.is_alive() && child.exit_status().is_none()));
    assert!(wait(&[&children[0], &children[1]], Some(Duration::ZERO)).unwrap().is_empty());

    // The second is nobody's any more but can be ended, waited for, and asked after.
    children[1].kill().unwrap();
    assert_eq!(wait(&[&children[0], &children[1]], Some(PATIENCE)).unwrap(), [1]);
    assert_eq!(names(), ["first", "third"]);
    assert_eq!(children[1].exit_status(), Some(ExitStatus::Signal { signal: 9, core_dumped: false }));
    children[1].kill().unwrap();

    // One that is listed has not lost its value.
    children[2].terminate().unwrap();
    eventually("the third has ended", || names() == ["first"]);
    assert_eq!(third.exit_status(), Some(ExitStatus::Signal { signal: 15, core_dumped: false }));
    third.join().unwrap_err();
    drop(first);
    assert_eq!(names(), ["first"]);
    children[0].interrupt().unwrap();
    eventually("the first has ended", || names().is_empty());
    assert!(format!("{:?}", children[0]).contains("first"));
});

scenario!(children_are_listed_while_others_come_and_go, {
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for round in 0..10 {
                    let process = mp_testing::nothing::spawn().unwrap();
                    let pid = process.pid();
                    assert!(active_children().iter().filter(|child| child.pid() == pid).count() <= 1);
                    if round % 2 == 0 { process.join().unwrap() } else { process.detach() }
                }
            });
        }
    });
    eventually("all have ended", || active_children().is_empty());
});
