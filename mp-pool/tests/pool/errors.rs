//! What every error of this crate promises.

use std::error::Error;
use std::io;
use std::time::Duration;

use mp_core::raw::CallError;
use mp_core::{DecodeError, EncodeError, ExitStatus, SpawnError, process_fn};
use mp_pool::{Pool, PoolError, TaskError};
use mp_testing::scenario;
use serde::{de, ser};

fn is_an_error<E: Error + Send + Sync + 'static>() {}

#[test]
fn every_error_is_one_that_goes_anywhere() {
    is_an_error::<PoolError>();
    is_an_error::<TaskError>();
}

fn encode() -> EncodeError {
    ser::Error::custom("the reason")
}

fn decode() -> DecodeError {
    de::Error::custom("the reason")
}

fn every_error() -> Vec<Box<dyn Error>> {
    vec![
        Box::new(PoolError::NoWorkers),
        Box::new(PoolError::Spawn(SpawnError::NotInitialized)),
        Box::new(PoolError::Spawn(SpawnError::Encode(encode()))),
        Box::new(PoolError::Io(io::Error::from_raw_os_error(libc::EMFILE))),
        Box::new(TaskError::Crashed { status: ExitStatus::Code(7), attempts: 1, worker: "w".into(), function: "a::b" }),
        Box::new(TaskError::Encode(encode())),
        Box::new(TaskError::Decode(decode())),
        Box::new(TaskError::NotSent("the reason".to_owned())),
        Box::new(TaskError::NotReceived("the reason".to_owned())),
        Box::new(TaskError::UnknownFunction("a::b".to_owned())),
        Box::new(TaskError::PoolClosed),
        Box::new(TaskError::NoWorker("the reason".to_owned())),
        Box::new(TaskError::AlreadyJoined),
    ]
}

#[test]
fn every_error_is_a_short_phrase_that_says_why() {
    for error in every_error() {
        let text = error.to_string();
        let first = text.chars().next().expect("it says something");
        assert!(!first.is_uppercase(), "{text:?} begins with a capital");
        assert!(!text.ends_with(['.', '!', '\n']), "{text:?} ends as a sentence");
        // The reason is in the text, so that printing the error is enough.
        assert!(error.source().is_none(), "{text:?} leaves its reason to its source");
    }
}

#[test]
fn which_value_it_was_is_said() {
    let text = |error: CallError| TaskError::from(error).to_string();
    let encoded = "a value of the task could not be encoded";
    let decoded = "a value of the task could not be decoded";
    assert_eq!(text(CallError::UnencodableResult(encode())), format!("{encoded}: result: the reason"));
    assert_eq!(text(CallError::UndecodableArguments(decode())), format!("{decoded}: arguments: the reason"));
    assert_eq!(text(CallError::UndecodableResult(decode())), format!("{decoded}: result: the reason"));
}

#[process_fn(name = "crashes")]
fn crashes(how: u8) {
    match how {
        0 => std::process::exit(3),
        1 => panic!("as told"),
        _ => loop {
            std::thread::park();
        },
    }
}

scenario!(the_text_of_a_tasks_error_names_the_worker_and_the_function, {
    let pool = Pool::builder().workers(1).name("w").build().unwrap();
    let text = |how| pool.submit(crashes::call(how)).join().unwrap_err().to_string();
    let (exited, panicked) = (text(0), text(1));
    let pool = Pool::builder().workers(1).name("w").task_timeout(Duration::from_millis(50)).build().unwrap();
    let late = pool.submit(crashes::call(2)).join().unwrap_err().to_string();
    assert!(exited.starts_with("worker 'w-"), "{exited}");
    assert!(exited.contains("ended with exit code 3 while it ran `crashes`"), "{exited}");
    assert!(panicked.starts_with("`crashes` in process 'w-") && panicked.ends_with(": as told"), "{panicked}");
    assert!(late.starts_with("`crashes` ran for longer than 50ms in worker 'w-"), "{late}");
});
