//! The owner is killed at exact instants, and a debugger holds a process.

use std::fs;
use std::thread;
use std::time::Duration;

use mp_core::{Builder, ExitStatus, ForkServer, JoinError, Process, Receiver, Sender, pipe, process_fn, wait};
use mp_testing::start_method::others;
use mp_testing::{PATIENCE, eventually, nothing, run_for_ever, scenario};
use rustix::process::Signal;

use super::deaths::signal;
use super::steps::Traced;

/// Starts one process from a server, when it is told to.
#[process_fn]
fn own_a_server(pid: Sender<u32>, go: Receiver<()>) {
    let server = ForkServer::builder().build().unwrap();
    pid.send(server.pid()).unwrap();
    go.recv().unwrap();
    let thread = thread::Builder::new().name("asks".to_owned());
    let thread = thread.spawn(move || server.spawn(nothing::call()).unwrap().join().unwrap());
    thread.unwrap().join().unwrap();
}

struct Owner {
    process: Process<()>,
    server: u32,
    go: Sender<()>,
}

impl Owner {
    fn start() -> Self {
        let ((sender, pid), (go, told)) = (pipe().unwrap(), pipe().unwrap());
        let process = Builder::new().spawn(own_a_server::call(sender, told)).unwrap();
        Self { process, server: pid.recv().unwrap(), go }
    }

    fn kill(self) {
        self.process.kill().unwrap();
        // Or it has ended already: after its server has forked, nothing holds the copy.
        let ended = self.process.join();
        assert!(matches!(ended, Ok(()) | Err(JoinError::Exited(ExitStatus::Signal { signal: 9, .. }))), "{ended:?}");
    }

    /// Whether the thread that asks the server waits for the answer: it polls nothing before.
    fn waits_for_the_server(&self) -> bool {
        fs::read_dir(format!("/proc/{}/task", self.process.pid())).unwrap().any(|task| {
            let read = |what| fs::read_to_string(task.as_ref().unwrap().path().join(what)).unwrap_or_default();
            let polls = [libc::SYS_poll, libc::SYS_ppoll].map(|number| number.to_string());
            read("comm").trim() == "asks"
                && read("syscall").split(' ').next().is_some_and(|it| polls.iter().any(|number| number == it))
        })
    }
}

/// Kills an owner when it, its server or the copy, which `begin` stops and returns, has made so
/// many system calls, for each number there is.
fn kill_the_owner_at_each_system_call(begin: impl Fn(&Owner) -> Option<Traced>) {
    for steps in 0.. {
        let owner = Owner::start();
        let Some(traced) = begin(&owner) else { return owner.kill() };
        if !(0..steps).all(|_| traced.step()) {
            let _ = owner.process.kill();
            let _ = owner.process.join();
            println!("{steps} instants");
            // At least it waits, reads a request and forks, if it is the server.
            assert!(steps > 4, "{steps}");
            break;
        }
        owner.kill();
        traced.let_go();
        eventually("nothing is left", || others().is_empty());
    }
}

/// How long it may take on a busy machine: some hundred processes are started.
const LIMIT: Duration = Duration::from_secs(180);

scenario!(an_owner_that_is_killed_while_its_copy_begins_leaves_nothing, LIMIT, {
    kill_the_owner_at_each_system_call(|owner| {
        let server = Traced::stop(owner.server)?;
        owner.go.send(()).unwrap();
        Some(server.fork())
    });
});

scenario!(an_owner_that_is_killed_while_its_server_forks_leaves_nothing, LIMIT, {
    kill_the_owner_at_each_system_call(|owner| {
        let server = Traced::stop(owner.server)?;
        owner.go.send(()).unwrap();
        Some(server)
    });
});

scenario!(an_owner_that_is_killed_while_its_server_is_stopped_leaves_nothing, {
    let owner = Owner::start();
    let server = owner.server;
    signal(server, Signal::STOP);
    owner.go.send(()).unwrap();
    eventually("the owner has sent its request", || owner.waits_for_the_server());
    owner.kill();
    // It may have been killed already.
    let _ = rustix::process::kill_process(mp_testing::procfs::number_of(server), Signal::CONT);
    eventually("nothing is left", || others().is_empty());
});

/// Traces a process until it is told to end.
#[process_fn]
fn debug(pid: u32, ready: Sender<bool>, end: Receiver<()>) {
    let traced = Traced::stop(pid);
    ready.send(traced.is_some()).unwrap();
    let _ = end.recv();
    if let Some(traced) = traced {
        traced.let_go();
    }
}

scenario!(a_process_that_a_debugger_holds_after_its_end_has_a_status_later, {
    let server = ForkServer::builder().build().unwrap();
    let mut process = server.spawn(run_for_ever::call()).unwrap();
    let ((sender, ready), (end, told)) = (pipe().unwrap(), pipe().unwrap());
    let debugger = debug::spawn(process.pid(), sender, told).unwrap();
    if ready.recv().unwrap() {
        process.kill().unwrap();
        wait(&[&process], Some(PATIENCE)).unwrap();
        // Twice as long as the kernel may take to reap a process whose server has ended.
        assert!(process.join_timeout(Duration::from_secs(2)).unwrap().is_none());
        assert!(process.is_finished() && process.exit_status().is_none());
    } else {
        process.kill().unwrap();
    }
    end.send(()).unwrap();
    let error = process.join().unwrap_err();
    assert!(matches!(error, JoinError::Exited(ExitStatus::Signal { signal: 9, .. })), "{error}");
    debugger.join().unwrap();
});
