//! Tasks in a copy of a process that `fork` made, and in its original.
#![cfg(feature = "async")]

use std::pin::pin;
use std::thread;
use std::time::Duration;

use futures_lite::future::poll_once;
use mp_core::{JoinError, Receiver, pipe, process_fn};
use mp_testing::copies::in_copy;
use pollster::block_on;

use crate::reactor::async_scenario;

async_scenario!(a_copy_that_drops_a_future_leaves_that_of_its_original_waiting, {
    let (sender, receiver) = pipe::<u32>().unwrap();
    let mut future = Some(Box::pin(async move { receiver.recv_async().await.unwrap() }));
    assert!(block_on(poll_once(future.as_mut().unwrap())).is_none());
    in_copy(|| drop(future.take()));
    thread::spawn(move || {
        thread::sleep(Duration::from_millis(20));
        sender.send(7).unwrap();
    });
    assert_eq!(block_on(future.unwrap()), 7);
});

async_scenario!(a_copy_waits_by_a_thread_of_its_own, {
    let (sender, receiver) = pipe::<u32>().unwrap();
    let mut future = pin!(receiver.recv_async());
    assert!(block_on(poll_once(future.as_mut())).is_none());
    in_copy(|| {
        thread::spawn(|| {
            let (sender, receiver) = pipe::<u32>().unwrap();
            thread::spawn(move || {
                thread::sleep(Duration::from_millis(20));
                sender.send(5).unwrap();
            });
            assert_eq!(block_on(receiver.recv_async()).unwrap(), 5);
        })
        .join()
        .unwrap();
        // One that its original began to wait for.
        sender.send(6).unwrap();
        assert_eq!(block_on(future.as_mut()).unwrap(), 6);
    });
    sender.send(7).unwrap();
    assert_eq!(block_on(future).unwrap(), 7);
});

#[process_fn]
fn wait_for_word(word: Receiver<u32>) -> u32 {
    word.recv().unwrap()
}

async_scenario!(a_copy_cannot_await_a_process_of_its_original, {
    let (say, word) = pipe().unwrap();
    let mut joining = IntoFuture::into_future(wait_for_word::spawn(word).unwrap());
    assert!(block_on(poll_once(&mut joining)).is_none());
    in_copy(|| assert!(matches!(block_on(&mut joining), Err(JoinError::Forked))));
    say.send(3).unwrap();
    assert_eq!(block_on(joining).unwrap(), 3);
});
