//! When the other side is gone: dropped, killed, or on its way in a message.

use std::thread;
use std::time::{Duration, Instant};

use mp_core::raw::Message;
use mp_core::{Process, Sender, pipe, process_fn};
use mp_queue::{Consumer, GetError, Producer, PutErrorReason, Queue};
use mp_testing::procfs::sleeps_on_a_futex;
use mp_testing::victims::{Held, soon as received};
use mp_testing::{PROMPTLY, eventually, run_for_ever, scenario};

use crate::{next, refused, soon};

/// Longer than it takes a call that waits to look again, twice.
const A_WHILE: Duration = Duration::from_millis(250);

fn is_disconnected(reason: &PutErrorReason) -> bool {
    matches!(reason, PutErrorReason::Disconnected)
}

#[track_caller]
fn ends<T>(result: Result<T, GetError>) {
    match result {
        Err(GetError::Disconnected) => {}
        Err(other) => panic!("{other:?}"),
        Ok(_) => panic!("there is something"),
    }
}

scenario!(consumers_get_what_is_left_and_then_the_end, {
    let (to, from) = Queue::bounded(8).unwrap().into_split();
    let copy = to.clone();
    to.put_many([1, 2]).unwrap();
    drop(to);
    assert_eq!(from.get().unwrap(), 1);
    copy.put(3).unwrap();
    drop(copy);
    assert_eq!(from.try_get().unwrap(), Some(2));
    assert_eq!(from.get_many(9).unwrap(), [3]);
    for _ in 0..2 {
        ends(from.get());
        ends(from.try_get());
        ends(from.get_timeout(PROMPTLY));
        ends(from.get_many(2).map_err(|error| error.reason));
        ends(from.drain().map_err(|error| error.reason));
        assert_eq!(from.iter().count(), 0);
        ends(from.clone().get());
    }
});

scenario!(producers_keep_their_values, {
    let (to, from) = Queue::bounded(2).unwrap().into_split();
    to.put(1).unwrap();
    let copy = from.clone();
    drop(from);
    to.put(2).unwrap();
    drop(copy);
    assert_eq!(refused(to.put(3), is_disconnected), 3);
    assert_eq!(refused(to.try_put(3), is_disconnected), 3);
    assert_eq!(refused(to.put_timeout(3, PROMPTLY), is_disconnected), 3);
    let error = to.put_many([4, 5]).unwrap_err();
    assert!(is_disconnected(&error.reason) && error.put == 0 && error.values == [4, 5]);
    refused(to.clone().put(3), is_disconnected);
});

#[process_fn]
fn gets_to_the_end(from: Consumer<u32>) -> Vec<u32> {
    let values = from.iter().map(Result::unwrap).collect();
    ends(from.get());
    values
}

#[process_fn]
fn puts_to_the_end(to: Producer<u32>) -> u32 {
    (0..).find(|number| to.put(*number).is_err_and(|error| is_disconnected(&error.reason))).unwrap()
}

scenario!(all_that_wait_are_told_promptly_of_a_drop, {
    let (to, from) = Queue::bounded(1).unwrap().into_split();
    let children: Vec<_> = (0..3).map(|_| gets_to_the_end::spawn(from.clone()).unwrap()).collect();
    children.iter().for_each(|child| eventually("it sleeps", || sleeps_on_a_futex(child.pid())));
    let begun = Instant::now();
    drop(to);
    assert!(children.into_iter().all(|child| child.join().unwrap().is_empty()));
    ends(from.get());
    assert!(begun.elapsed() < PROMPTLY);

    let (to, from) = Queue::bounded(1).unwrap().into_split();
    let children: Vec<_> = (0..3).map(|_| puts_to_the_end::spawn(to.clone()).unwrap()).collect();
    children.iter().for_each(|child| eventually("it sleeps", || sleeps_on_a_futex(child.pid())));
    let begun = Instant::now();
    drop(from);
    assert_eq!(children.into_iter().map(|child| child.join().unwrap()).sum::<u32>(), 1);
    refused(to.put(1), is_disconnected);
    assert!(begun.elapsed() < PROMPTLY);
});

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

#[process_fn]
fn has_a_queue(_queue: Queue<u32>, there: Sender<()>) {
    there.send(()).unwrap();
    run_for_ever();
}

scenario!(a_killed_producer_is_noticed_promptly, {
    for count in [1, 3] {
        let (to, from) = Queue::bounded(1).unwrap().into_split();
        let waiting = gets_to_the_end::spawn(from.clone()).unwrap();
        let mut holders: Vec<_> =
            (0..count).map(|_| Held::start(|there| has_a_producer::call(to.clone(), there))).collect();
        drop(to);
        while let Some(holder) = holders.pop() {
            assert!(from.get_timeout(Duration::from_millis(1)).unwrap().is_none());
            holder.kill();
        }
        let begun = Instant::now();
        ends(from.get());
        assert!(waiting.join().unwrap().is_empty());
        assert!(begun.elapsed() < PROMPTLY);
    }
});

scenario!(a_killed_consumer_is_noticed_promptly, {
    for count in [1, 3] {
        let (to, from) = Queue::bounded(2).unwrap().into_split();
        to.put_many([1, 2]).unwrap();
        let waiting = puts_to_the_end::spawn(to.clone()).unwrap();
        let mut holders: Vec<_> =
            (0..count).map(|_| Held::start(|there| has_a_consumer::call(from.clone(), there))).collect();
        drop(from);
        while let Some(holder) = holders.pop() {
            refused(to.put_timeout(3, Duration::from_millis(1)), |why| matches!(why, PutErrorReason::TimedOut));
            holder.kill();
        }
        let begun = Instant::now();
        refused(to.put(3), is_disconnected);
        assert_eq!(waiting.join().unwrap(), 0);
        assert!(begun.elapsed() < PROMPTLY);
    }
});

// The end is noticed by those who wait, be it in the lock behind another one who waits.
scenario!(threads_that_wait_behind_each_other_are_told_of_a_death, {
    let (to, from) = Queue::<u32>::bounded(1).unwrap().into_split();
    let holder = Held::start(|there| has_a_producer::call(to.clone(), there));
    drop(to);
    thread::scope(|scope| {
        let waiting: Vec<_> = (0..4).map(|_| scope.spawn(|| ends(from.get()))).collect();
        holder.kill();
        let begun = Instant::now();
        waiting.into_iter().for_each(|thread| thread.join().unwrap());
        assert!(begun.elapsed() < PROMPTLY);
    });
});

scenario!(a_half_in_flight_counts, {
    let (to, from) = Queue::new().unwrap().into_split();
    let (first, last) = pipe().unwrap();
    first.send(to).unwrap();
    assert!(from.get_timeout(A_WHILE).unwrap().is_none());
    let to: Producer<u32> = last.recv().unwrap();
    to.put(1).unwrap();
    assert_eq!(from.get().unwrap(), 1);
    // Encoded, and not even sent.
    let message = Message::encode(&to).unwrap();
    drop(to);
    assert!(from.get_timeout(A_WHILE).unwrap().is_none());
    drop(message);
    ends(from.get());

    let (to, from) = Queue::bounded(1).unwrap().into_split();
    to.put(1).unwrap();
    let (first, last) = pipe().unwrap();
    first.send(from).unwrap();
    refused(to.put_timeout(2, A_WHILE), |why| matches!(why, PutErrorReason::TimedOut));
    drop((first, last));
    refused(to.put(2), is_disconnected);
});

scenario!(a_half_in_another_queue_counts, {
    let outer = Queue::new().unwrap();
    let (to, from) = Queue::new().unwrap().into_split();
    to.put(1).unwrap();
    outer.put(to).unwrap();
    assert_eq!(from.get().unwrap(), 1);
    assert!(from.get_timeout(A_WHILE).unwrap().is_none());
    let to: Producer<u32> = outer.get().unwrap();
    to.put(2).unwrap();
    assert_eq!(from.get().unwrap(), 2);
    outer.put(to).unwrap();
    drop(outer);
    ends(from.get());
});

#[process_fn]
fn takes_and_holds(mail: Queue<Producer<u32>>, there: Sender<()>) {
    let to = mail.get().unwrap();
    to.put(1).unwrap();
    there.send(()).unwrap();
    run_for_ever();
}

scenario!(a_half_that_a_killed_process_got_from_a_queue_is_gone, {
    let mail = Queue::new().unwrap();
    let (to, from) = Queue::new().unwrap().into_split();
    mail.put(to).unwrap();
    let holder = Held::start(|there| takes_and_holds::call(mail.clone(), there));
    assert_eq!(soon(&from), 1);
    holder.kill();
    let begun = Instant::now();
    ends(from.get());
    assert!(begun.elapsed() < PROMPTLY);
});

#[process_fn]
fn puts_and_exits(to: Producer<u32>, count: u32) {
    to.put_many(0..count).unwrap();
    // Nothing is dropped.
    std::process::exit(0);
}

scenario!(what_a_process_put_before_its_end_is_gotten_first, {
    for _ in 0..5 {
        let (to, from) = Queue::bounded(7).unwrap().into_split();
        let child = puts_and_exits::spawn(to, 20).unwrap();
        assert!(from.iter().map(Result::unwrap).eq(0..20));
        ends(from.get());
        child.join().unwrap();
    }
});

// A handle that comes, goes and comes again is never taken for the last one.
scenario!(the_end_is_never_told_too_early, {
    let (to, from) = Queue::<u32>::new().unwrap().into_split();
    let mail = Queue::new().unwrap();
    thread::scope(|scope| {
        let passing = scope.spawn({
            let mail = mail.clone();
            move || {
                let mut to = to;
                for number in 0..300 {
                    match number % 4 {
                        0 => to = to.clone(),
                        1 => to = Message::encode(&to).unwrap().decode().unwrap(),
                        2 => {
                            mail.put(to).unwrap();
                            to = mail.get().unwrap();
                        }
                        _ => {
                            let (first, last) = pipe().unwrap();
                            first.send(to).unwrap();
                            to = last.recv().unwrap();
                        }
                    }
                }
                to.put(7).unwrap();
            }
        });
        // It asks the kernel each time.
        loop {
            match from.try_get().unwrap() {
                None => assert!(!passing.is_finished() || from.try_get().unwrap() == Some(7)),
                Some(number) => break assert_eq!(number, 7),
            }
            if passing.is_finished() {
                break;
            }
        }
    });
});

scenario!(a_queue_that_was_never_sent_has_its_threads, {
    let queue = Queue::bounded(1).unwrap();
    assert!(queue.get_timeout(A_WHILE).unwrap().is_none());
    queue.put(1).unwrap();
    refused(queue.put_timeout(2, A_WHILE), |why| matches!(why, PutErrorReason::TimedOut));
    thread::scope(|scope| {
        let getting = scope.spawn(|| (next(&queue), next(&queue)));
        queue.put(2).unwrap();
        assert_eq!(getting.join().unwrap(), (1, 2));
    });
});

scenario!(clones_count_by_themselves, {
    let queue = Queue::<u32>::bounded(1).unwrap();
    let copy = queue.clone();
    let child = Held::start(|there| has_a_queue::call(queue.clone(), there));
    child.kill();
    // This thread could wait for another one that has the clone.
    assert!(queue.get_timeout(A_WHILE).unwrap().is_none());
    drop(copy);
    ends(queue.get());
    // So does a half.
    let to = queue.producer();
    assert!(queue.get_timeout(A_WHILE).unwrap().is_none());
    drop(to);
    ends(queue.get());
    let from = queue.consumer();
    queue.put(1).unwrap();
    refused(queue.put_timeout(2, A_WHILE), |why| matches!(why, PutErrorReason::TimedOut));
    assert_eq!(from.get().unwrap(), 1);
    // The queue itself is a producer.
    assert!(from.get_timeout(A_WHILE).unwrap().is_none());
    drop(queue);
    ends(from.get());
});

#[process_fn]
fn exchanges(questions: Queue<u32>, replies: Queue<u32>) {
    for question in questions.iter() {
        replies.put(question.unwrap() + 1).unwrap();
    }
}

/// Asks until the other process is gone, and then does not wait.
#[track_caller]
fn ask_until_the_end(questions: &Queue<u32>, replies: &Queue<u32>, child: Process<()>) {
    questions.put(1).unwrap();
    assert_eq!(next(replies), 2);
    child.kill().unwrap();
    child.join().unwrap_err();
    let begun = Instant::now();
    ends(replies.get());
    refused((0..).find_map(|number| questions.put(number).err()).map_or(Ok(()), Err), is_disconnected);
    assert!(begun.elapsed() < PROMPTLY);
}

scenario!(the_last_handle_of_a_queue_is_told_that_it_is_alone, {
    let (questions, replies) = (Queue::bounded(3).unwrap(), Queue::bounded(3).unwrap());
    let child = exchanges::spawn(questions.clone(), replies.clone()).unwrap();
    ask_until_the_end(&questions, &replies, child);
    // What it put itself is still there, and whoever comes anew takes part.
    assert_eq!(questions.len(), 3);
    let child = exchanges::spawn(questions.clone(), replies.clone()).unwrap();
    assert_eq!((next(&replies), next(&replies), next(&replies)), (1, 2, 3));
    ask_until_the_end(&questions, &replies, child);
});

scenario!(a_queue_in_flight_counts_as_both_sides, {
    let queue = Queue::bounded(1).unwrap();
    let (first, last) = pipe().unwrap();
    first.send(queue.clone()).unwrap();
    assert!(queue.get_timeout(A_WHILE).unwrap().is_none());
    queue.put(1).unwrap();
    refused(queue.put_timeout(2, A_WHILE), |why| matches!(why, PutErrorReason::TimedOut));
    drop((first, last));
    refused(queue.put(2), is_disconnected);
    assert_eq!(queue.get().unwrap(), 1);
    ends(queue.get());
});

#[process_fn]
fn drops_when_told(
    queue: Queue<u32>,
    to: Producer<u32>,
    from: Consumer<u32>,
    begin: mp_core::Receiver<()>,
    done: Sender<()>,
) {
    begin.recv().unwrap();
    drop(queue);
    done.send(()).unwrap();
    begin.recv().unwrap();
    drop((to, from));
    done.send(()).unwrap();
    run_for_ever();
}

// Not only the end of a process counts.
scenario!(a_process_that_drops_its_handles_and_lives_on_is_gone, {
    let queue = Queue::bounded(1).unwrap();
    let ((to, far_from), (far_to, from)) =
        (Queue::bounded(1).unwrap().into_split(), Queue::bounded(1).unwrap().into_split());
    let ((begin, begins), (done, dones)) = (pipe().unwrap(), pipe().unwrap());
    let child = drops_when_told::spawn(queue.clone(), far_to, far_from, begins, done).unwrap();
    assert!(queue.get_timeout(A_WHILE).unwrap().is_none());
    begin.send(()).unwrap();
    received(&dones);
    let begun = Instant::now();
    ends(queue.get());
    assert!(begun.elapsed() < PROMPTLY);
    assert!(from.get_timeout(A_WHILE).unwrap().is_none());
    to.put(1).unwrap();
    begin.send(()).unwrap();
    received(&dones);
    let begun = Instant::now();
    ends(from.get());
    refused(to.put(2), is_disconnected);
    assert!(begun.elapsed() < PROMPTLY);
    child.kill().unwrap();
    child.join().unwrap_err();
});

scenario!(the_end_comes_after_closing, {
    let (to, from) = Queue::new().unwrap().into_split();
    to.put(1).unwrap();
    to.close();
    drop(to);
    assert_eq!(from.get().unwrap(), 1);
    assert!(matches!(from.get(), Err(GetError::Closed)));
});

// Both receivers get the same descriptor, and each has to count for itself.
scenario!(a_handle_in_a_message_that_was_sent_twice_counts_twice, {
    let (to, from) = Queue::<u32>::bounded(8).unwrap().into_split();
    let (send, receive) = pipe::<Message>().unwrap();
    let message = Message::encode(&to).unwrap();
    send.send_ref(&message).unwrap();
    send.send_ref(&message).unwrap();
    drop((to, message));
    let [first, second] = [(); 2].map(|()| receive.recv().unwrap().decode::<Producer<u32>>().unwrap());
    drop(first);
    assert!(from.get_timeout(A_WHILE).unwrap().is_none(), "the second one is there");
    second.put(1).unwrap();
    drop(second);
    assert_eq!(from.get().unwrap(), 1);
    ends(from.get());
});
