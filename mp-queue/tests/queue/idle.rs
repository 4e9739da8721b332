//! Waiting takes no processor time.

use std::os::fd::AsFd;
use std::thread;
use std::time::Duration;

use mp_core::{Sender, process_fn, wait};
use mp_queue::{Consumer, GetError, JoinableQueue, Producer, PutErrorReason, Queue};
use mp_testing::victims::Held;
use mp_testing::{eventually, run_for_ever};
use pollster::block_on;
use rustix::time::{ClockId, clock_gettime};

use crate::awaiting::async_scenario;
use crate::messages::Bundle;

/// The processor time that this process has taken.
fn taken() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

type All = (Queue<u32>, Queue<u32>, JoinableQueue<u32>, Queue<Bundle>, Queue<Bundle>);

#[process_fn]
fn has_them(_queues: All, there: Sender<()>) {
    there.send(()).unwrap();
    run_for_ever();
}

/// Waits for a descriptor, again and again, until `done`.
fn poll_until<'a, F: AsFd + 'a>(readable: impl Fn() -> F, done: impl Fn() -> bool) {
    while !done() {
        wait(&[&readable().as_fd()], None).unwrap();
    }
}

fn is_closed(reason: &PutErrorReason) -> bool {
    matches!(reason, PutErrorReason::Closed)
}

// All ways to wait at the same time. One that spins would take half a second.
async_scenario!(those_who_wait_are_idle, {
    if !mp_testing::limits::allow_descriptors(4096) {
        return;
    }
    let (empty, full) = (Queue::<u32>::new().unwrap(), Queue::<u32>::bounded(1).unwrap());
    let tasks = JoinableQueue::<u32>::new().unwrap();
    let (bundles, others) = (Queue::<Bundle>::new().unwrap(), Queue::<Bundle>::new().unwrap());
    full.put(1).unwrap();
    tasks.put(1).unwrap();
    // Their rings have room for more of these, and their lanes have none.
    while bundles.try_put(Bundle::new(1, 1, 0)).is_ok() {}
    while others.try_put(Bundle::new(1, 1, 0)).is_ok() {}
    let all = (empty.clone(), full.clone(), tasks.clone(), bundles.clone(), others.clone());
    let holder = Held::start(|there| has_them::call(all, there));
    thread::scope(|scope| {
        let from: Consumer<u32> = empty.consumer();
        let to: Producer<u32> = full.producer();
        let (empty, full, tasks, bundles, others) = (&empty, &full, &tasks, &bundles, &others);
        for _ in 0..2 {
            scope.spawn(|| assert!(matches!(empty.get(), Err(GetError::Closed))));
            scope.spawn(|| assert!(is_closed(&full.put(2).unwrap_err().reason)));
            scope.spawn(|| assert!(matches!(block_on(empty.get_async()), Err(GetError::Closed))));
            scope.spawn(|| assert!(is_closed(&block_on(full.put_async(2)).unwrap_err().reason)));
            scope.spawn(|| poll_until(|| empty.readable().unwrap(), || empty.is_closed()));
            scope.spawn(|| poll_until(|| full.writable().unwrap(), || full.is_closed()));
            scope.spawn(|| assert!(!tasks.join_timeout(Duration::from_millis(900)).unwrap()));
            scope.spawn(|| assert!(is_closed(&bundles.put(Bundle::new(2, 1, 0)).unwrap_err().reason)));
            scope.spawn(|| assert!(is_closed(&block_on(others.put_async(Bundle::new(2, 1, 0))).unwrap_err().reason)));
        }
        scope.spawn(move || assert!(matches!(from.get_many(3).unwrap_err().reason, GetError::Closed)));
        scope.spawn(move || assert!(is_closed(&to.put_many([1, 2, 3]).unwrap_err().reason)));
        // Once they are asleep.
        let mut before = taken();
        eventually("nothing is used", || {
            thread::park_timeout(Duration::from_millis(20));
            let now = taken();
            now - std::mem::replace(&mut before, now) < Duration::from_millis(5)
        });
        let before = taken();
        thread::park_timeout(Duration::from_millis(500));
        let used = taken() - before;
        empty.close();
        full.close();
        bundles.close();
        others.close();
        assert!(used < Duration::from_millis(50), "{used:?}");
    });
    holder.kill();
});
