//! Processes that are stopped in the middle of a put or a get.

use std::thread;
use std::time::{Duration, Instant};

use mp_core::{Process, Sender, process_fn, wait};
use mp_queue::{Consumer, JoinError, JoinableQueue, Producer, PutErrorReason, Queue};
use mp_testing::faults::{Random, busy};
use mp_testing::procfs::{Entry, number_of};
use mp_testing::{PATIENCE, PROMPTLY, eventually, scenario};
use rustix::process::{Signal, kill_process};
use serde_bytes::ByteBuf;

use crate::next;

/// Copying so many bytes takes most of the time of a put, and of a get.
const LONG: usize = 1 << 20;

#[process_fn]
fn puts_long_values(to: Producer<ByteBuf>) {
    let value = ByteBuf::from(vec![7; LONG]);
    while to.put(value.clone()).is_ok() {}
}

#[process_fn]
fn gets_long_values(from: Consumer<ByteBuf>) {
    from.iter().for_each(|value| assert!(is_whole(&value.unwrap())));
}

fn is_whole(value: &ByteBuf) -> bool {
    value.len() <= 1 || value[..] == vec![7; LONG]
}

fn stop(process: &Process<()>) {
    kill_process(number_of(process.pid()), Signal::STOP).unwrap();
    eventually("it is stopped", || Entry::read(process.pid()).is_some_and(|entry| entry.state == 'T'));
}

fn go_on(process: &Process<()>) {
    kill_process(number_of(process.pid()), Signal::CONT).unwrap();
}

/// Does something that must not wait.
#[track_caller]
fn at_once<R>(what: impl FnOnce() -> R) -> R {
    let begun = Instant::now();
    let result = what();
    assert!(begun.elapsed() < PROMPTLY, "{:?}", begun.elapsed());
    result
}

const SHORTLY: Duration = Duration::from_millis(20);

fn is_for_lack_of_time(reason: &PutErrorReason) -> bool {
    matches!(reason, PutErrorReason::Full | PutErrorReason::TimedOut)
}

/// All that does not wait indefinitely, while a process is stopped. Returns whether that was in the
/// middle of a put, and whether of a get: nobody else could put although there was room, or get
/// although there was something.
fn try_everything(queue: &Queue<ByteBuf>) -> (bool, bool) {
    let short = || ByteBuf::from([7]);
    let (had_room, had_some) = (!queue.is_full(), !queue.is_empty());
    let got = at_once(|| queue.try_get()).unwrap();
    let put = at_once(|| queue.try_put(short()));
    let got_later = at_once(|| queue.get_timeout(SHORTLY)).unwrap();
    let put_later = at_once(|| queue.put_timeout(short(), SHORTLY));
    for value in [&got, &got_later].into_iter().flatten() {
        assert!(is_whole(value));
    }
    for refused in [&put, &put_later].into_iter().filter_map(|put| put.as_ref().err()) {
        assert!(is_for_lack_of_time(&refused.reason), "{refused:?}");
    }
    at_once(|| wait(&[&queue.readable().unwrap(), &queue.writable().unwrap()], Some(SHORTLY))).unwrap();
    at_once(|| {
        // A handle of a side comes and goes.
        drop((queue.producer(), queue.consumer(), queue.clone()));
        assert!(!queue.is_closed() && queue.len() <= queue.capacity());
    });
    let put_blocked = had_room && put.is_err() && put_later.is_err() && !queue.is_full();
    let get_blocked = had_some && got.is_none() && got_later.is_none();
    (put_blocked, get_blocked)
}

/// Stops the process at instants of chance until it was in the middle often enough.
fn stop_again_and_again(process: &Process<()>, queue: &Queue<ByteBuf>, mut blocks: impl FnMut() -> bool) {
    let mut random = Random::new();
    let mut in_the_middle = 0;
    for _ in 0..60 {
        if in_the_middle == 3 {
            break;
        }
        // It is in full flow.
        for _ in 4..queue.len() {
            assert!(is_whole(&next(queue)));
        }
        busy(random.moment(Duration::from_millis(2)));
        stop(process);
        in_the_middle += blocks() as u32;
        go_on(process);
    }
}

scenario!(a_producer_that_is_stopped_in_the_middle_of_a_put_holds_nobody_up_longer_than_they_say, {
    let queue = Queue::with_bytes(16 * LONG).unwrap();
    let child = puts_long_values::spawn(queue.producer()).unwrap();
    stop_again_and_again(&child, &queue, || {
        let (put, get) = try_everything(&queue);
        assert!(!get, "a producer keeps nobody from getting");
        put
    });
    at_once(|| queue.close());
    child.join().unwrap();
});

scenario!(a_consumer_that_is_stopped_in_the_middle_of_a_get_holds_nobody_up_longer_than_they_say, {
    let queue = Queue::with_bytes(16 * LONG).unwrap();
    let child = gets_long_values::spawn(queue.consumer()).unwrap();
    thread::scope(|scope| {
        let producer = queue.producer();
        scope.spawn(move || while producer.put(ByteBuf::from(vec![7; LONG])).is_ok() {});
        stop_again_and_again(&child, &queue, || try_everything(&queue).1);
        at_once(|| queue.close());
    });
    child.join().unwrap();
});

#[process_fn]
fn does_tasks(tasks: JoinableQueue<ByteBuf>, there: Sender<()>) {
    for task in tasks.iter() {
        there.send(()).unwrap();
        assert!(is_whole(&task.unwrap()));
        tasks.task_done().unwrap();
    }
}

// A process that is stopped is no dead one.
scenario!(a_task_of_a_process_that_is_stopped_is_not_abandoned, {
    let tasks = JoinableQueue::new().unwrap();
    let (there, come) = mp_core::pipe().unwrap();
    let child = does_tasks::spawn(tasks.clone(), there).unwrap();
    let mut stopped_with_a_task = 0;
    while stopped_with_a_task < 3 {
        tasks.put(ByteBuf::from(vec![7; LONG])).unwrap();
        come.recv().unwrap();
        stop(&child);
        if tasks.unfinished() > 0 {
            stopped_with_a_task += 1;
            assert!(!at_once(|| tasks.join_timeout(Duration::from_millis(150))).unwrap());
        }
        go_on(&child);
        tasks.join().unwrap();
    }
    tasks.put(ByteBuf::new()).unwrap();
    come.recv().unwrap();
    stop(&child);
    child.kill().unwrap();
    child.join().unwrap_err();
    match tasks.join_timeout(PATIENCE) {
        Ok(true) => {}
        Err(JoinError::Abandoned { tasks }) => assert_eq!(tasks, 1),
        other => panic!("{other:?}"),
    }
});
