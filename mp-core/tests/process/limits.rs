//! What a process may use is set before its function runs, and what cannot be set fails the spawn.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use mp_core::{Builder, ExitStatus, JoinError, Process, Resource, SpawnError, Stdio, active_children, process_fn};
use mp_testing::{error_chain, nothing, run_for_ever, scenario};
use rustix::process::{getpriority_process, getrlimit, setrlimit};
use rustix::thread::sched_getaffinity;

const GIBIBYTE: u64 = 1 << 30;

/// A line of `/proc/self/limits`: soft and hard.
fn limit(line: &str) -> (String, String) {
    let limits = fs::read_to_string("/proc/self/limits").unwrap();
    let values = limits.lines().find_map(|found| found.strip_prefix(line)).unwrap();
    let mut values = values.split_whitespace().map(str::to_owned);
    (values.next().unwrap(), values.next().unwrap())
}

#[process_fn]
fn limit_there(line: String) -> (String, String) {
    limit(&line)
}

/// Each resource with its line, and values that are neither the default nor harmful.
const RESOURCES: [(Resource, &str, u64, u64); 14] = [
    (Resource::AddressSpace, "Max address space", 64 * GIBIBYTE, 65 * GIBIBYTE),
    (Resource::CoreSize, "Max core file size", 0, 4096),
    (Resource::CpuTime, "Max cpu time", 1000, 2000),
    (Resource::DataSize, "Max data size", 64 * GIBIBYTE, 65 * GIBIBYTE),
    (Resource::FileSize, "Max file size", 3 * GIBIBYTE, 4 * GIBIBYTE),
    (Resource::LockedMemory, "Max locked memory", 4096, 8192),
    (Resource::MessageQueues, "Max msgqueue size", 1000, 2000),
    (Resource::Nice, "Max nice priority", 0, 0),
    (Resource::OpenFiles, "Max open files", 50, 60),
    (Resource::Processes, "Max processes", 5000, 6000),
    (Resource::RealTimePriority, "Max realtime priority", 0, 0),
    (Resource::RealTimeTimeout, "Max realtime timeout", 5000, 6000),
    (Resource::PendingSignals, "Max pending signals", 50, 60),
    (Resource::StackSize, "Max stack size", 1 << 20, 1 << 21),
];

/// The same, no more than this process may give: it may itself be limited.
fn resources() -> Vec<(Resource, &'static str, u64, u64)> {
    let allowed = |line| limit(line).1.parse().unwrap_or(Resource::UNLIMITED);
    let within = |(resource, line, soft, hard): (_, _, u64, u64)| {
        let most = allowed(line);
        (resource, line, soft.min(most), hard.min(most))
    };
    RESOURCES.into_iter().map(within).collect()
}

scenario!(each_limit_holds_for_the_function, {
    for (resource, line, soft, hard) in resources() {
        let process = Builder::new().rlimit(resource, soft, hard).spawn(limit_there::call(line.to_owned()));
        let expected = (soft.to_string(), hard.to_string());
        assert_eq!(process.unwrap().join().unwrap(), expected, "{resource:?}");
    }
});

scenario!(all_limits_hold_together_and_the_parent_keeps_its_own, {
    let before: Vec<_> = RESOURCES.iter().map(|(_, line, ..)| limit(line)).collect();
    for (_, line, soft, hard) in resources() {
        let builder = resources().into_iter().fold(Builder::new(), |builder, (resource, _, soft, hard)| {
            // The last one counts, though a hard limit could not be raised again.
            builder.rlimit(resource, 0, 0).rlimit(resource, soft, hard)
        });
        let found = builder.spawn(limit_there::call(line.to_owned())).unwrap().join().unwrap();
        assert_eq!(found, (soft.to_string(), hard.to_string()), "{line}");
    }
    assert_eq!(RESOURCES.iter().map(|(_, line, ..)| limit(line)).collect::<Vec<_>>(), before);
});

scenario!(unlimited_is_no_limit, {
    let current = getrlimit(rustix::process::Resource::Core).maximum;
    let hard = current.unwrap_or(Resource::UNLIMITED);
    let builder = Builder::new().rlimit(Resource::CoreSize, hard, hard);
    let (soft, _) = builder.spawn(limit_there::call("Max core file size".to_owned())).unwrap().join().unwrap();
    assert_eq!(soft, current.map_or("unlimited".to_owned(), |limit| limit.to_string()));
});

#[process_fn]
fn allocate(bytes: usize) -> usize {
    std::hint::black_box(vec![1u8; bytes]).len()
}

#[process_fn]
fn spin() {
    loop {
        std::hint::spin_loop();
    }
}

scenario!(a_process_that_wants_more_memory_than_it_may_have_is_the_only_one_to_notice, {
    let limited = || {
        let builder = Builder::new().rlimit(Resource::AddressSpace, GIBIBYTE, GIBIBYTE);
        builder.rlimit(Resource::CoreSize, 0, 0).stderr(Stdio::null())
    };
    assert_eq!(limited().spawn(allocate::call(1 << 20)).unwrap().join().unwrap(), 1 << 20);
    let Err(JoinError::Exited(status)) = limited().spawn(allocate::call(2 << 30)).unwrap().join() else {
        panic!("there was memory")
    };
    assert_eq!(status, ExitStatus::Signal { signal: libc::SIGABRT, core_dumped: false });
});

scenario!(processor_time_runs_out, {
    let builder = Builder::new().rlimit(Resource::CpuTime, 1, 5).rlimit(Resource::CoreSize, 0, 0);
    let Err(JoinError::Exited(status)) = builder.spawn(spin::call()).unwrap().join() else {
        panic!("it came to an end")
    };
    assert_eq!(status, ExitStatus::Signal { signal: libc::SIGXCPU, core_dumped: false });
});

#[process_fn]
fn niceness() -> i32 {
    getpriority_process(None).unwrap()
}

#[process_fn]
fn niceness_below() -> i32 {
    niceness::spawn().unwrap().join().unwrap()
}

scenario!(niceness_is_added_and_handed_down, {
    let here = getpriority_process(None).unwrap();
    let there = |nice| Builder::new().nice(nice).spawn(niceness::call()).unwrap().join().unwrap();
    assert_eq!(there(0), here);
    assert_eq!(there(1), (here + 1).min(19));
    assert_eq!(there(40), 19);
    assert_eq!(there(i32::MAX), 19);
    let below = Builder::new().nice(2).spawn(niceness_below::call()).unwrap().join().unwrap();
    assert_eq!(below, (here + 2).min(19));
    assert_eq!(getpriority_process(None).unwrap(), here);
});

#[process_fn]
fn processors() -> Vec<usize> {
    let allowed = sched_getaffinity(None).unwrap();
    (0..rustix::thread::CpuSet::MAX_CPU).filter(|&processor| allowed.is_set(processor)).collect()
}

scenario!(a_process_runs_where_it_was_told_to, {
    let here = processors();
    for &processor in &here {
        let builder = Builder::new().cpu_affinity([processor]);
        assert_eq!(builder.spawn(processors::call()).unwrap().join().unwrap(), [processor]);
    }
    let builder = Builder::new().cpu_affinity(here.iter().copied());
    assert_eq!(builder.spawn(processors::call()).unwrap().join().unwrap(), here);
    assert_eq!(processors(), here);
});

#[track_caller]
fn refused<T>(result: Result<Process<T>, SpawnError>, says: &str) -> ErrorKind {
    let Err(error) = result else { panic!("{says} was accepted") };
    let text = error.to_string();
    assert!(text.contains(says), "{text}");
    let SpawnError::Setting { source, .. } = error else { panic!("another error: {error:?}") };
    source.kind()
}

scenario!(what_cannot_be_set_fails_the_spawn_and_leaves_nothing, {
    let soft_above_hard = Builder::new().rlimit(Resource::OpenFiles, 60, 50);
    let Err(error) = soft_above_hard.spawn(nothing::call()) else { panic!("it was accepted") };
    assert!(
        error_chain(&error).ends_with("OpenFiles, soft 60, hard 50: the soft limit is above the hard limit"),
        "{error:?}"
    );
    assert_eq!(refused(Err::<Process<()>, _>(error), "OpenFiles"), ErrorKind::InvalidInput);
    let unlimited = Builder::new().rlimit(Resource::CoreSize, Resource::UNLIMITED, 50);
    assert_eq!(refused(unlimited.spawn(nothing::call()), "soft unlimited, hard 50"), ErrorKind::InvalidInput);
    let nowhere = Builder::new().cpu_affinity([]);
    assert_eq!(refused(nowhere.spawn(nothing::call()), "processors []"), ErrorKind::InvalidInput);
    let far_away = Builder::new().cpu_affinity([usize::MAX]);
    assert_eq!(refused(far_away.spawn(nothing::call()), "processors"), ErrorKind::InvalidInput);
    let absent = Builder::new().cpu_affinity([1023]);
    assert_eq!(refused(absent.spawn(nothing::call()), "processors [1023]"), ErrorKind::InvalidInput);
    assert!(active_children().is_empty());
});

/// The limit of open descriptors of another process; `None` if it is gone.
fn open_files_of(pid: u32) -> Option<(u64, u64)> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    let pid = libc::pid_t::try_from(pid).unwrap();
    // SAFETY: nothing is set, and `limit` is there for the kernel to write into. Asking after any
    // process is harmless.
    let result = unsafe { libc::prlimit(pid, libc::RLIMIT_NOFILE, std::ptr::null(), &raw mut limit) };
    (result == 0).then_some((limit.rlim_cur, limit.rlim_max))
}

// If others could see a child whose limits are still to be set, they could end and reap it, and its
// number, to which the limits are given, be that of a stranger.
scenario!(nobody_sees_a_child_before_its_limits_are_set, {
    // The more there is to set before the last one, the longer a child would be seen without it.
    let limited = |soft, hard| {
        let others = resources().into_iter().filter(|(resource, ..)| *resource != Resource::OpenFiles);
        let builder =
            others.fold(Builder::new(), |builder, (resource, _, soft, hard)| builder.rlimit(resource, soft, hard));
        builder.cpu_affinity(processors()).rlimit(Resource::OpenFiles, soft, hard)
    };
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let others = scope.spawn(|| {
            let (mut seen, mut too_early) = (BTreeSet::new(), BTreeSet::new());
            while !done.load(Ordering::Relaxed) {
                for child in active_children() {
                    let limit = open_files_of(child.pid());
                    if limit.is_some_and(|limit| limit != (50, 60)) && child.is_alive() {
                        too_early.insert(child.pid());
                    }
                    seen.insert(child.pid());
                    child.kill().unwrap();
                }
                thread::yield_now();
            }
            (seen, too_early)
        });
        for _ in 0..100 {
            // It ends because the other thread sees it.
            limited(50, 60).spawn(run_for_ever::call()).unwrap().join().unwrap_err();
        }
        done.store(true, Ordering::Relaxed);
        let (seen, too_early) = others.join().unwrap();
        assert!(!seen.is_empty() && too_early.is_empty(), "{} of {} seen", too_early.len(), seen.len());
    });
    assert!(active_children().is_empty());
});

scenario!(a_limit_that_cannot_be_set_fails_the_spawn_whoever_ends_the_child_meanwhile, {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                active_children().iter().for_each(|child| child.kill().unwrap());
                thread::yield_now();
            }
        });
        let results = (0..100).map(|_| Builder::new().rlimit(Resource::OpenFiles, 60, 50).spawn(nothing::call()));
        let results: Vec<_> = results.collect();
        done.store(true, Ordering::Relaxed);
        results.into_iter().for_each(|result| _ = refused(result, "OpenFiles"));
    });
    assert!(active_children().is_empty());
});

/// Tries what only a privileged process may do.
#[process_fn]
fn exceed_ones_rights() {
    let mut files = getrlimit(rustix::process::Resource::Nofile);
    files.maximum = Some(1000);
    files.current = Some(1000);
    setrlimit(rustix::process::Resource::Nofile, files).unwrap();
    if rustix::process::geteuid().is_root() {
        let nobody = rustix::process::Uid::from_raw(65534);
        rustix::thread::set_thread_res_uid(nobody, nobody, nobody).unwrap();
    }
    let raised = Builder::new().rlimit(Resource::OpenFiles, 1000, 1001);
    assert_eq!(refused(raised.spawn(nothing::call()), "OpenFiles"), ErrorKind::PermissionDenied);
    let less_nice = Builder::new().nice(-1);
    assert_eq!(refused(less_nice.spawn(nothing::call()), "niceness -1"), ErrorKind::PermissionDenied);
    // What is allowed still works for such a user.
    let lowered = Builder::new().rlimit(Resource::OpenFiles, 500, 600).nice(1).cpu_affinity(processors());
    lowered.spawn(nothing::call()).unwrap().join().unwrap();
}

scenario!(rights_that_the_parent_lacks_fail_the_spawn, {
    exceed_ones_rights::spawn().unwrap().join().unwrap();
});
