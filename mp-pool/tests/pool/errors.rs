//! What every error of this crate promises.

use std::error::Error;
use std::io;

use mp_core::raw::CallError;
use mp_core::{DecodeError, EncodeError, ExitStatus, SpawnError};
use mp_pool::{PoolError, TaskError};
use mp_testing::error_chain;
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
        Box::new(TaskError::Crashed { status: ExitStatus::Code(7), attempts: 1 }),
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
fn every_error_is_a_short_phrase_that_does_not_repeat_its_cause() {
    for error in every_error() {
        let text = error.to_string();
        let first = text.chars().next().expect("it says something");
        assert!(!first.is_uppercase(), "{text:?} begins with a capital");
        assert!(!text.ends_with(['.', '!', '\n']), "{text:?} ends as a sentence");
        if let Some(source) = error.source() {
            assert!(!text.contains(&source.to_string()), "{text:?} repeats {source}");
        }
    }
}

#[test]
fn which_value_it_was_is_said() {
    let text = |error: CallError| error_chain(&TaskError::from(error));
    let encoded = "a value of the task could not be encoded";
    let decoded = "a value of the task could not be decoded";
    assert_eq!(text(CallError::UnencodableResult(encode())), format!("{encoded}: result: the reason"));
    assert_eq!(text(CallError::UndecodableArguments(decode())), format!("{decoded}: arguments: the reason"));
    assert_eq!(text(CallError::UndecodableResult(decode())), format!("{decoded}: result: the reason"));
}
