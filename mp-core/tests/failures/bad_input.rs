//! Whatever is wrong with a value or a process, there is an error that says so, and nothing is
//! lost.

use std::fmt;
use std::time::Duration;

use mp_core::raw::CallError;
use mp_core::{
    Builder, DecodeError, ExitStatus, JoinError, Process, ProcessFn, Receiver, Sender, SpawnError, pipe, process_fn,
    set_message_limit,
};
use mp_testing::{PATIENCE, PROMPTLY, error_chain, nothing, run_for_ever, scenario};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};
use serde_bytes::ByteBuf;

const KIB: usize = 1 << 10;

/// A value that can be encoded, or decoded, but not both.
#[derive(Debug, PartialEq)]
enum Broken {
    Encoding,
    Decoding,
}

impl Serialize for Broken {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Encoding => Err(ser::Error::custom("it does not want to be encoded")),
            Self::Decoding => serializer.serialize_unit(),
        }
    }
}

impl<'de> Deserialize<'de> for Broken {
    fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Err(de::Error::custom("it does not want to be decoded"))
    }
}

#[process_fn]
fn take(_broken: Broken, ran: Sender<()>) {
    ran.send(()).unwrap();
}

#[process_fn]
fn make(encodable: bool) -> Broken {
    if encodable { Broken::Decoding } else { Broken::Encoding }
}

#[process_fn]
fn length(bytes: ByteBuf) -> usize {
    bytes.len()
}

#[process_fn]
fn zeros(bytes: usize) -> ByteBuf {
    ByteBuf::from(vec![0; bytes])
}

#[track_caller]
fn failure<T: de::DeserializeOwned + fmt::Debug>(process: Process<T>) -> JoinError {
    process.join().expect_err("it should have failed")
}

scenario!(an_argument_that_cannot_be_encoded_is_the_callers_error, {
    let (ran, has_run) = pipe().unwrap();
    match take::spawn(Broken::Encoding, ran) {
        Err(SpawnError::Encode(error)) => {
            assert_eq!(error.to_string(), format!("`{}`: it does not want to be encoded", take::NAME));
            assert!(!error.is_too_large());
        }
        other => panic!("{other:?}"),
    }
    assert!(matches!(has_run.recv(), Err(mp_core::RecvError::Disconnected)));
});

scenario!(an_argument_that_cannot_be_decoded_is_named_and_the_function_does_not_run, {
    let (ran, has_run) = pipe().unwrap();
    let mut process = take::spawn(Broken::Decoding, ran).unwrap();
    match process.join_timeout(PATIENCE) {
        Err(JoinError::Decode(error)) => assert_eq!(
            error.to_string(),
            format!("arguments of process '{}': `{}`: it does not want to be decoded", process.name(), take::NAME)
        ),
        other => panic!("{other:?}"),
    }
    assert_eq!(process.exit_status(), Some(ExitStatus::Code(1)));
    assert!(matches!(has_run.recv(), Err(mp_core::RecvError::Disconnected)));
});

scenario!(a_result_that_cannot_be_encoded_is_named, {
    match failure(Builder::new().name("p").spawn(make::call(false)).unwrap()) {
        JoinError::Encode(error) => {
            assert_eq!(
                error.to_string(),
                format!("result of process 'p': `{}`: it does not want to be encoded", make::NAME)
            )
        }
        other => panic!("{other:?}"),
    }
});

scenario!(a_result_that_cannot_be_decoded_is_named, {
    match failure(Builder::new().name("p").spawn(make::call(true)).unwrap()) {
        JoinError::Decode(error) => {
            assert_eq!(
                error.to_string(),
                format!("result of process 'p': `{}`: it does not want to be decoded", make::NAME)
            )
        }
        other => panic!("{other:?}"),
    }
});

#[test]
fn an_outcome_says_the_same_without_a_process() {
    let outcome = make::call(true).encode().unwrap().run();
    assert!(matches!(outcome.decode::<Broken>(), Err(CallError::UndecodableResult(_))));
    let outcome = make::call(false).encode().unwrap().run();
    assert!(matches!(outcome.decode::<Broken>(), Err(CallError::UnencodableResult(_))));
}

/// Fields that are left out are not there when the value is decoded.
#[derive(Debug, Serialize, Deserialize)]
struct Sparse {
    #[serde(skip_serializing_if = "Option::is_none", default)]
    first: Option<u32>,
    second: u32,
}

/// Maps of a length that is not known beforehand.
#[derive(Debug, Serialize, Deserialize)]
struct Flat {
    own: u32,
    #[serde(flatten)]
    other: std::collections::BTreeMap<String, u32>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum Untagged {
    Number(u32),
    Text(String),
}

#[process_fn]
fn pass_sparse(value: Sparse) -> Sparse {
    value
}

#[process_fn]
fn pass_flat(value: Flat) -> Flat {
    value
}

#[process_fn]
fn pass_untagged(value: Untagged) -> Untagged {
    value
}

scenario!(what_the_format_cannot_carry_is_an_error_and_never_another_value, {
    let whole = pass_sparse::spawn(Sparse { first: Some(1), second: 2 }).unwrap().join().unwrap();
    assert_eq!((whole.first, whole.second), (Some(1), 2));
    match pass_sparse::spawn(Sparse { first: None, second: 2 }) {
        Err(SpawnError::Encode(error)) => assert!(error.to_string().contains("skip_serializing_if"), "{error}"),
        other => panic!("{other:?}"),
    }
    match pass_flat::spawn(Flat { own: 1, other: [("a".to_owned(), 2)].into() }) {
        Err(SpawnError::Encode(error)) => assert!(error.to_string().contains("flatten"), "{error}"),
        other => panic!("{other:?}"),
    }
    match failure(pass_untagged::spawn(Untagged::Number(1)).unwrap()) {
        JoinError::Decode(error) => assert!(error.to_string().contains("untagged"), "{error}"),
        other => panic!("{other:?}"),
    }
});

scenario!(an_argument_beyond_the_limit_is_the_callers_error, {
    set_message_limit((256 * KIB) as u64);
    let just_fits = ByteBuf::from(vec![0; 256 * KIB - 8]);
    assert_eq!(length::spawn(just_fits).unwrap().join().unwrap(), 256 * KIB - 8);
    match length::spawn(ByteBuf::from(vec![0; 256 * KIB - 7])) {
        Err(SpawnError::Encode(error)) => assert!(error.is_too_large(), "{error}"),
        other => panic!("{other:?}"),
    }
});

scenario!(a_result_beyond_the_limit_is_an_error_and_children_inherit_the_limit, {
    set_message_limit((256 * KIB) as u64);
    assert_eq!(zeros::spawn(256 * KIB - 8).unwrap().join().unwrap().len(), 256 * KIB - 8);
    match failure(zeros::spawn(1 << 20).unwrap()) {
        JoinError::Encode(error) => assert!(error.is_too_large(), "{error}"),
        other => panic!("{other:?}"),
    }
});

scenario!(a_result_beyond_a_limit_that_was_lowered_meanwhile_is_an_error, {
    let process = Builder::new().name("p").spawn(zeros::call(1 << 20)).unwrap();
    set_message_limit((128 * KIB) as u64);
    match failure(process) {
        JoinError::Decode(error) => {
            let expected = format!(
                "result of process 'p': `{}`: a message of 1048584 bytes is longer than the limit of 131072; \
                 raise it with `set_message_limit`",
                zeros::NAME
            );
            assert_eq!(error.to_string(), expected);
        }
        other => panic!("{other:?}"),
    }
});

scenario!(the_limit_has_a_lower_bound, {
    set_message_limit(0);
    assert_eq!(mp_core::message_limit(), 64 << 10);
    assert_eq!(length::spawn(ByteBuf::from(vec![0; 63 * KIB])).unwrap().join().unwrap(), 63 * KIB);
    // What a child reports about itself is not the user's, and gets through.
    let panic = Builder::new().name("n".repeat(60_000)).stderr(mp_core::Stdio::null()).spawn(complain::call());
    assert!(matches!(panic.unwrap().join(), Err(JoinError::Panicked(_))));
});

#[process_fn]
fn complain() {
    panic!("{}", "x".repeat(40_000));
}

scenario!(a_child_that_is_killed_at_any_moment_of_its_beginning_is_reported, {
    let killed = ExitStatus::Signal { signal: libc::SIGKILL, core_dumped: false };
    let mut lived = 0;
    for round in 0..200_u32 {
        let mut process = nothing::spawn().unwrap();
        // From the first instruction to some way into its boot.
        std::thread::sleep(Duration::from_micros(u64::from(round) * 10));
        process.kill().unwrap();
        match process.join_timeout(PROMPTLY) {
            Ok(Some(())) => lived += 1,
            Err(JoinError::Exited(status)) => assert_eq!(status, killed),
            other => panic!("killed after {round}0 µs: {other:?}"),
        }
    }
    assert!(lived < 200, "none was hit");
});

#[process_fn]
fn write_results(started: Sender<()>) -> ByteBuf {
    started.send(()).unwrap();
    ByteBuf::from(vec![7; 32 << 20])
}

scenario!(a_child_that_is_killed_while_it_writes_its_result_gives_all_of_it_or_an_error, {
    for round in 0..30_u64 {
        let (sender, started) = pipe().unwrap();
        let mut process = write_results::spawn(sender).unwrap();
        started.recv_timeout(PATIENCE).unwrap().unwrap();
        std::thread::sleep(Duration::from_millis(round));
        process.kill().unwrap();
        match process.join_timeout(PROMPTLY * 5) {
            Ok(Some(result)) => assert!(result.len() == 32 << 20 && result.iter().all(|&byte| byte == 7)),
            Err(JoinError::Exited(ExitStatus::Signal { signal: libc::SIGKILL, .. })) => {}
            other => panic!("killed after {round} ms: {:?}", other.map(|value| value.map(|bytes| bytes.len()))),
        }
    }
});

scenario!(a_child_that_is_stopped_is_alive_and_can_be_killed, {
    let mut process = run_for_ever::spawn().unwrap();
    rustix::process::kill_process(mp_testing::procfs::number_of(process.pid()), rustix::process::Signal::STOP).unwrap();
    assert!(process.join_timeout(Duration::from_millis(20)).unwrap().is_none());
    assert!(process.is_alive());
    process.kill().unwrap();
    assert!(matches!(process.join_timeout(PROMPTLY), Err(JoinError::Exited(_))));
});

#[process_fn]
fn lose_the_control_socket() -> u32 {
    // A function that closes what it does not know, as programs do that become daemons.
    for fd in 3..64 {
        // SAFETY: it is not: the descriptors have owners. They are not used again in this process,
        // except to find out that they are gone.
        unsafe { libc::close(fd) };
    }
    7
}

scenario!(a_child_that_closes_its_control_socket_is_reported, {
    let process = Builder::new().stderr(mp_core::Stdio::null()).spawn(lose_the_control_socket::call()).unwrap();
    // How exactly depends on whether the standard library notices: it aborts when built with debug
    // assertions.
    assert!(matches!(failure(process), JoinError::Exited(_)));
});

#[test]
fn a_handle_outside_a_message_says_where_it_belongs() {
    let (sender, _receiver) = pipe::<u8>().unwrap();
    let error = serde_json::to_string(&sender).unwrap_err().to_string();
    assert!(error.contains("only be encoded inside a message between processes"), "{error}");
    let error = serde_json::from_str::<Receiver<u8>>("0").unwrap_err().to_string();
    assert!(error.contains("only be decoded inside a message between processes"), "{error}");
}

#[test]
fn errors_that_a_deserialize_makes_keep_their_cause() {
    let error: DecodeError = de::Error::custom("why");
    assert_eq!(error_chain(&JoinError::Decode(error)), "a value could not be decoded: why");
}
