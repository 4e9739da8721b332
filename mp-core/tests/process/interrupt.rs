//! Ctrl-C at a terminal: it reaches every process of the group once, all of them end, and nobody
//! tells a long story.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};

use mp_core::{Builder, ExitStatus, JoinError, Receiver, Sender, Stdio, pipe, process_fn, wait};
use mp_testing::{PATIENCE, PROMPTLY, procfs, scenario};
use rustix::fs::{Mode, OFlags};
use rustix::process::{PidfdFlags, pidfd_open};
use serde::{Deserialize, Serialize};

/// A terminal: what the person holds, and what the programs are given.
struct Terminal {
    person: File,
    programs: File,
}

impl Terminal {
    fn open() -> Self {
        use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let person = openpt(flags).unwrap();
        grantpt(&person).unwrap();
        unlockpt(&person).unwrap();
        let name = ptsname(&person, Vec::new()).unwrap();
        let programs = rustix::fs::open(name, OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty()).unwrap();
        Self { person: person.into(), programs: programs.into() }
    }

    fn stdio(&self) -> Stdio {
        self.programs.try_clone().unwrap().into()
    }

    fn press_ctrl_c(&mut self) {
        self.person.write_all(b"\x03").unwrap();
    }

    /// Everything that was printed, once no program has the terminal any more.
    fn printed(self) -> String {
        let Self { mut person, programs } = self;
        drop(programs);
        let mut text = Vec::new();
        // The end of a terminal is EIO; what came before it is kept.
        let _ = person.read_to_end(&mut text);
        String::from_utf8(text).unwrap()
    }
}

/// Makes this process the leader of a session whose terminal is its standard input.
fn take_the_terminal() {
    rustix::process::setsid().unwrap();
    rustix::process::ioctl_tiocsctty(std::io::stdin()).unwrap();
}

#[process_fn]
fn work(levels: u32, pids: Sender<u32>) {
    let below = (levels > 0).then(|| work::spawn(levels - 1, pids.try_clone().unwrap()).unwrap());
    pids.send(std::process::id()).unwrap();
    if let Some(below) = below {
        below.join().unwrap();
    }
    loop {
        std::thread::park();
    }
}

/// A program that does not know of signals.
#[process_fn]
fn innocent(pids: Sender<u32>) {
    take_the_terminal();
    let children: Vec<_> = (0..3).map(|_| work::spawn(2, pids.try_clone().unwrap()).unwrap()).collect();
    for child in children {
        child.join().unwrap();
    }
}

const WORKERS: usize = 9;

fn watch(pids: &Receiver<u32>, count: usize) -> Vec<OwnedFd> {
    let next = |_| pids.recv_timeout(PATIENCE).unwrap().expect("all have started");
    (0..count).map(next).map(|pid| pidfd_open(procfs::number_of(pid), PidfdFlags::empty()).unwrap()).collect()
}

#[track_caller]
fn assert_gone(watched: &[OwnedFd]) {
    for process in watched {
        assert!(!wait(&[process], Some(PROMPTLY)).unwrap().is_empty(), "one lives on");
    }
}

scenario!(ctrl_c_at_a_terminal_ends_every_process, {
    let mut terminal = Terminal::open();
    let (pids, started) = pipe().unwrap();
    let builder = Builder::new().stdin(terminal.stdio()).stdout(terminal.stdio()).stderr(terminal.stdio());
    let program = builder.spawn(innocent::call(pids)).unwrap();
    let watched = watch(&started, WORKERS);
    terminal.press_ctrl_c();
    let Err(JoinError::Exited(status)) = program.join() else { panic!("it was not interrupted") };
    assert_eq!(status, ExitStatus::Signal { signal: libc::SIGINT, core_dumped: false });
    assert_gone(&watched);
    // Nothing but the echo of the key.
    assert_eq!(terminal.printed().trim(), "^C");
});

static INTERRUPTS: AtomicU32 = AtomicU32::new(0);

extern "C" fn count(_signal: libc::c_int) {
    INTERRUPTS.fetch_add(1, Ordering::Relaxed);
}

fn count_interrupts() {
    // SAFETY: the handler does nothing but add to an atomic number.
    unsafe { libc::signal(libc::SIGINT, count as *const () as usize) };
}

/// Survives the interrupt, and says how many there were.
#[process_fn]
fn count_until(ready: Sender<u32>, orders: Receiver<()>) -> u32 {
    count_interrupts();
    ready.send(std::process::id()).unwrap();
    orders.recv().unwrap();
    INTERRUPTS.load(Ordering::Relaxed)
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Story {
    worker: String,
    interrupts_here: u32,
    interrupts_there: u32,
}

/// A program that handles the interrupt and ends in its own way, with one message.
#[process_fn]
fn prudent(pids: Sender<u32>) -> Story {
    take_the_terminal();
    count_interrupts();
    let (order, orders) = pipe().unwrap();
    let counter = count_until::spawn(pids.try_clone().unwrap(), orders).unwrap();
    let worker = work::spawn(2, pids).unwrap();
    let error = worker.join().unwrap_err();
    println!("interrupted: {error}");
    order.send(()).unwrap();
    let interrupts_there = counter.join().unwrap();
    Story { worker: error.to_string(), interrupts_here: INTERRUPTS.load(Ordering::Relaxed), interrupts_there }
}

scenario!(ctrl_c_at_a_terminal_ends_everything_with_one_message, {
    let mut terminal = Terminal::open();
    let (pids, started) = pipe().unwrap();
    let builder = Builder::new().stdin(terminal.stdio()).stdout(terminal.stdio()).stderr(terminal.stdio());
    let program = builder.spawn(prudent::call(pids)).unwrap();
    let watched = watch(&started, 4);
    terminal.press_ctrl_c();
    let story = program.join().unwrap();
    assert_gone(&watched);
    // Once each: nobody passes it on to those who have it already.
    assert_eq!((story.interrupts_here, story.interrupts_there), (1, 1));
    assert!(story.worker.contains("SIGINT"), "{story:?}");
    let printed = terminal.printed();
    let lines: Vec<_> = printed.trim().lines().map(|line| line.trim().trim_start_matches("^C")).collect();
    assert_eq!(lines.iter().filter(|line| !line.is_empty()).count(), 1, "{printed}");
    assert!(printed.contains("interrupted: the process ended with signal 2 (SIGINT)"), "{printed}");
});

/// The end of the terminal, which is what closing its window is.
#[process_fn]
fn leave_at_a_terminal(pids: Sender<u32>) {
    take_the_terminal();
    let outliving =
        Builder::new().outlive_parent(true).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    outliving.spawn(work::call(0, pids.try_clone().unwrap())).unwrap().detach();
    let child = work::spawn(0, pids).unwrap();
    child.join().unwrap();
}

scenario!(a_process_that_outlives_its_parent_survives_ctrl_c_and_the_end_of_the_terminal, {
    for hang_up in [false, true] {
        let mut terminal = Terminal::open();
        let (pids, started) = pipe().unwrap();
        let builder = Builder::new().stdin(terminal.stdio()).stdout(terminal.stdio()).stderr(terminal.stdio());
        let program = builder.spawn(leave_at_a_terminal::call(pids)).unwrap();
        let pids: Vec<u32> = (0..2).map(|_| started.recv_timeout(PATIENCE).unwrap().unwrap()).collect();
        let (survivors, others): (Vec<u32>, Vec<u32>) =
            pids.into_iter().partition(|&pid| procfs::Entry::read(pid).unwrap().session == pid);
        let [survivor] = survivors[..] else { panic!("who leads a session: {survivors:?}, who does not: {others:?}") };
        let watched = [pidfd_open(procfs::number_of(others[0]), PidfdFlags::empty()).unwrap()];
        let kept = pidfd_open(procfs::number_of(survivor), PidfdFlags::empty()).unwrap();
        if hang_up {
            drop(terminal);
        } else {
            terminal.press_ctrl_c();
        }
        program.join().unwrap_err();
        assert_gone(&watched);
        assert!(procfs::runs(survivor));
        rustix::process::pidfd_send_signal(&kept, rustix::process::Signal::KILL).unwrap();
        assert!(!wait(&[&kept.as_fd()], Some(PATIENCE)).unwrap().is_empty());
    }
});
