//! Tasks that are awaited, called back, or waited for among other things.

use std::sync::mpsc;
use std::time::Duration;

use mp_core::{Receiver, pipe, process_fn, wait};
use mp_pool::{Pool, TaskError};
use mp_testing::scenario;

#[process_fn]
fn double(number: u64) -> u64 {
    number * 2
}

#[process_fn]
fn wait_for_end(number: u64, until: Receiver<()>) -> u64 {
    assert!(until.iter().next().is_none());
    number
}

scenario!(tasks_are_awaited_on_any_executor, {
    let pool = Pool::new(2).unwrap();
    let sum = pollster::block_on(async {
        let tasks: Vec<_> = (0..100).map(|number| pool.submit(double::call(number))).collect();
        let mut sum = 0;
        for task in tasks.into_iter().rev() {
            sum += task.await.unwrap();
        }
        sum
    });
    assert_eq!(sum, 9_900);
    let (let_go, until) = pipe::<()>().unwrap();
    futures_lite::future::block_on(async {
        let mut slow = pool.submit(wait_for_end::call(7, until));
        let first = futures_lite::future::or(async { (&mut slow).await.is_ok() }, async {
            pool.submit(double::call(1)).await.unwrap();
            false
        });
        assert!(!first.await);
        drop(let_go);
        assert_eq!((&mut slow).await, Ok(7));
        assert_eq!(slow.await, Err(TaskError::AlreadyJoined));
    });
});

#[cfg(feature = "async")]
scenario!(lazy_maps_are_streams, {
    use futures_lite::StreamExt;
    let pool = Pool::new(2).unwrap();
    futures_lite::future::block_on(async {
        let ordered: Vec<u64> = pool.imap::<double>(0..5_000).into_stream().map(Result::unwrap).collect().await;
        assert!(ordered.into_iter().eq((0..5_000).map(|number| number * 2)));
        let mut seen = vec![false; 5_000];
        let mut values = pool.imap_unordered::<double>(0..5_000).into_stream();
        while let Some((index, value)) = values.next().await {
            assert_eq!(value, Ok(index as u64 * 2));
            assert!(!std::mem::replace(&mut seen[index], true));
        }
        assert!(seen.into_iter().all(|seen| seen));
    });
});

scenario!(callbacks_are_called_once_also_after_the_end, {
    let pool = Pool::new(2).unwrap();
    let (sender, receiver) = mpsc::channel();
    for number in 0..100 {
        let sender = sender.clone();
        let task = pool.submit(double::call(number));
        if number % 2 == 0 {
            mp_testing::eventually("it is done", || task.is_done());
        }
        task.on_done(move |value| sender.send(value.unwrap()).unwrap());
    }
    drop(sender);
    let mut values: Vec<u64> = receiver.iter().collect();
    values.sort_unstable();
    assert!(values.into_iter().eq((0..100).map(|number| number * 2)));
});

scenario!(a_callback_that_panics_or_waits_harms_nobody, {
    let pool = Pool::new(1).unwrap();
    let (let_go, until) = mpsc::channel::<()>();
    let (sender, receiver) = mpsc::channel();
    pool.submit(double::call(1)).on_done(|_| panic!("on purpose"));
    pool.submit(double::call(2)).on_done(move |_| assert!(until.recv().is_err()));
    pool.submit(double::call(3)).on_done(move |value| sender.send(value).unwrap());
    // No task waits for them.
    assert_eq!(pool.map::<double>(0..1_000).unwrap().len(), 1_000);
    drop(let_go);
    assert_eq!(receiver.recv().unwrap(), Ok(6));
});

scenario!(a_callback_is_told_of_the_end_of_the_pool, {
    let pool = Pool::new(1).unwrap();
    let (_let_go, until) = pipe::<()>().unwrap();
    let (sender, receiver) = mpsc::channel();
    pool.submit(wait_for_end::call(1, until)).on_done(move |value| sender.send(value).unwrap());
    drop(pool);
    assert_eq!(receiver.recv().unwrap(), Err(TaskError::PoolClosed));
});

scenario!(tasks_are_waited_for_among_other_things, {
    let pool = Pool::new(2).unwrap();
    let (let_go, until) = pipe::<()>().unwrap();
    let (_idle, other) = pipe::<()>().unwrap();
    let (slow, fast) = (pool.submit(wait_for_end::call(1, until)), pool.submit(double::call(2)));
    let (slow_sentinel, fast_sentinel) = (slow.sentinel().unwrap(), fast.sentinel().unwrap());
    assert_eq!(wait(&[&other, &slow_sentinel, &fast_sentinel], None).unwrap(), [2]);
    assert_eq!(fast.join(), Ok(4));
    assert!(wait(&[&other, &slow_sentinel], Some(Duration::ZERO)).unwrap().is_empty());
    drop(let_go);
    assert_eq!(wait(&[&other, &slow_sentinel], None).unwrap(), [1]);
    assert!(slow.is_finished());
    // Of a task that has ended it is ready from the beginning.
    assert_eq!(wait(&[&slow.sentinel().unwrap()], None).unwrap(), [0]);
    assert_eq!(slow.join(), Ok(1));
});
