//! A pool in the server.

use std::time::Duration;

use mp_core::{Builder, process_fn};
use mp_manager::{CallError, Event, Manager, Map, Pool};
use mp_testing::{eventually, scenario};

#[process_fn]
fn square(number: u64) -> u64 {
    number * number
}

#[process_fn]
fn fail(how: u32) {
    match how {
        0 => panic!("it has failed"),
        _ => std::process::abort(),
    }
}

#[process_fn]
fn wait_for(started: Event, go: Event, done: Map<u64, u64>) {
    started.set().unwrap();
    go.wait().unwrap();
    done.insert(1, 1).unwrap();
}

#[process_fn]
fn use_it(pool: Pool) -> Vec<u64> {
    assert_eq!(pool.submit(square::call(9)).unwrap().join().unwrap(), 81);
    pool.map((0..100).map(square::call)).unwrap()
}

scenario!(every_process_gives_calls_to_a_pool_in_the_server, {
    let manager = Manager::spawn().unwrap();
    let pool = Pool::new(&manager, 2).unwrap();
    let children: Vec<_> = (0..2).map(|_| use_it::spawn(pool.clone()).unwrap()).collect();
    for child in children {
        assert_eq!(child.join().unwrap(), (0..100).map(|number| number * number).collect::<Vec<_>>());
    }
    assert_eq!(pool.map(Vec::new().into_iter().map(square::call)), Ok(Vec::new()));
    drop(pool);
    eventually("nothing is left in the server", || manager.objects().unwrap().is_empty());
});

scenario!(a_call_of_a_pool_in_the_server_that_fails_says_how, {
    let manager = Manager::spawn().unwrap();
    let pool = Pool::new(&manager, 1).unwrap();
    let panicked = pool.submit(fail::call(0)).unwrap().join();
    assert!(matches!(&panicked, Err(CallError::Panicked(panic)) if panic.message == "it has failed"), "{panicked:?}");
    let crashed = pool.submit(fail::call(1)).unwrap().join();
    assert!(matches!(&crashed, Err(CallError::Task(why)) if why.contains("signal")), "{crashed:?}");
    assert_eq!(pool.submit(square::call(2)).unwrap().join(), Ok(4));
});

scenario!(calls_that_wait_for_a_worker_hold_up_no_function_of_the_server, {
    let manager = Manager::builder().threads(2).spawn().unwrap();
    let pool = Pool::new(&manager, 1).unwrap();
    let (started, go) = (Event::new(&manager).unwrap(), Event::new(&manager).unwrap());
    let done = Map::<u64, u64>::new(&manager).unwrap();
    let first = pool.submit(wait_for::call(started.clone(), go.clone(), done.clone())).unwrap();
    started.wait().unwrap();
    let others: Vec<_> = (0..20).map(|number| pool.submit(square::call(number)).unwrap()).collect();
    // This is a function of the server as well.
    drop(Pool::new(&manager, 1).unwrap());
    let hasty = pool.clone().with_limit(Some(Duration::from_millis(10)));
    // On a busy machine the submission itself takes longer than that.
    assert_eq!(hasty.submit(square::call(1)).and_then(|task| task.join()), Err(CallError::TimedOut));
    go.set().unwrap();
    first.join().unwrap();
    for (other, number) in others.into_iter().zip(0..) {
        assert_eq!(other.join(), Ok(number * number));
    }
});

#[process_fn]
fn submit_and_wait(pool: Pool, started: Event, go: Event, done: Map<u64, u64>) {
    let _ = pool.submit(wait_for::call(started, go, done)).unwrap().join();
}

scenario!(a_call_of_a_process_that_dies_runs_to_its_end, {
    let manager = Manager::spawn().unwrap();
    let pool = Pool::new(&manager, 1).unwrap();
    let (started, go) = (Event::new(&manager).unwrap(), Event::new(&manager).unwrap());
    let done = Map::new(&manager).unwrap();
    let child =
        Builder::new().spawn(submit_and_wait::call(pool.clone(), started.clone(), go.clone(), done.clone())).unwrap();
    started.wait().unwrap();
    child.kill().unwrap();
    assert!(child.join().is_err());
    go.set().unwrap();
    eventually("it has run", || done.get(&1) == Ok(Some(1)));
    eventually("its queue is gone", || manager.objects().unwrap().len() == 4);
});
