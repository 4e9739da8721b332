//! Processes that nobody waits for, that are started by many at once, or by each other.

use std::collections::HashSet;
use std::time::Duration;

use mp_core::{Receiver, Sender, duplex, pipe, process_fn, wait};
use mp_testing::procfs::{self, runs};
use mp_testing::start_method::is_not_for_fork_server;
use mp_testing::{PATIENCE, eventually, nothing, scenario};

#[process_fn]
fn report_when_told(orders: Receiver<()>, reports: Sender<u32>) {
    orders.recv().unwrap();
    reports.send(std::process::id()).unwrap();
}

fn zombies() -> usize {
    procfs::children(std::process::id()).iter().filter(|child| child.has_ended()).count()
}

scenario!(a_process_whose_handle_is_dropped_runs_on, {
    for detach in [false, true] {
        let (order, orders) = pipe().unwrap();
        let (reports, report) = pipe().unwrap();
        let process = report_when_told::spawn(orders, reports).unwrap();
        let pid = process.pid();
        if detach {
            process.detach();
        } else {
            drop(process);
        }
        assert_eq!(report.recv_timeout(Duration::from_millis(20)).unwrap(), None);
        order.send(()).unwrap();
        assert_eq!(report.recv_timeout(PATIENCE).unwrap(), Some(pid));
    }
});

scenario!(the_next_spawn_reaps_what_was_dropped, {
    if is_not_for_fork_server("the server reaps its processes") {
        return;
    }
    let pids: Vec<u32> = (0..5)
        .map(|_| {
            let process = nothing::spawn().unwrap();
            process.pid()
        })
        .collect();
    eventually("they have ended", || !pids.iter().copied().any(runs));
    // Some were reaped by the spawns after them.
    assert!(zombies() >= 1);
    let next = nothing::spawn().unwrap();
    assert!(pids.iter().all(|&pid| procfs::Entry::read(pid).is_none()), "a zombie outlived the next spawn");
    next.join().unwrap();
});

scenario!(a_process_that_has_ended_when_it_is_dropped_leaves_no_zombie, {
    let process = nothing::spawn().unwrap();
    wait(&[&process], Some(PATIENCE)).unwrap();
    drop(process);
    assert_eq!(zombies(), 0);
});

#[process_fn]
fn echo(number: u64) -> u64 {
    number
}

scenario!(sixteen_threads_start_processes_at_once, {
    let started = std::sync::Barrier::new(16);
    let started = &started;
    std::thread::scope(|scope| {
        for thread in 0..16_u64 {
            scope.spawn(move || {
                started.wait();
                let processes: Vec<_> =
                    (0..8).map(|number| (number, echo::spawn(thread * 100 + number).unwrap())).collect();
                for (number, process) in processes {
                    assert_eq!(process.join().unwrap(), thread * 100 + number);
                }
            });
        }
    });
});

scenario!(names_and_numbers_of_processes_that_are_started_at_once_differ, {
    let processes: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..16).map(|_| scope.spawn(|| nothing::spawn().unwrap())).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let names: HashSet<_> = processes.iter().map(|process| process.name().to_owned()).collect();
    let pids: HashSet<_> = processes.iter().map(mp_core::Process::pid).collect();
    assert_eq!((names.len(), pids.len()), (16, 16));
    processes.into_iter().for_each(|process| process.join().unwrap());
});

#[process_fn]
fn countdown(levels: u32) -> Vec<u32> {
    let mut pids = vec![std::process::id()];
    if levels > 0 {
        pids.extend(countdown::spawn(levels - 1).unwrap().join().unwrap());
    }
    pids
}

scenario!(processes_start_processes_three_levels_deep, {
    let pids = countdown::spawn(3).unwrap().join().unwrap();
    assert_eq!(pids.len(), 4);
    assert_eq!(pids.iter().collect::<HashSet<_>>().len(), 4);
});

#[process_fn]
fn fail_below(levels: u32) -> Result<u32, String> {
    if levels == 0 {
        panic!("at the bottom");
    }
    match fail_below::spawn(levels - 1).unwrap().join() {
        Ok(result) => result,
        Err(error) => Err(error.to_string()),
    }
}

scenario!(a_failure_three_levels_deep_comes_up, {
    let error = fail_below::spawn(3).unwrap().join().unwrap().unwrap_err();
    assert!(error.ends_with(": at the bottom"), "{error}");
});

scenario!(one_process_waits_for_many, {
    let (orders, mut processes): (Vec<_>, Vec<_>) = (0..10_u32)
        .map(|number| {
            let (mine, theirs) = duplex().unwrap();
            (mine, (number, answer::spawn(theirs).unwrap()))
        })
        .unzip();
    // They end in the opposite order.
    for last in (0..10).rev() {
        orders[last].send(()).unwrap();
        let sentinels: Vec<&dyn std::os::fd::AsFd> =
            processes.iter().map(|(_, process)| process as &dyn std::os::fd::AsFd).collect();
        assert_eq!(wait(&sentinels, Some(PATIENCE)).unwrap(), [last]);
        let (number, process) = processes.remove(last);
        process.join().unwrap();
        assert_eq!(orders[last].recv().unwrap(), ());
        assert_eq!(number as usize, last);
    }
});

#[process_fn]
fn answer(connection: mp_core::Connection<(), ()>) {
    connection.recv().unwrap();
    connection.send(()).unwrap();
}
