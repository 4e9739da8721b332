//! What every error of this crate promises.

use std::error::Error;
use std::io;

use mp_core::raw::CallError;
use mp_core::{
    Builder, DecodeError, DuplicateFunction, EncodeError, ExitStatus, JoinError, Panic, RecvError, Resource, SendError,
    SendErrorReason, SpawnError, Stdio, process_fn,
};
use mp_testing::scenario;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};

fn is_an_error<E: Error + Send + Sync + 'static>() {}

#[test]
fn every_error_is_one_that_goes_anywhere() {
    is_an_error::<CallError>();
    is_an_error::<DecodeError>();
    is_an_error::<DuplicateFunction>();
    is_an_error::<EncodeError>();
    is_an_error::<JoinError>();
    is_an_error::<Panic>();
    is_an_error::<RecvError>();
    is_an_error::<SendError<()>>();
    // Also if the value that could not be sent cannot be printed.
    is_an_error::<SendError<fn()>>();
    is_an_error::<SendErrorReason>();
    is_an_error::<SpawnError>();
}

fn encode() -> EncodeError {
    ser::Error::custom("the inner cause")
}

fn decode() -> DecodeError {
    de::Error::custom("the inner cause")
}

fn system() -> io::Error {
    io::Error::from_raw_os_error(libc::EMFILE)
}

fn every_error() -> Vec<Box<dyn Error>> {
    vec![
        Box::new(SpawnError::NotInitialized),
        Box::new(SpawnError::Unregistered { name: "a::b" }),
        Box::new(SpawnError::Encode(encode())),
        Box::new(SpawnError::InvalidInput { what: "a name", value: "\0".into() }),
        Box::new(SpawnError::Io { action: "posix_spawn", source: system() }),
        Box::new(JoinError::Exited(ExitStatus::Code(7))),
        Box::new(JoinError::Exited(ExitStatus::Signal { signal: 11, core_dumped: true })),
        Box::new(JoinError::Exited(ExitStatus::Unknown)),
        Box::new(JoinError::Decode(decode())),
        Box::new(JoinError::Encode(encode())),
        Box::new(JoinError::NotStarted("the reason".to_owned())),
        Box::new(JoinError::AlreadyJoined),
        Box::new(JoinError::Io(system())),
        Box::new(CallError::UnknownFunction("a::b".to_owned())),
        Box::new(CallError::UndecodableArguments(decode())),
        Box::new(CallError::UnencodableResult(encode())),
        Box::new(CallError::UndecodableResult(decode())),
        Box::new(RecvError::Disconnected),
        Box::new(RecvError::Truncated),
        Box::new(RecvError::Malformed("the reason")),
        Box::new(RecvError::TooLarge { length: 2, limit: 1 }),
        Box::new(RecvError::Decode(decode())),
        Box::new(RecvError::BufferTooShort(vec![1, 2])),
        Box::new(RecvError::Io(system())),
        Box::new(SendErrorReason::Disconnected),
        Box::new(SendErrorReason::Full),
        Box::new(SendErrorReason::TimedOut),
        Box::new(SendErrorReason::Encode(encode())),
        Box::new(SendErrorReason::Io(system())),
        Box::new(SendError { value: (), reason: SendErrorReason::Encode(encode()) }),
        Box::new(SendError { value: (), reason: SendErrorReason::Io(system()) }),
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

/// Fails as it is told to.
#[process_fn(name = "fails")]
fn fails(how: How) -> Unsendable {
    match how {
        How::Panic => panic!("as told"),
        How::Exit => std::process::exit(3),
        How::Abort => std::process::abort(),
        How::Return => Unsendable,
    }
}

#[derive(Serialize, Deserialize)]
enum How {
    Panic,
    Exit,
    Abort,
    Return,
}

/// Cannot be encoded.
#[derive(Debug, Deserialize)]
struct Unsendable;

impl Serialize for Unsendable {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(ser::Error::custom("the reason"))
    }
}

#[process_fn(name = "picky")]
fn picky(_: Picky) {}

#[derive(Serialize)]
struct Picky;

impl<'de> Deserialize<'de> for Picky {
    fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Err(de::Error::custom("the reason"))
    }
}

scenario!(the_text_of_an_error_names_the_process_and_the_function_and_says_why, {
    let named = || Builder::new().name("p1").rlimit(Resource::CoreSize, 0, 0).stderr(Stdio::null());
    let text = |how| named().spawn(fails::call(how)).unwrap().join().unwrap_err().to_string();
    let panicked = text(How::Panic);
    assert!(panicked.starts_with("`fails` in process 'p1' panicked at "), "{panicked}");
    assert!(panicked.ends_with(": as told"), "{panicked}");
    assert_eq!(text(How::Exit), "the process ended with exit code 3 and sent no result");
    assert_eq!(text(How::Abort), "the process ended with signal 6 (SIGABRT) and sent no result");
    assert_eq!(text(How::Return), "the result could not be encoded: result of process 'p1': `fails`: the reason");
    let error = named().spawn(picky::call(Picky)).unwrap().join().unwrap_err();
    assert_eq!(error.to_string(), "a value could not be decoded: arguments of process 'p1': `picky`: the reason");
});

#[test]
fn errors_of_the_system_can_be_told_apart() {
    let error = SpawnError::Io { action: "posix_spawn", source: io::ErrorKind::OutOfMemory.into() };
    assert_eq!(io::Error::from(error).kind(), io::ErrorKind::OutOfMemory);
    assert_eq!(io::Error::from(SpawnError::Encode(encode())).kind(), io::ErrorKind::InvalidInput);
    let error = io::Error::from(SpawnError::NotInitialized);
    assert!(error.get_ref().is_some_and(|inner| inner.is::<SpawnError>()));
}

#[test]
fn a_status_says_what_happened() {
    let says = |status: ExitStatus, text: &str| assert_eq!(status.to_string(), text);
    says(ExitStatus::Code(0), "exit code 0");
    says(ExitStatus::Signal { signal: 9, core_dumped: false }, "signal 9 (SIGKILL)");
    says(ExitStatus::Signal { signal: 11, core_dumped: true }, "signal 11 (SIGSEGV), core dumped");
    says(ExitStatus::Signal { signal: 40, core_dumped: false }, "signal 40");
    assert!(ExitStatus::Code(0).success());
    assert!(!ExitStatus::Code(1).success() && !ExitStatus::Unknown.success());
}
