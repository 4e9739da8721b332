//! The server: its start, its names, its end.

use std::future::Future;
use std::sync::mpsc;
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use mp_core::{ExitStatus, Sender, pipe, process_fn};
use mp_manager::{CallError, Cell, Event, List, Manager, ManagerError, Map};
use mp_testing::{PATIENCE, PROMPTLY, eventually, scenario};

use crate::shared::AccountProxy;

#[process_fn]
fn refuse(why: &str) {
    panic!("{why}");
}

#[process_fn]
fn never(old: Option<u64>, _: ()) -> (Option<u64>, ()) {
    std::hint::black_box(old);
    loop {
        thread::park();
    }
}

scenario!(names_find_objects_of_the_right_type, {
    let manager = Manager::spawn().unwrap();
    assert_eq!(manager.get::<Cell<u8>>("limit").unwrap_err(), CallError::NoSuchObject);
    manager.publish("limit", &Cell::new(&manager, 7_u8).unwrap()).unwrap();
    assert_eq!(manager.get::<Cell<u8>>("limit").unwrap().get().unwrap(), 7);
    let Err(CallError::WrongType { expected, found }) = manager.get::<List<u8>>("limit") else {
        panic!("it is no list")
    };
    assert!(expected.contains("List<u8>") && found.contains("Cell<u8>"), "{expected} {found}");
    let other = Manager::here().unwrap();
    let foreign = List::<u8>::new(&other).unwrap();
    assert_eq!(manager.publish("list", &foreign).unwrap_err(), CallError::NoSuchObject);
    assert!(manager.unpublish("limit").unwrap());
    assert!(!manager.unpublish("limit").unwrap());
    eventually("the object goes with its name", || manager.objects().unwrap().is_empty());
});

scenario!(objects_describe_themselves, {
    let manager = Manager::spawn().unwrap();
    let map = Map::<u8, u8>::new(&manager).unwrap();
    map.extend([(1, 1), (2, 2)]).unwrap();
    let objects = manager.objects().unwrap();
    assert_eq!(objects.len(), 1);
    assert!(objects[0].leased && objects[0].len == 2 && objects[0].references == 0);
    assert!(objects[0].type_name.contains("Map<u8, u8>"), "{objects:?}");
});

scenario!(shutting_down_ends_the_server_and_its_proxies, {
    for manager in [Manager::spawn().unwrap(), Manager::here().unwrap()] {
        let map = Map::<u8, u8>::new(&manager).unwrap();
        map.insert(1, 1).unwrap();
        manager.shutdown(Duration::from_secs(10)).unwrap();
        assert!(matches!(map.get(&1), Err(CallError::Disconnected { .. })));
        assert_eq!(map.get(&1), Err(CallError::Disconnected { sent: false }));
        if manager.pid() != std::process::id() {
            assert_eq!(manager.exit_status(), Some(ExitStatus::Code(0)));
        }
        manager.shutdown(Duration::ZERO).unwrap();
    }
});

// Python: servers are left behind.
scenario!(dropping_the_manager_ends_its_process_even_in_a_function_that_never_returns, {
    let manager = Manager::spawn().unwrap();
    let map = Map::<u8, u64>::new(&manager).unwrap().with_limit(Some(Duration::from_millis(20)));
    assert_eq!(map.modify::<never>(&1, ()), Err(CallError::TimedOut));
    let start = Instant::now();
    drop(manager);
    assert!(start.elapsed() < PROMPTLY);
    assert!(matches!(map.get(&1), Err(CallError::Disconnected { .. })));
});

scenario!(an_initializer_that_fails_is_an_error_of_the_start, {
    let quiet = |builder: mp_core::Builder| builder.stderr(mp_core::Stdio::null());
    let started = Manager::builder().process(quiet).initializer(refuse::call("no licence")).spawn();
    let Err(ManagerError::Start(error)) = started else { panic!("it fails") };
    assert!(error.to_string().contains("no licence"), "{error}");
});

// Python: a Ctrl-C reaches the server first, and everything fails with a traceback.
scenario!(ctrl_c_does_not_end_the_server_before_its_owner, {
    let manager = Manager::spawn().unwrap();
    let map = Map::<u8, u8>::new(&manager).unwrap();
    rustix::process::kill_process(mp_testing::procfs::number_of(manager.pid()), rustix::process::Signal::INT).unwrap();
    for number in 0..100 {
        map.insert(number, number).unwrap();
    }
    assert_eq!(manager.exit_status(), None);
});

scenario!(more_functions_than_threads_wait_for_one_to_end, {
    #[process_fn]
    fn slow(old: Option<u64>, _: ()) -> (Option<u64>, u64) {
        thread::park_timeout(Duration::from_millis(2));
        (Some(old.unwrap_or(0) + 1), 0)
    }
    let manager = Manager::builder().threads(2).calls_in_flight(4).spawn().unwrap();
    let maps: Vec<_> = (0..6).map(|_| Map::<u8, u64>::new(&manager).unwrap()).collect();
    thread::scope(|scope| {
        for map in &maps {
            for _ in 0..2 {
                scope.spawn(|| (0..10).for_each(|_| assert_eq!(map.modify::<slow>(&1, ()).unwrap(), 0)));
            }
        }
    });
    assert!(maps.iter().all(|map| map.get(&1).unwrap() == Some(20)));
    let threads = std::fs::read_dir(format!("/proc/{}/task", manager.pid())).unwrap().count();
    assert!(threads <= 4, "{threads} threads");
});

scenario!(no_function_is_left_over_when_all_threads_go_idle, {
    // Too long for the leader to run it itself.
    #[process_fn]
    fn slow(old: Option<u64>, _: ()) -> (Option<u64>, u64) {
        thread::park_timeout(Duration::from_micros(100));
        (Some(old.unwrap_or(0) + 1), 0)
    }
    let manager = Manager::builder().threads(1).spawn().unwrap();
    thread::scope(|scope| {
        for _ in 0..3 {
            let map = Map::<u8, u64>::new(&manager).unwrap();
            scope.spawn(move || (0..500).for_each(|_| assert_eq!(map.modify::<slow>(&1, ()).unwrap(), 0)));
        }
    });
});

/// Sends more calls than the server reads while `go` is not set. `paused` is told when.
#[process_fn]
fn flood(blocked: AccountProxy, other: AccountProxy, go: Event, paused: Sender<()>) -> u64 {
    // One call runs and two wait for it: three of four are in flight.
    let running = blocked.later().wait_for(go);
    let mut waiting: Vec<_> = (0..2).map(|_| blocked.later().pay_in(1)).collect();
    assert_eq!(other.pay_in(1), Ok(1), "the fourth is read");
    waiting.push(blocked.later().pay_in(1));
    let short = other.clone().with_limit(Some(Duration::from_millis(1)));
    assert_eq!(short.pay_in(1), Err(CallError::TimedOut), "the fifth is not");
    // Once the socket is full, a caller waits to send, until its deadline.
    let beyond: Vec<_> = (0..1000).map(|_| short.later().pay_in(1)).collect();
    paused.send(()).unwrap();
    assert_eq!(running.join(), Ok(()));
    for (reply, expected) in waiting.into_iter().zip(1..) {
        assert_eq!(reply.join(), Ok(expected));
    }
    drop(beyond);
    other.balance().unwrap()
}

scenario!(a_process_with_too_many_calls_in_flight_is_not_read, {
    let manager = Manager::builder().calls_in_flight(4).spawn().unwrap();
    let [blocked, other] = [0; 2].map(|balance| AccountProxy::new(&manager, balance).unwrap());
    let go = Event::new(&manager).unwrap();
    let (paused, is_paused) = pipe().unwrap();
    let child = flood::spawn(blocked, other.clone(), go.clone(), paused).unwrap();
    is_paused.recv().unwrap();
    // Others are served, and no call beyond the limit has run.
    assert_eq!(other.balance(), Ok(1));
    go.set().unwrap();
    let ran = child.join().unwrap();
    assert!((2..1002).contains(&ran), "{ran} calls ran: those that could not be sent in time did not");
});

scenario!(a_task_that_is_polled_does_not_wait_for_room_in_the_socket, {
    let manager = Manager::spawn().unwrap();
    let account = AccountProxy::new(&manager, 0).unwrap();
    let signal = |signal| rustix::process::kill_process(mp_testing::procfs::number_of(manager.pid()), signal).unwrap();
    signal(rustix::process::Signal::STOP);
    let short = account.clone().with_limit(Some(Duration::from_millis(1)));
    let (polled, was_polled) = mpsc::channel();
    let polls = thread::spawn(move || {
        let mut replies = Vec::new();
        let refused = loop {
            let mut reply = Box::pin(short.later().pay_in(1));
            match reply.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Pending => replies.push(reply),
                Poll::Ready(answer) => break answer,
            }
        };
        polled.send((replies, refused)).unwrap();
    });
    let (replies, refused) = was_polled.recv_timeout(PATIENCE).expect("no poll waits");
    assert_eq!(refused, Err(CallError::TimedOut), "the socket is full");
    polls.join().unwrap();
    signal(rustix::process::Signal::CONT);
    for (reply, expected) in replies.into_iter().zip(1..) {
        assert_eq!(pollster::block_on(reply), Ok(expected));
    }
});
