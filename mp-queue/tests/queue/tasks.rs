//! Queues that count tasks.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use mp_core::{Receiver, Sender, pipe, process_fn};
use mp_queue::{GetError, JoinError, JoinableQueue, PutErrorReason, Queue};
use mp_testing::victims::{Held, soon};
use mp_testing::{PATIENCE, PROMPTLY, run_for_ever, scenario};

use crate::refused;

const A_WHILE: Duration = Duration::from_millis(150);

#[track_caller]
fn are_abandoned<T>(queue: &JoinableQueue<T>, expected: usize) {
    let begun = Instant::now();
    match queue.join() {
        Err(JoinError::Abandoned { tasks }) => assert_eq!(tasks, expected),
        other => panic!("{other:?}"),
    }
    assert!(begun.elapsed() < PROMPTLY);
}

scenario!(a_task_is_done_once_and_after_it_was_gotten, {
    let tasks = JoinableQueue::bounded(4).unwrap();
    tasks.task_done().unwrap_err();
    tasks.join().unwrap();
    tasks.put_many([1, 2]).unwrap();
    tasks.task_done().unwrap_err();
    assert_eq!((tasks.get().unwrap(), tasks.unfinished()), (1, 2));
    tasks.task_done().unwrap();
    tasks.task_done().unwrap_err();
    assert_eq!(tasks.unfinished(), 1);
    assert!(!tasks.join_timeout(Duration::ZERO).unwrap());
    let begun = Instant::now();
    assert!(!tasks.join_timeout(A_WHILE).unwrap());
    assert!(begun.elapsed() >= A_WHILE);
    assert_eq!(tasks.drain().unwrap(), [2]);
    tasks.task_done().unwrap();
    assert!(tasks.join_timeout(Duration::ZERO).unwrap());
    tasks.task_done().unwrap_err();
    // Rounds may follow each other.
    for round in 0..100 {
        tasks.put(round).unwrap();
        assert_eq!(tasks.try_get().unwrap(), Some(round));
        assert_eq!(tasks.unfinished(), 1);
        tasks.task_done().unwrap();
        tasks.join().unwrap();
    }
});

#[process_fn]
fn joins(tasks: JoinableQueue<u32>, there: Sender<()>) {
    there.send(()).unwrap();
    tasks.join().unwrap();
    assert_eq!(tasks.unfinished(), 0);
}

scenario!(all_that_join_return_promptly_when_the_last_task_is_done, {
    let tasks = JoinableQueue::new().unwrap();
    tasks.put_many([1, 2, 3]).unwrap();
    assert_eq!(tasks.get_many(2).unwrap(), [1, 2]);
    let (there, come) = pipe().unwrap();
    let joining: Vec<_> = (0..3).map(|_| joins::spawn(tasks.clone(), there.try_clone().unwrap()).unwrap()).collect();
    joining.iter().for_each(|_| soon(&come));
    thread::scope(|scope| {
        let thread = scope.spawn(|| tasks.join().unwrap());
        (0..2).for_each(|_| tasks.task_done().unwrap());
        assert!(!tasks.join_timeout(A_WHILE).unwrap());
        assert!(!thread.is_finished() && joining.iter().all(|process| process.is_alive()));
        assert_eq!(tasks.get().unwrap(), 3);
        let begun = Instant::now();
        tasks.task_done().unwrap();
        thread.join().unwrap();
        joining.into_iter().for_each(|process| process.join().unwrap());
        assert!(begun.elapsed() < PROMPTLY);
    });
});

#[process_fn]
fn does_all(tasks: JoinableQueue<u32>) -> u32 {
    let done = tasks.iter().map(|task| {
        task.unwrap();
        tasks.task_done().unwrap();
    });
    done.count() as u32
}

scenario!(tasks_of_a_closed_queue_are_still_to_be_done, {
    let tasks = JoinableQueue::new().unwrap();
    tasks.put_many(0..100).unwrap();
    tasks.close();
    refused(tasks.put(100), |why| matches!(why, PutErrorReason::Closed));
    assert_eq!(tasks.unfinished(), 100);
    assert!(!tasks.join_timeout(Duration::from_millis(1)).unwrap());
    let children: Vec<_> = (0..2).map(|_| does_all::spawn(tasks.clone()).unwrap()).collect();
    tasks.join().unwrap();
    assert_eq!(children.into_iter().map(|child| child.join().unwrap()).sum::<u32>(), 100);
    assert!(matches!(tasks.get(), Err(GetError::Closed)));
    tasks.join().unwrap();
});

#[process_fn]
fn takes(tasks: JoinableQueue<u32>, most: usize, done: usize, there: Sender<()>) {
    assert_eq!(tasks.get_many(most).unwrap().len(), most);
    (0..done).for_each(|_| tasks.task_done().unwrap());
    there.send(()).unwrap();
    run_for_ever();
}

scenario!(what_was_abandoned_is_told_again_until_it_is_done_and_holds_no_other_task_up, {
    let tasks = JoinableQueue::new().unwrap();
    tasks.put_many(0..8).unwrap();
    let first = Held::start(|there| takes::call(tasks.clone(), 3, 1, there));
    let second = Held::start(|there| takes::call(tasks.clone(), 2, 0, there));
    assert!(!tasks.join_timeout(A_WHILE).unwrap());
    first.kill();
    are_abandoned(&tasks, 2);
    are_abandoned(&tasks, 2);
    // The others go on.
    let worker = does_all::spawn(tasks.clone()).unwrap();
    second.kill();
    tasks.put_many(8..20).unwrap();
    while tasks.unfinished() > 4 {
        thread::yield_now();
    }
    are_abandoned(&tasks, 4);
    (0..3).for_each(|_| tasks.task_done().unwrap());
    are_abandoned(&tasks, 1);
    assert!(matches!(tasks.join_timeout(PATIENCE), Err(JoinError::Abandoned { tasks: 1 })));
    tasks.task_done().unwrap();
    tasks.join().unwrap();
    tasks.task_done().unwrap_err();
    tasks.close();
    assert_eq!(worker.join().unwrap(), 15);
});

#[process_fn]
fn takes_and_drops(tasks: JoinableQueue<u32>, there: Sender<()>) {
    tasks.get().unwrap();
    drop(tasks);
    there.send(()).unwrap();
    run_for_ever();
}

scenario!(a_task_of_a_process_that_dropped_the_queue_is_abandoned, {
    let tasks = JoinableQueue::new().unwrap();
    tasks.put(1).unwrap();
    let holder = Held::start(|there| takes_and_drops::call(tasks.clone(), there));
    are_abandoned(&tasks, 1);
    tasks.task_done().unwrap();
    tasks.join().unwrap();
    holder.kill();
});

#[process_fn]
fn takes_as_a_queue(tasks: Queue<String>) {
    assert!(matches!(tasks.get(), Err(GetError::Decode(_))));
}

// Whatever handle gets it, and even if it is no value there.
scenario!(a_value_that_does_not_decode_is_a_task, {
    let tasks = JoinableQueue::<Vec<u64>>::new().unwrap();
    tasks.put(vec![u64::MAX]).unwrap();
    let plain: Queue<String> = mp_core::raw::Message::encode(&tasks).unwrap().decode().unwrap();
    takes_as_a_queue::spawn(plain).unwrap().join().unwrap();
    assert!(tasks.is_empty());
    are_abandoned(&tasks, 1);
    tasks.task_done().unwrap();
    tasks.join().unwrap();
});

scenario!(tasks_that_nobody_can_take_are_told, {
    let tasks = JoinableQueue::new().unwrap();
    tasks.put_many([1, 2]).unwrap();
    // Before it was sent, another thread may do them.
    assert!(!tasks.join_timeout(A_WHILE).unwrap());
    let holder = Held::start(|there| takes::call(tasks.clone(), 1, 1, there));
    assert!(!tasks.join_timeout(A_WHILE).unwrap());
    holder.kill();
    let begun = Instant::now();
    assert!(matches!(tasks.join(), Err(JoinError::Disconnected)));
    assert!(begun.elapsed() < PROMPTLY);
});

#[process_fn]
fn does_all_the_time(tasks: JoinableQueue<u32>, most: usize, _end: Receiver<()>) {
    while let Ok(some) = tasks.get_many(most) {
        some.iter().for_each(|_| tasks.task_done().unwrap());
    }
}

// The numbers are read one after another while they change.
scenario!(nothing_is_abandoned_while_all_live, {
    let tasks = JoinableQueue::with_bytes(4096).unwrap();
    let (_alive, end) = pipe().unwrap();
    let children: Vec<_> = [1, 1, 7]
        .map(|most| does_all_the_time::spawn(tasks.clone(), most, end.try_clone().unwrap()).unwrap())
        .into_iter()
        .collect();
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                tasks.put(1).unwrap();
            }
        });
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_millis(700) {
            // A thread of this process does some, too.
            if let Some(_task) = tasks.try_get().unwrap() {
                tasks.task_done().unwrap();
            }
            tasks.join_timeout(Duration::from_micros(1)).unwrap();
        }
        is_over.store(true, Ordering::Relaxed);
    });
    tasks.join().unwrap();
    tasks.close();
    children.into_iter().for_each(|child| child.join().unwrap());
});
