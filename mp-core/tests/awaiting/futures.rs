//! `async` functions: the future runs to its end in the child, on our executor or another one.

use std::cell::Cell;
use std::fmt;
use std::future::{Future, pending, poll_fn};
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};
use std::thread;
use std::time::Duration;

use mp_core::{ExitStatus, JoinError, Process, ProcessFn, Sender, pipe, process_fn};
use mp_testing::{PATIENCE, eventually, scenario};
use serde::de::DeserializeOwned;

#[track_caller]
fn value_of<T: DeserializeOwned + fmt::Debug>(mut process: Process<T>) -> T {
    process.join_timeout(PATIENCE).unwrap().expect("it ends in time")
}

/// Is ready once another thread has said so.
async fn woken_by_a_thread() {
    let state = Arc::new((Mutex::new((false, None::<Waker>)), AtomicU32::new(0)));
    let of_thread = Arc::clone(&state);
    let waking = thread::spawn(move || {
        // The future has been polled in vain by then, so it is the waker that matters.
        while of_thread.1.load(Ordering::SeqCst) == 0 {
            thread::yield_now();
        }
        let mut state = of_thread.0.lock().unwrap();
        state.0 = true;
        state.1.take().expect("it left a waker").wake();
    });
    poll_fn(|context| {
        let mut shared = state.0.lock().unwrap();
        if shared.0 {
            return Poll::Ready(());
        }
        shared.1 = Some(context.waker().clone());
        state.1.fetch_add(1, Ordering::SeqCst);
        Poll::Pending
    })
    .await;
    waking.join().unwrap();
}

#[process_fn]
async fn add_later(a: u64, b: u64) -> u64 {
    woken_by_a_thread().await;
    a + b
}

/// The future cannot go to another thread.
#[process_fn]
async fn not_send(start: u8) -> u8 {
    let shared = Rc::new(Cell::new(start));
    let other = Rc::clone(&shared);
    woken_by_a_thread().await;
    other.set(other.get() + 1);
    shared.get()
}

#[process_fn]
async fn parse(text: &str, radix: &u32) -> Result<u32, String> {
    woken_by_a_thread().await;
    let number = u32::from_str_radix(text, *radix).map_err(|error| error.to_string())?;
    Ok(number)
}

#[process_fn]
async fn check(ok: bool) -> Result<(), String> {
    woken_by_a_thread().await;
    if ok { Ok(()) } else { Err("not".to_owned()) }
}

#[process_fn]
async fn exits() -> ! {
    woken_by_a_thread().await;
    std::process::exit(0)
}

#[process_fn]
async fn never_ready(polled: Sender<()>) {
    polled.send(()).unwrap();
    pending().await
}

/// The line of the `panic!` in [`fails`].
const LINE: u32 = line!() + 5;

#[process_fn]
async fn fails(text: &str) {
    woken_by_a_thread().await;
    panic!("{text} failed");
}

scenario!(a_future_runs_to_its_end, {
    assert_eq!(value_of(add_later::spawn(1, 2).unwrap()), 3);
    assert_eq!(value_of(not_send::spawn(1).unwrap()), 2);
    value_of(exits::spawn().unwrap());
});

scenario!(a_result_is_the_value, {
    let text = "ff".to_owned();
    assert_eq!(value_of(parse::spawn(&text, &16).unwrap()), Ok(255));
    let failed = value_of(parse::spawn(&text, &10).unwrap());
    assert_eq!(failed, Err("invalid digit found in string".to_owned()));
    assert_eq!(value_of(check::spawn(true).unwrap()), Ok(()));
    assert_eq!(value_of(check::spawn(false).unwrap()), Err("not".to_owned()));
});

scenario!(a_panic_has_its_message_and_its_place, {
    match fails::spawn("it").unwrap().join() {
        Err(JoinError::Panicked(panic)) => {
            assert_eq!(panic.message, "it failed");
            assert_eq!(panic.location, Some(format!("{}:{LINE}:5", file!())));
        }
        other => panic!("it did not panic: {other:?}"),
    }
});

scenario!(a_process_that_waits_can_be_killed, {
    let (sender, polled) = pipe().unwrap();
    let process = never_ready::spawn(sender).unwrap();
    polled.recv().unwrap();
    assert!(process.is_alive());
    process.kill().unwrap();
    let joined = process.join();
    assert!(matches!(joined, Err(JoinError::Exited(ExitStatus::Signal { signal: libc::SIGKILL, .. }))), "{joined:?}");
});

#[test]
fn a_call_runs_here_as_it_runs_there() {
    assert_eq!(add_later::call(1, 2).run(), 3);
    assert_eq!(add_later::invoke((1, 2)), 3);
    assert_eq!(parse::call("7", &8).run(), Ok(7));
    assert_eq!(parse::call("7", &8).encode().unwrap().run().decode(), Ok(Ok::<u32, String>(7)));
    // The function itself is still one that has to be awaited.
    let mut future = Box::pin(check(true));
    let mut context = std::task::Context::from_waker(Waker::noop());
    eventually("it is ready", || future.as_mut().poll(&mut context).is_ready());
}

fn on_tokio<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(future)
}

/// Needs a runtime around it, with a timer and with tasks.
#[process_fn(executor = on_tokio)]
async fn sum_in_tasks(numbers: &[u64]) -> u64 {
    let tasks: Vec<_> = numbers
        .iter()
        .map(|number| {
            let number = *number;
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(number)).await;
                number
            })
        })
        .collect();
    let mut sum = 0;
    for task in tasks {
        sum += task.await.unwrap();
    }
    sum
}

#[process_fn(executor = on_tokio, name = "futures.in_time")]
async fn in_time(limit: Duration) -> Result<(), String> {
    tokio::time::timeout(limit, pending()).await.map_err(|error| error.to_string())
}

scenario!(another_executor_gives_what_its_futures_need, {
    assert_eq!(value_of(sum_in_tasks::spawn(&[3, 1, 2]).unwrap()), 6);
    assert_eq!(value_of(in_time::spawn(Duration::from_millis(5)).unwrap()), Err("deadline has elapsed".to_owned()));
    assert_eq!(sum_in_tasks::call(&[1, 1]).run(), 2);
});

mod executors {
    use super::{AtomicU32, Future, Ordering};

    pub(crate) static RUNS: AtomicU32 = AtomicU32::new(0);

    pub(crate) struct Counting;

    impl Counting {
        pub(crate) fn run<F: Future>(future: F) -> F::Output {
            RUNS.fetch_add(1, Ordering::SeqCst);
            tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
        }
    }
}

#[process_fn(executor = executors::Counting::run)]
async fn count_runs() -> u32 {
    executors::RUNS.load(Ordering::SeqCst)
}

scenario!(the_executor_of_the_attribute_is_used_wherever_the_call_runs, {
    assert_eq!(value_of(count_runs::spawn().unwrap()), 1);
    assert_eq!(count_runs::call().run(), 1);
    assert_eq!(count_runs::call().encode().unwrap().run().decode(), Ok(2));
});
