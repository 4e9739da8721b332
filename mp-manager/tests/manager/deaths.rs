//! Whatever dies: the server goes on without the client, and the client without the server.

use std::collections::BTreeMap;
use std::fs;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use mp_core::{Builder, Call, ExitStatus, Sender, process_fn};
use mp_manager::{CallError, Cell, List, Lock, LockError, Manager, Map, Queue, Semaphore};
use mp_testing::faults::{Random, count, limit};
use mp_testing::victims::{kill_at_random, soon, was_killed};
use mp_testing::{PROMPTLY, eventually, holds_within, procfs, scenario};

#[process_fn]
fn bump(old: Option<u64>, by: u64) -> (Option<u64>, u64) {
    let new = old.unwrap_or(0) + by;
    (Some(new), new)
}

#[process_fn]
fn sleepy(old: Option<u64>, began: Cell<bool>) -> (Option<u64>, ()) {
    began.set(true).unwrap();
    thread::sleep(Duration::from_millis(200));
    (Some(old.unwrap_or(0) + 1), ())
}

#[process_fn]
fn never(old: Option<u64>, began: Cell<bool>) -> (Option<u64>, ()) {
    began.set(true).unwrap();
    std::hint::black_box(old);
    loop {
        thread::park();
    }
}

type Lists = Map<u64, List<u64>>;

/// Uses all there is until it is killed: makes objects, puts them into each other, sends them.
#[process_fn]
fn use_it(seed: u64, lists: Lists, counts: Map<u64, u64>, there: Sender<()>) {
    let mut random = Random::seeded(seed);
    let (sender, receiver) = mp_core::pipe::<List<u64>>().unwrap();
    there.send(()).unwrap();
    loop {
        let own = List::new(&lists).unwrap();
        own.extend([seed, random.next()]).unwrap();
        sender.send(own.clone()).unwrap();
        lists.insert(random.below(8), own).unwrap();
        counts.modify::<bump>(&random.below(8), 1).unwrap();
        let found = lists.get(&random.below(8)).unwrap();
        found.iter().for_each(|found| found.push(1).unwrap());
        lists.remove(&random.below(8)).unwrap();
        counts.insert(100, 7).unwrap();
        receiver.recv().unwrap().len().unwrap();
    }
}

/// What the server has: descriptors by kind, and threads.
fn of_server(pid: u32) -> (BTreeMap<String, usize>, usize) {
    let mut kinds = BTreeMap::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten() {
        let target = fs::read_link(entry.path()).unwrap_or_default().to_string_lossy().into_owned();
        *kinds.entry(target.split(':').next().unwrap().to_owned()).or_default() += 1;
    }
    (kinds, fs::read_dir(format!("/proc/{pid}/task")).unwrap().count())
}

scenario!(fault_clients_that_are_killed_leave_nothing_in_the_server, limit(count(100)), {
    let manager = Manager::spawn().unwrap();
    let lists = Lists::new(&manager).unwrap();
    let counts = Map::<u64, u64>::new(&manager).unwrap();
    counts.modify::<bump>(&9, 1).unwrap();
    let before = of_server(manager.pid());
    let start = |seed, there| Call::<use_it>::new((seed, lists.clone(), counts.clone(), there));
    let mut last = 0;
    kill_at_random(
        3,
        count(100),
        start,
        |_| {},
        || {
            // The test itself is a client that notices nothing.
            let now = counts.modify::<bump>(&50, 1).unwrap();
            assert_eq!(now, last + 1);
            last = now;
        },
    );
    lists.clear().unwrap();
    eventually("the objects go", || manager.objects().unwrap().len() == 2);
    // Further threads end when they have had nothing to do for a while.
    let fewer = || {
        let (kinds, threads) = of_server(manager.pid());
        kinds.iter().all(|(kind, number)| before.0.get(kind) >= Some(number)) && threads <= before.1
    };
    assert!(holds_within(Duration::from_secs(15), fewer), "{before:?} {:?}", of_server(manager.pid()));
});

// Python: the manager dies, and 70,000 lines of log follow.
scenario!(the_death_of_the_server_ends_every_call_at_once, {
    let manager = Manager::spawn().unwrap();
    let map = Map::<u64, u64>::new(&manager).unwrap();
    let began = Cell::new(&manager, false).unwrap();
    let waiting: Vec<_> = (0..4)
        .map(|_| {
            let (map, began) = (map.clone(), began.clone());
            let (sender, result) = mpsc::channel();
            let waits = thread::spawn(move || sender.send(map.modify::<never>(&1, began)).unwrap());
            (waits, result)
        })
        .collect();
    eventually("the function runs", || began.get().unwrap());
    rustix::process::kill_process(procfs::number_of(manager.pid()), rustix::process::Signal::KILL).unwrap();
    let mut sent = 0;
    for (waits, result) in waiting {
        match result.recv_timeout(PROMPTLY).unwrap() {
            Err(CallError::Disconnected { sent: was_sent }) => sent += usize::from(was_sent),
            other => panic!("the server is gone: {other:?}"),
        }
        waits.join().unwrap();
    }
    // At least the one whose function ran. Others may have begun after the end.
    assert!(sent > 0);
    assert!(matches!(map.get(&1), Err(CallError::Disconnected { .. })));
    eventually("it is reaped", || {
        matches!(manager.exit_status(), Some(ExitStatus::Signal { signal: libc::SIGKILL, .. }))
    });
});

#[process_fn]
fn own_a_server(pid: Sender<u32>) {
    let manager = Manager::spawn().unwrap();
    let _cell = Cell::new(&manager, 1).unwrap();
    pid.send(manager.pid()).unwrap();
    loop {
        thread::park();
    }
}

scenario!(the_server_goes_with_its_creator, {
    let (sender, pid) = mp_core::pipe().unwrap();
    let creator = own_a_server::spawn(sender).unwrap();
    let pid = soon(&pid);
    creator.kill().unwrap();
    was_killed(creator);
    assert!(holds_within(PROMPTLY, || !procfs::runs(pid)));
});

#[process_fn]
fn change_slowly(map: Map<u64, u64>, began: Cell<bool>) {
    map.modify::<sleepy>(&1, began).unwrap();
}

scenario!(a_function_that_has_begun_ends_without_its_caller, {
    let manager = Manager::spawn().unwrap();
    let map = Map::<u64, u64>::new(&manager).unwrap();
    let began = Cell::new(&manager, false).unwrap();
    let child = change_slowly::spawn(map.clone(), began.clone()).unwrap();
    eventually("the function runs", || began.get().unwrap());
    child.kill().unwrap();
    was_killed(child);
    assert_eq!(map.get(&1).unwrap(), Some(1));
});

#[process_fn]
fn flood(map: Map<u64, Vec<u8>>, there: Sender<()>) {
    thread::scope(|scope| {
        for thread in 0..8 {
            let (map, there) = (&map, &there);
            scope.spawn(move || {
                for number in 0.. {
                    let _ = map.get(&(number % 8)).unwrap();
                    if thread == 0 && number == 100 {
                        there.send(()).unwrap();
                    }
                }
            });
        }
    });
}

scenario!(a_client_that_is_stopped_holds_up_nobody, {
    let manager = Manager::spawn().unwrap();
    let map = Map::new(&manager).unwrap();
    for number in 0..8 {
        map.insert(number, vec![1; 60_000]).unwrap();
    }
    let (sender, there) = mp_core::pipe().unwrap();
    let child = flood::spawn(map.clone(), sender).unwrap();
    soon(&there);
    let signal = |signal| rustix::process::kill_process(procfs::number_of(child.pid()), signal).unwrap();
    signal(rustix::process::Signal::STOP);
    for number in 0..200 {
        map.insert(100 + number, vec![2; 100]).unwrap();
    }
    assert_eq!(map.len().unwrap(), 208);
    child.kill().unwrap();
    was_killed(child);
});

// Python: a proxy used after a fork corrupts its connection.
scenario!(a_proxy_in_a_forked_copy_is_an_error, {
    let manager = Manager::spawn().unwrap();
    let map = Map::<u64, u64>::new(&manager).unwrap();
    map.insert(1, 1).unwrap();
    // SAFETY: the copy makes calls that are refused, which takes no lock that another thread could
    // have held, and then ends.
    let copy = unsafe { libc::fork() };
    if copy == 0 {
        let refused = map.get(&1) == Err(CallError::Forked) && manager.objects() == Err(CallError::Forked);
        // SAFETY: it ends the process.
        unsafe { libc::_exit(if refused { 0 } else { 1 }) };
    }
    let status = rustix::process::waitpid(rustix::process::Pid::from_raw(copy), rustix::process::WaitOptions::empty());
    assert!(status.unwrap().unwrap().1.exit_status() == Some(0));
    assert_eq!(map.get(&1).unwrap(), Some(1));
});

#[process_fn]
fn use_up(map: Map<u64, u64>, lists: Lists, queue: Queue<List<u64>>, lock: Lock) {
    map.get(&1).unwrap();
    let guard = lock.lock().unwrap();
    let mut files = Vec::new();
    while let Ok(file) = fs::File::open("/dev/null") {
        files.push(file);
    }
    let result = lists.get(&1);
    assert!(matches!(result, Err(CallError::Busy(_))), "{result:?}");
    assert!(matches!(queue.get(), Err(CallError::Busy(_))));
    // The connection is the same, and so is the holder of the lock.
    assert_eq!(map.get(&1).unwrap(), Some(7));
    drop(guard);
    assert_eq!(lock.lock().unwrap().token(), 2);
    files.clear();
    assert_eq!(map.get(&1).unwrap(), Some(7));
    assert_eq!(lists.get(&1).unwrap().unwrap().snapshot().unwrap(), [3]);
    // It has returned to the front.
    assert_eq!(queue.get().unwrap().snapshot().unwrap(), [3]);
}

scenario!(a_client_without_descriptors_loses_one_answer_and_not_its_connection, {
    let manager = Manager::spawn().unwrap();
    let (map, lists) = (Map::new(&manager).unwrap(), Lists::new(&manager).unwrap());
    map.insert(1, 7).unwrap();
    let list = List::new(&manager).unwrap();
    list.push(3).unwrap();
    let queue = Queue::new(&manager).unwrap();
    queue.put(list.clone()).unwrap();
    queue.put(List::new(&manager).unwrap()).unwrap();
    lists.insert(1, list).unwrap();
    let builder = Builder::new().rlimit(mp_core::Resource::OpenFiles, 64, 64);
    builder.spawn(use_up::call(map, lists, queue, Lock::new(&manager).unwrap())).unwrap().join().unwrap();
});

scenario!(a_server_without_descriptors_says_so_and_recovers, {
    let few = |builder: Builder| builder.rlimit(mp_core::Resource::OpenFiles, 40, 40);
    let manager = Manager::builder().process(few).spawn().unwrap();
    let map = Map::<u64, u64>::new(&manager).unwrap();
    let mut lists = Vec::new();
    let error = loop {
        match List::<u64>::new(&manager) {
            Ok(list) => lists.push(list),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, CallError::Busy(_)), "{error:?}");
    assert!(lists.len() > 10);
    map.insert(1, 1).unwrap();
    lists.clear();
    eventually("there is room again", || List::<u64>::new(&manager).is_ok());
});

/// Tells whether an error is one that the death of the server makes.
fn is_end(error: &CallError) -> bool {
    matches!(error, CallError::Disconnected { .. })
}

scenario!(fault_a_server_that_is_killed_in_any_state_ends_every_call_at_once, limit(count(20)), {
    let mut random = Random::new();
    for _ in 0..count(20) {
        let manager = Manager::spawn().unwrap();
        let (map, list) = (Map::<u64, u64>::new(&manager).unwrap(), List::<u64>::new(&manager).unwrap());
        let (queue, lock) = (Queue::<u64>::new(&manager).unwrap(), Lock::new(&manager).unwrap());
        let (semaphore, began) = (Semaphore::new(&manager, 1).unwrap(), Cell::new(&manager, false).unwrap());
        let remote = manager.listen(mp_listener::Address::Abstract(Vec::new()), b"key").unwrap();
        let remote = mp_manager::Remote::connect(remote, b"key").unwrap();
        let mut watch = map.watch().unwrap();
        let until_the_end = |mut call: Box<dyn FnMut() -> Result<(), CallError> + Send>| {
            thread::spawn(move || {
                loop {
                    if let Err(error) = call() {
                        assert!(is_end(&error), "{error:?}");
                        return;
                    }
                }
            })
        };
        let (changed, made) = (map.clone(), map.clone());
        let calls: Vec<Box<dyn FnMut() -> Result<(), CallError> + Send>> = vec![
            Box::new(move || changed.modify::<bump>(&1, 1).map(drop)),
            Box::new(move || List::new(&made)?.extend(0..100_u64)),
            Box::new(move || list.extend(0..10).and_then(|()| list.iter()?.try_for_each(|value| value.map(drop)))),
            Box::new(move || queue.get().map(drop)),
            Box::new(move || match lock.lock() {
                Ok(_) | Err(LockError::OwnerDied(_)) => Ok(()),
                Err(LockError::Call(error)) => Err(error),
                Err(error) => panic!("{error}"),
            }),
            Box::new(move || semaphore.acquire().map(drop)),
            Box::new(move || Map::<u64, Vec<u8>>::new(&remote)?.insert(1, vec![1; 100_000]).map(drop)),
            Box::new(move || {
                watch.next().map_or(Err(CallError::Disconnected { sent: true }), |change| change.map(drop))
            }),
        ];
        let mut threads: Vec<_> = calls.into_iter().map(until_the_end).collect();
        let slow = map.clone();
        threads.push(thread::spawn(move || {
            let ended = slow.modify::<never>(&2, began);
            assert!(is_end(&ended.unwrap_err()));
        }));
        thread::sleep(random.moment(Duration::from_millis(30)));
        rustix::process::kill_process(procfs::number_of(manager.pid()), rustix::process::Signal::KILL).unwrap();
        let killed = std::time::Instant::now();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert!(killed.elapsed() < PROMPTLY);
        eventually("its end is known", || {
            matches!(manager.exit_status(), Some(ExitStatus::Signal { signal: libc::SIGKILL, .. }))
        });
    }
});
