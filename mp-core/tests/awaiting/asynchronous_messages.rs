//! Messages that tasks wait for, and room for them.
#![cfg(feature = "async")]

use std::cell::Cell;
use std::pin::pin;
use std::thread;
use std::time::Duration;

use crate::on_tokio;
use crate::reactor::async_scenario;
use futures_lite::future::{block_on, poll_once, zip};
use mp_core::{Connection, Receiver, RecvError, SendErrorReason, Sender, duplex, pipe, process_fn};
use mp_testing::PATIENCE;
use rustix::fs::OFlags;
use serde_bytes::ByteBuf;

#[process_fn]
fn count(to: u32, numbers: Sender<u32>) {
    for number in 0..to {
        numbers.send(number).unwrap();
    }
}

async fn sum_of(receiver: &Receiver<u32>) -> (u32, u64) {
    let (mut messages, mut sum) = (0, 0);
    loop {
        match receiver.recv_async().await {
            Ok(number) => (messages, sum) = (messages + 1, sum + u64::from(number)),
            Err(RecvError::Disconnected) => return (messages, sum),
            Err(error) => panic!("{error}"),
        }
    }
}

async_scenario!(messages_are_awaited_on_any_executor_until_the_end, {
    let start = || {
        let (sender, receiver) = pipe().unwrap();
        (count::spawn(1000, sender).unwrap(), receiver)
    };
    for executor in [pollster::block_on, block_on, on_tokio] {
        let (child, receiver) = start();
        assert_eq!(executor(Box::pin(async move { sum_of(&receiver).await })), (1000, 499_500));
        child.join().unwrap();
    }
});

#[process_fn]
fn send_and_wait(numbers: Sender<u32>) {
    numbers.send(1).unwrap();
    numbers.send(2).unwrap();
    loop {
        thread::park();
    }
}

async_scenario!(a_sender_that_is_killed_ends_the_wait, {
    let (sender, receiver) = pipe().unwrap();
    let child = send_and_wait::spawn(sender).unwrap();
    block_on(async {
        assert_eq!(receiver.recv_async().await.unwrap(), 1);
        assert_eq!(receiver.recv_async().await.unwrap(), 2);
        let mut end = pin!(receiver.recv_async());
        assert!(poll_once(&mut end).await.is_none());
        child.kill().unwrap();
        assert!(matches!(end.await, Err(RecvError::Disconnected)));
        child.await.unwrap_err();
    });
});

async_scenario!(futures_that_are_dropped_take_no_message, {
    const COUNT: u32 = 2000;
    let (sender, receiver) = pipe().unwrap();
    let child = count::spawn(COUNT, sender).unwrap();
    on_tokio(async {
        for number in 0..COUNT {
            let received = loop {
                // Each is polled, waits, and is dropped, unless it is quick.
                let limit = Duration::from_micros(u64::from(number % 5) * 20);
                match tokio::time::timeout(limit, receiver.recv_async()).await {
                    Ok(received) => break received,
                    Err(_) => tokio::task::yield_now().await,
                }
            };
            assert_eq!(received.unwrap(), number);
        }
        assert!(matches!(receiver.recv_async().await, Err(RecvError::Disconnected)));
    });
    child.join().unwrap();
});

async_scenario!(each_message_goes_to_one_of_those_that_wait, {
    const COUNT: u32 = 3000;
    let (sender, receiver) = pipe().unwrap();
    let child = count::spawn(COUNT, sender).unwrap();
    let by_thread = |by: usize| {
        let receiver = &receiver;
        move || match by {
            0 => {
                receiver.iter().fold((0, 0), |(messages, sum), number| (messages + 1, sum + u64::from(number.unwrap())))
            }
            1 => block_on(async {
                // Two of the same task.
                let (one, other) = zip(sum_of(receiver), sum_of(receiver)).await;
                (one.0 + other.0, one.1 + other.1)
            }),
            _ => block_on(sum_of(receiver)),
        }
    };
    let (messages, sum) = thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|by| scope.spawn(by_thread(by))).collect();
        let results = threads.into_iter().map(|thread| thread.join().unwrap());
        results.fold((0, 0), |all, one| (all.0 + one.0, all.1 + one.1))
    });
    assert_eq!((messages, sum), (COUNT, u64::from(COUNT) * u64::from(COUNT - 1) / 2));
    child.join().unwrap();
});

async_scenario!(a_send_that_is_dropped_has_sent_nothing, {
    let (sender, receiver) = pipe::<ByteBuf>().unwrap();
    let mut sent = 0;
    while sender.try_send(ByteBuf::from(vec![1; 100])).is_ok() {
        sent += 1;
    }
    block_on(async {
        assert!(poll_once(sender.send_async(ByteBuf::from(vec![2; 10]))).await.is_none());
        let mut waits = pin!(sender.send_async(ByteBuf::from(vec![3; 60_000])));
        assert!(poll_once(&mut waits).await.is_none());
        for _ in 0..sent {
            assert_eq!(receiver.recv_async().await.unwrap(), vec![1; 100]);
        }
        assert!(poll_once(receiver.recv_async()).await.is_none());
        waits.await.unwrap();
        assert_eq!(receiver.recv_async().await.unwrap(), vec![3; 60_000]);
        assert!(poll_once(receiver.recv_async()).await.is_none());
    });
});

async_scenario!(a_third_large_message_waits_until_one_was_read, {
    let large = |byte| ByteBuf::from(vec![byte; 1 << 20]);
    let (sender, receiver) = pipe::<ByteBuf>().unwrap();
    block_on(async {
        sender.send_async(large(1)).await.unwrap();
        sender.send_async(large(2)).await.unwrap();
        // Several wait; those that are short do not.
        let (mut third, mut fourth) = (pin!(sender.send_async(large(3))), pin!(sender.send_async(large(4))));
        assert!(poll_once(&mut third).await.is_none());
        assert!(poll_once(&mut fourth).await.is_none());
        sender.send_async(ByteBuf::from([5])).await.unwrap();
        assert_eq!(receiver.recv_async().await.unwrap(), large(1));
        assert_eq!(receiver.recv_async().await.unwrap(), large(2));
        assert_eq!(receiver.recv_async().await.unwrap(), [5]);
        let both = zip(third, fourth);
        let ((third, fourth), received) = zip(both, zip(receiver.recv_async(), receiver.recv_async())).await;
        third.unwrap();
        fourth.unwrap();
        let mut received = [received.0.unwrap()[0], received.1.unwrap()[0]];
        received.sort_unstable();
        assert_eq!(received, [3, 4]);
    });
});

#[process_fn]
fn receive_lengths(messages: Receiver<ByteBuf>) -> (u32, u64) {
    messages.iter().fold((0, 0), |(count, sum), message| (count + 1, sum + message.unwrap().len() as u64))
}

async_scenario!(threads_and_tasks_send_large_messages_through_one_end, {
    const EACH: u64 = 40;
    let (sender, receiver) = pipe::<ByteBuf>().unwrap();
    let child = receive_lengths::spawn(receiver).unwrap();
    let length = |number: u64| if number % 3 == 0 { 400_000 } else { 70_000 };
    let message = |number| ByteBuf::from(vec![0; length(number)]);
    thread::scope(|scope| {
        scope.spawn(|| (0..EACH).for_each(|number| sender.send(message(number)).unwrap()));
        scope.spawn(|| (0..EACH).for_each(|number| sender.send_timeout(message(number), PATIENCE).unwrap()));
        for _ in 0..2 {
            scope.spawn(|| {
                block_on(async {
                    for number in 0..EACH {
                        sender.send_async(message(number)).await.unwrap();
                    }
                });
            });
        }
    });
    drop(sender);
    let sum: usize = (0..EACH).map(length).sum();
    assert_eq!(block_on(child.into_future()).unwrap(), (4 * EACH as u32, 4 * sum as u64));
});

async_scenario!(a_task_goes_on_when_a_thread_gives_up_its_turn, {
    let large = |byte| ByteBuf::from(vec![byte; 300_000]);
    for _ in 0..10 {
        let (sender, receiver) = pipe::<ByteBuf>().unwrap();
        let mut sent = 0;
        while sender.try_send(ByteBuf::from(vec![1; 100])).is_ok() {
            sent += 1;
        }
        thread::scope(|scope| {
            // There is no room, so it has the turn until its time is up.
            let thread = scope.spawn(|| sender.send_timeout(large(2), Duration::from_millis(5)));
            let task = scope.spawn(|| block_on(sender.send_async(large(3))));
            assert!(matches!(thread.join().unwrap().unwrap_err().reason, SendErrorReason::TimedOut));
            (0..sent).for_each(|_| assert_eq!(receiver.recv().unwrap(), vec![1; 100]));
            assert_eq!(receiver.recv().unwrap(), large(3));
            task.join().unwrap().unwrap();
        });
        assert!(receiver.try_recv().unwrap().is_none());
    }
});

async_scenario!(what_cannot_be_sent_is_given_back, {
    for length in [10, 300_000] {
        let value = ByteBuf::from(vec![1; length]);
        let (sender, receiver) = pipe::<ByteBuf>().unwrap();
        while sender.try_send(value.clone()).is_ok() {}
        let mut waits = pin!(sender.send_async(value.clone()));
        assert!(block_on(poll_once(&mut waits)).is_none());
        drop(receiver);
        let error = block_on(waits).unwrap_err();
        assert!(matches!(error.reason, SendErrorReason::Disconnected), "{error:?}");
        assert_eq!(error.into_inner(), value);
        let error = block_on(sender.send_async(value.clone())).unwrap_err();
        assert!(matches!(error.reason, SendErrorReason::Disconnected), "{error:?}");
    }
    let (sender, receiver) = pipe::<String>().unwrap();
    mp_core::set_message_limit(100_000);
    let error = block_on(sender.send_async("x".repeat(200_000))).unwrap_err();
    assert!(matches!(error.reason, SendErrorReason::Encode(_)), "{error:?}");
    assert_eq!(error.into_inner(), "x".repeat(200_000));
    drop(sender);
    assert!(matches!(receiver.try_recv(), Err(RecvError::Disconnected)));
});

#[process_fn]
fn echo(connection: Connection<u64, u64>) {
    pollster::block_on(async {
        while let Ok(number) = connection.recv_async().await {
            connection.send_async(number).await.unwrap();
        }
    });
}

async_scenario!(both_directions_wait_at_once, {
    const COUNT: u64 = 3000;
    // Whichever waits first, the other's wait does not end its own.
    for receive_first in [true, false] {
        let (mine, theirs) = duplex::<u64, u64>().unwrap();
        let child = echo::spawn(theirs).unwrap();
        // More than fits: who sends has to wait for room, and the other to receive.
        let send = async {
            for number in 0..COUNT {
                mine.send_async(number).await.unwrap();
            }
        };
        let receive = async {
            for number in 0..COUNT {
                assert_eq!(mine.recv_async().await.unwrap(), number);
            }
        };
        if receive_first {
            block_on(zip(receive, send));
        } else {
            block_on(zip(send, receive));
        }
        drop(mine);
        child.join().unwrap();
    }
});

async_scenario!(the_socket_stays_as_it_is_and_the_futures_can_go_to_other_threads, {
    fn is_send<T: Send>(value: T) -> T {
        value
    }
    let (sender, receiver) = pipe::<Cell<u8>>().unwrap();
    let mut message = pin!(is_send(receiver.recv_async()));
    assert!(block_on(poll_once(&mut message)).is_none());
    block_on(is_send(sender.send_async(Cell::new(1)))).unwrap();
    assert_eq!(block_on(message).unwrap().get(), 1);
    for flags in [rustix::fs::fcntl_getfl(&sender), rustix::fs::fcntl_getfl(&receiver)] {
        assert!(!flags.unwrap().contains(OFlags::NONBLOCK));
    }
    // A message with handles: they arrive, and the originals are closed.
    let (inner, far) = pipe::<u8>().unwrap();
    let (outer, ends) = pipe::<Sender<u8>>().unwrap();
    block_on(outer.send_async(inner)).unwrap();
    block_on(ends.recv_async()).unwrap().send(3).unwrap();
    assert_eq!(far.recv().unwrap(), 3);
    assert!(matches!(far.recv(), Err(RecvError::Disconnected)));
});

async_scenario!(who_begins_to_wait_ends_nobody_elses_wait, {
    let (mine, theirs) = duplex::<u64, u64>().unwrap();
    while mine.try_send(0).is_ok() {}
    {
        let (mut message, mut room) = (pin!(mine.recv_async()), pin!(mine.send_async(1)));
        assert!(block_on(poll_once(&mut message)).is_none());
        assert!(block_on(poll_once(&mut room)).is_none());
        theirs.send(2).unwrap();
        assert_eq!(block_on(message).unwrap(), 2);
    }
    let (mut room, mut message) = (pin!(mine.send_async(3)), pin!(mine.recv_async()));
    assert!(block_on(poll_once(&mut room)).is_none());
    assert!(block_on(poll_once(&mut message)).is_none());
    while theirs.try_recv().unwrap().is_some() {}
    block_on(room).unwrap();
    assert_eq!(theirs.recv().unwrap(), 3);
});
