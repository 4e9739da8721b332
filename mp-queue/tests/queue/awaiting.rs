//! Waiting without a thread: futures, and descriptors for `wait`.

use std::future::{Future, poll_fn};
use std::os::fd::AsFd;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use mp_core::{Sender, pipe, process_fn, wait};
use mp_queue::{Consumer, GetError, Producer, PutErrorReason, Queue};
use mp_testing::victims::{Held, soon as received};
use mp_testing::{PATIENCE, PROMPTLY, run_for_ever, scenario};
use pollster::block_on;

use crate::messages::Bundle;
use crate::{next, refused, soon};

/// Polls a future once.
fn poll_once<F: Future>(future: Pin<&mut F>) -> Option<F::Output> {
    match future.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}

/// Starts the thread that waits for tasks: it stays, and would count as a leak.
pub(crate) fn start_reactor() {
    let (_to, from) = pipe::<()>().unwrap();
    assert!(poll_once(pin!(from.recv_async())).is_none());
}

/// Declares a test as `scenario!` does, where tasks wait.
macro_rules! async_scenario {
    ($name:ident, $body:block) => {
        #[test]
        fn $name() {
            #[mp_core::process_fn]
            fn $name() {
                $crate::awaiting::start_reactor();
                mp_testing::leaks::check(|| $body);
            }
            mp_testing::run::<$name>(mp_testing::LIMIT);
        }
    };
}
pub(crate) use async_scenario;

#[process_fn]
fn counts(queue: Producer<u32>, to: u32) {
    for number in 0..to {
        queue.put(number).unwrap();
    }
}

#[process_fn]
async fn counts_waiting(queue: Producer<u32>, to: u32) {
    for number in 0..to {
        queue.put_async(number).await.unwrap();
    }
}

async fn all_of(queue: &Consumer<u32>) -> Vec<u32> {
    let mut values = Vec::new();
    loop {
        match queue.get_async().await {
            Ok(value) => values.push(value),
            Err(GetError::Disconnected | GetError::Closed) => return values,
            Err(error) => panic!("{error}"),
        }
    }
}

#[process_fn]
async fn gets_waiting(queue: Consumer<u32>) -> Vec<u32> {
    all_of(&queue).await
}

#[process_fn]
fn gets(queue: Consumer<u32>) -> Vec<u32> {
    queue.iter().map(Result::unwrap).collect()
}

async_scenario!(values_are_awaited_in_order_until_the_end, {
    for bound in [1, 3, 1_000] {
        let (to, from) = Queue::bounded(bound).unwrap().into_split();
        let child = counts::spawn(to, 1_000).unwrap();
        assert!(block_on(all_of(&from)).into_iter().eq(0..1_000));
        child.join().unwrap();
        let (to, from) = Queue::bounded(bound).unwrap().into_split();
        let child = gets::spawn(from).unwrap();
        block_on(async {
            for number in 0..1_000 {
                to.put_async(number).await.unwrap();
            }
        });
        drop(to);
        assert!(child.join().unwrap().into_iter().eq(0..1_000));
    }
});

/// Runs two futures at once.
async fn both<A: Future, B: Future>(one: A, other: B) -> (A::Output, B::Output) {
    let (mut one, mut other) = (pin!(one), pin!(other));
    let (mut first, mut second) = (None, None);
    poll_fn(|context| {
        if first.is_none() {
            if let Poll::Ready(output) = one.as_mut().poll(context) {
                first = Some(output);
            }
        }
        if second.is_none() {
            if let Poll::Ready(output) = other.as_mut().poll(context) {
                second = Some(output);
            }
        }
        if first.is_some() && second.is_some() { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    (first.unwrap(), second.unwrap())
}

async_scenario!(each_value_goes_to_one_of_the_tasks_threads_and_processes_that_wait, {
    for bound in [1, 2, 64] {
        let (to, from) = Queue::bounded(bound).unwrap().into_split();
        let getting = [gets_waiting::spawn(from.clone()).unwrap(), gets::spawn(from.clone()).unwrap()];
        let putting = [counts::spawn(to.clone(), 700).unwrap(), counts_waiting::spawn(to.clone(), 700).unwrap()];
        let mut all: Vec<u32> = thread::scope(|scope| {
            let putting = scope.spawn(move || {
                let put = |to: Producer<u32>| async move {
                    for number in 0..700 {
                        to.put_async(number).await.unwrap();
                    }
                };
                // Two of the same task.
                block_on(both(put(to.clone()), put(to)));
            });
            let tasks = scope.spawn(|| block_on(both(all_of(&from), all_of(&from))));
            let values = block_on(all_of(&from));
            putting.join().unwrap();
            let (one, other) = tasks.join().unwrap();
            [values, one, other].concat()
        });
        putting.into_iter().for_each(|child| child.join().unwrap());
        for child in getting {
            all.extend(child.join().unwrap());
        }
        all.sort_unstable();
        assert!(all.into_iter().eq((0..700).flat_map(|number| [number; 4])));
    }
});

async_scenario!(futures_that_are_dropped_lose_nothing, {
    let queue = Queue::bounded(2).unwrap();
    for number in 0..300 {
        assert!(poll_once(pin!(queue.get_async())).is_none());
        queue.put(number).unwrap();
        queue.put(number).unwrap();
        assert!(poll_once(pin!(queue.put_async(1_000))).is_none());
        assert_eq!(next(&queue), number);
        // It is polled in the very moment in which there is something.
        let mut waits = pin!(queue.get_async());
        assert_eq!(poll_once(waits.as_mut()).unwrap().unwrap(), number);
        let waits = queue.get_async();
        drop(waits);
        assert!(queue.is_empty());
    }
    let (to, from) = queue.into_split();
    let child = counts::spawn(to, 2_000).unwrap();
    let mut got = 0;
    while got < 2_000 {
        match poll_once(pin!(from.get_async())) {
            Some(value) => {
                assert_eq!(value.unwrap(), got);
                got += 1;
            }
            None => thread::yield_now(),
        }
    }
    child.join().unwrap();
});

async_scenario!(tasks_get_back_what_they_cannot_put, {
    let queue = Queue::bounded(1).unwrap();
    queue.put(1).unwrap();
    let mut waits = pin!(queue.put_async(2));
    assert!(poll_once(waits.as_mut()).is_none());
    queue.close();
    assert_eq!(refused(block_on(waits), |why| matches!(why, PutErrorReason::Closed)), 2);
    assert_eq!(block_on(queue.get_async()).unwrap(), 1);
    assert!(matches!(block_on(queue.get_async()), Err(GetError::Closed)));
    assert!(matches!(block_on(queue.consumer().get_async()), Err(GetError::Closed)));
    let mute = Queue::new().unwrap();
    let error = block_on(mute.put_async(crate::batches::Picky::Mute(3))).unwrap_err();
    assert!(matches!(error.reason, PutErrorReason::Encode(_)));
});

#[process_fn]
async fn waits_for_the_end(queue: Consumer<u32>, there: Sender<()>) -> bool {
    let mut waits = pin!(queue.get_async());
    assert!(poll_once(waits.as_mut()).is_none());
    there.send(()).unwrap();
    matches!(waits.await, Err(GetError::Disconnected | GetError::Closed))
}

#[process_fn]
async fn waits_for_room(queue: Producer<u32>, there: Sender<()>) -> bool {
    let mut waits = pin!(queue.put_async(9));
    assert!(poll_once(waits.as_mut()).is_none());
    there.send(()).unwrap();
    matches!(waits.await.unwrap_err().reason, PutErrorReason::Disconnected | PutErrorReason::Closed)
}

#[process_fn]
fn has_a_producer(_to: Producer<u32>, there: Sender<()>) {
    there.send(()).unwrap();
    run_for_ever();
}

#[process_fn]
fn has_a_consumer(_from: Consumer<u32>, there: Sender<()>) {
    there.send(()).unwrap();
    run_for_ever();
}

async_scenario!(tasks_are_told_promptly_of_closing_dropping_and_killing, {
    enum How {
        Close,
        Drop,
        Kill,
    }
    for how in [How::Close, How::Drop, How::Kill] {
        let (there, come) = pipe().unwrap();
        let (to, from) = Queue::bounded(1).unwrap().into_split();
        let holder = Held::start(|there| has_a_producer::call(to.clone(), there));
        let tasks: Vec<_> =
            (0..2).map(|_| waits_for_the_end::spawn(from.clone(), there.try_clone().unwrap()).unwrap()).collect();
        tasks.iter().for_each(|_| received(&come));
        let mut own = pin!(from.get_async());
        assert!(poll_once(own.as_mut()).is_none());
        let mut holder = Some(holder);
        match how {
            How::Close => to.close(),
            How::Drop => {
                holder.take().unwrap().kill();
                drop(to);
            }
            How::Kill => {
                drop(to);
                holder.take().unwrap().kill();
            }
        }
        let begun = Instant::now();
        assert!(block_on(own).is_err());
        assert!(tasks.into_iter().all(|task| task.join().unwrap()));
        assert!(begun.elapsed() < PROMPTLY);
        holder.into_iter().for_each(Held::kill);
    }
    for how in [How::Close, How::Drop, How::Kill] {
        let (there, come) = pipe().unwrap();
        let (to, from) = Queue::bounded(1).unwrap().into_split();
        to.put(1).unwrap();
        let holder = Held::start(|there| has_a_consumer::call(from.clone(), there));
        let tasks: Vec<_> =
            (0..2).map(|_| waits_for_room::spawn(to.clone(), there.try_clone().unwrap()).unwrap()).collect();
        tasks.iter().for_each(|_| received(&come));
        let mut own = pin!(to.put_async(2));
        assert!(poll_once(own.as_mut()).is_none());
        let mut holder = Some(holder);
        match how {
            How::Close => from.close(),
            How::Drop => {
                holder.take().unwrap().kill();
                drop(from);
            }
            How::Kill => {
                drop(from);
                holder.take().unwrap().kill();
            }
        }
        let begun = Instant::now();
        assert!(block_on(own).is_err());
        assert!(tasks.into_iter().all(|task| task.join().unwrap()));
        assert!(begun.elapsed() < PROMPTLY);
        holder.into_iter().for_each(Held::kill);
    }
});

/// Waits as poll(2) does.
#[track_caller]
fn is_ready_soon(readable: impl AsFd) {
    assert_eq!(wait(&[&readable.as_fd()], Some(PATIENCE)).unwrap(), [0], "it becomes ready");
}

fn is_ready(readable: impl AsFd) -> bool {
    !wait(&[&readable.as_fd()], Some(Duration::ZERO)).unwrap().is_empty()
}

scenario!(a_descriptor_says_whether_a_get_or_a_put_would_wait, {
    let queue = Queue::bounded(2).unwrap();
    for number in 0..50 {
        assert!(!is_ready(queue.readable().unwrap()) && is_ready(queue.writable().unwrap()));
        queue.put(number).unwrap();
        assert!(is_ready(queue.readable().unwrap()) && is_ready(queue.writable().unwrap()));
        queue.put(number).unwrap();
        assert!(is_ready(queue.readable().unwrap()) && !is_ready(queue.writable().unwrap()));
        assert_eq!(queue.drain().unwrap(), [number, number]);
    }
    queue.close();
    assert!(is_ready(queue.readable().unwrap()) && is_ready(queue.writable().unwrap()));
});

/// Gets by waiting for the descriptor, and counts.
fn gets_by_waiting(queue: &Queue<u32>) -> Vec<u32> {
    let mut values = Vec::new();
    loop {
        is_ready_soon(queue.readable().unwrap());
        match queue.try_get() {
            Ok(value) => values.extend(value),
            Err(GetError::Closed) => return values,
            Err(error) => panic!("{error}"),
        }
    }
}

#[process_fn]
fn gets_when_readable(queue: Queue<u32>) -> Vec<u32> {
    gets_by_waiting(&queue)
}

#[process_fn]
fn puts_when_writable(queue: Queue<u32>, count: u32) {
    for number in 0..count {
        while queue.try_put(number).is_err() {
            is_ready_soon(queue.writable().unwrap());
        }
    }
}

// The more of them wait, the more often one takes from another what it was woken for.
scenario!(many_processes_wait_for_descriptors_and_miss_nothing, {
    for bound in [1, 5] {
        let queue = Queue::bounded(bound).unwrap();
        let getting: Vec<_> = (0..3).map(|_| gets_when_readable::spawn(queue.clone()).unwrap()).collect();
        let putting: Vec<_> = (0..3).map(|_| puts_when_writable::spawn(queue.clone(), 1_000).unwrap()).collect();
        putting.into_iter().for_each(|child| child.join().unwrap());
        queue.close();
        let mut all: Vec<_> = getting.into_iter().flat_map(|child| child.join().unwrap()).collect();
        all.sort_unstable();
        assert!(all.into_iter().eq((0..1_000).flat_map(|number| [number; 3])));
    }
});

/// Passes what it gets on, each way of waiting once.
#[process_fn]
fn echoes(from: Queue<u32>, to: Queue<u32>, by: u32) {
    let mut number = by;
    loop {
        let value = match number % 4 {
            0 => from.get(),
            1 => {
                is_ready_soon(from.readable().unwrap());
                match from.try_get() {
                    Ok(None) => continue,
                    other => other.map(Option::unwrap),
                }
            }
            2 => block_on(from.get_async()),
            _ => match from.get_timeout(Duration::from_millis(1)) {
                Ok(None) => continue,
                other => other.map(Option::unwrap),
            },
        };
        match value {
            Ok(value) => to.put(value).unwrap(),
            Err(GetError::Closed) => return,
            Err(error) => panic!("{error}"),
        }
        number += 1;
    }
}

// There is one value at a time: whoever is not woken for it holds up all.
scenario!(a_single_value_wakes_one_of_those_that_wait_in_any_way, {
    let (there, back) = (Queue::new().unwrap(), Queue::new().unwrap());
    let children: Vec<_> = (0..4).map(|by| echoes::spawn(there.clone(), back.clone(), by).unwrap()).collect();
    for number in 0..2_000 {
        there.put(number).unwrap();
        assert_eq!(next(&back), number);
    }
    there.close();
    children.into_iter().for_each(|child| child.join().unwrap());
});

scenario!(a_descriptor_tells_of_a_drop_and_of_a_death, {
    let (to, from) = Queue::<u32>::new().unwrap().into_split();
    let queue = Queue::<u32>::new().unwrap();
    let (own_to, own_from) = (queue.producer(), queue.consumer());
    drop((own_to, own_from));
    let holder = Held::start(|there| has_a_producer::call(to.clone(), there));
    drop(to);
    let begun = Instant::now();
    thread::scope(|scope| {
        let waiting = scope.spawn(|| soon_ended(&from));
        holder.kill();
        waiting.join().unwrap();
    });
    assert!(begun.elapsed() < PROMPTLY);
});

/// Waits for the descriptor of a queue until its end.
#[track_caller]
fn soon_ended(from: &Consumer<u32>) {
    loop {
        is_ready_soon(from.readable().unwrap());
        match from.try_get() {
            Ok(None) => {}
            Err(GetError::Disconnected) => return,
            other => panic!("{other:?}"),
        }
    }
}

// The lane is full, and the ring is not.
async_scenario!(a_task_that_waits_for_the_lane_gets_room, {
    if !mp_testing::limits::allow_descriptors(4096) {
        return;
    }
    let (to, from) = Queue::new().unwrap().into_split();
    let put = (0..).take_while(|number| to.try_put(Bundle::new(*number, 1, 0)).is_ok()).count() as u32;
    let mut waits = pin!(to.put_async(Bundle::new(put, 1, 0)));
    assert!(poll_once(waits.as_mut()).is_none());
    thread::scope(|scope| {
        scope.spawn(|| (0..put + 1).for_each(|number| soon(&from).check(number, 1, 0)));
        block_on(waits).unwrap();
    });
});
