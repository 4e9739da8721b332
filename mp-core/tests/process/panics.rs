//! A panic in a process reaches whoever joins it, with all that is known about it.

use std::fmt;
use std::io::Read;
use std::panic::{catch_unwind, panic_any, resume_unwind};

use mp_core::raw::{EncodedCall, Outcome, catch_panic};
use mp_core::{Builder, ExitStatus, JoinError, Panic, Process, ProcessFn, Stdio, process_fn};
use mp_testing::{PATIENCE, scenario};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The line of the `panic!` in [`divide`].
const LINE: u32 = line!() + 6;

#[process_fn]
fn divide(a: i32, b: i32) -> i32 {
    if b == 0 {
        // The next line is `LINE`.
        panic!("cannot divide {a} by zero");
    }
    a / b
}

/// Joins a process that has to have panicked, and exited with 1.
#[track_caller]
fn panic_of<T: serde::de::DeserializeOwned + fmt::Debug>(mut process: Process<T>) -> Panic {
    match process.join_timeout(PATIENCE) {
        Err(JoinError::Panicked(panic)) => {
            assert_eq!(process.exit_status(), Some(ExitStatus::Code(1)));
            panic
        }
        other => panic!("it did not panic: {other:?}"),
    }
}

fn without_backtrace() -> Builder {
    Builder::new().env_remove("RUST_BACKTRACE").env_remove("RUST_LIB_BACKTRACE")
}

scenario!(a_panic_has_its_message_and_its_place, {
    let panic = panic_of(without_backtrace().spawn(divide::call(7, 0)).unwrap());
    assert_eq!(panic.message, "cannot divide 7 by zero");
    assert_eq!(panic.location, Some(format!("{}:{LINE}:9", file!())));
    assert_eq!(panic.backtrace, None);
    assert_eq!(
        panic.to_string(),
        format!(
            "`{}` in process '{}' panicked at {}:{LINE}:9: cannot divide 7 by zero",
            divide::NAME,
            panic.process,
            file!()
        )
    );
});

scenario!(a_panic_has_a_backtrace_if_the_environment_asks_for_one, {
    for variable in ["RUST_BACKTRACE", "RUST_LIB_BACKTRACE"] {
        let builder = without_backtrace().env(variable, "1");
        let panic = panic_of(builder.spawn(divide::call(7, 0)).unwrap());
        let backtrace = panic.backtrace.expect(variable);
        // Without the path, where the function was inlined.
        assert!(backtrace.contains("divide\n"), "{backtrace}");
    }
});

scenario!(a_backtrace_is_that_of_the_function_unless_all_of_it_is_wanted, {
    let of = |value| panic_of(without_backtrace().env("RUST_BACKTRACE", value).spawn(divide::call(7, 0)).unwrap());
    let (short, full) = (of("1").backtrace.unwrap(), of("full").backtrace.unwrap());
    assert!(short.contains("divide\n"), "{short}");
    // Whatever was inlined, these are not.
    for machinery in ["__rust_end_short_backtrace", "rust_begin_unwind", "__rust_begin_short_backtrace", "boot::"] {
        assert!(!short.contains(machinery), "{short}");
    }
    let first = short.lines().next().unwrap();
    assert!(first.starts_with("   0: ") && first.ends_with("divide"), "{short}");
    for frame in ["divide", "rust_begin_unwind", "__rust_begin_short_backtrace"] {
        assert!(full.contains(frame), "{full}");
    }
});

scenario!(the_backtrace_of_a_task_of_another_process_is_its_own, {
    // What runs calls of others, as a worker does, is no part of them.
    let builder = without_backtrace().env("RUST_BACKTRACE", "1").stderr(Stdio::null());
    let outcome = builder.spawn(run_a_call::call(divide::call(7, 0).encode().unwrap())).unwrap().join().unwrap();
    let Outcome::Panicked(panic) = outcome else { panic!("{outcome:?}") };
    let backtrace = panic.backtrace.unwrap();
    assert!(backtrace.contains("divide\n") && !backtrace.contains("run_a_call"), "{backtrace}");
});

#[process_fn]
fn run_a_call(call: EncodedCall) -> Outcome {
    call.run()
}

scenario!(a_panic_is_short_in_a_message_of_another, {
    let panic = panic_of(without_backtrace().env("RUST_BACKTRACE", "full").spawn(divide::call(7, 0)).unwrap());
    let lines = panic.backtrace.as_ref().unwrap().lines().count();
    let text = format!("{:?}", JoinError::Panicked(panic.clone()));
    assert!(text.contains("cannot divide 7 by zero") && text.contains(&format!("Some({lines} lines)")), "{text}");
    assert!(text.len() < 250, "{text}");
});

scenario!(a_panic_is_printed_on_the_childs_stderr_under_its_name, {
    let builder = Builder::new().name("divider").env("RUST_BACKTRACE", "1").stderr(Stdio::piped());
    let mut process = builder.spawn(divide::call(7, 0)).unwrap();
    let mut text = String::new();
    process.take_stderr().unwrap().read_to_string(&mut text).unwrap();
    let first = format!("process 'divider' ({}) panicked at {}:{LINE}:9:", process.pid(), file!());
    panic_of(process);
    assert!(text.contains(&first), "{text}");
    assert!(text.contains("\ncannot divide 7 by zero\n"), "{text}");
    assert!(text.contains("stack backtrace:\n   0: ") && text.contains("`RUST_BACKTRACE=full`"), "{text}");
});

#[process_fn]
fn panic_with_a_number() {
    panic_any(7_i32);
}

#[process_fn]
fn panic_without_the_hook() {
    resume_unwind(Box::new("a resumed panic"));
}

#[process_fn]
fn panic_after_another() {
    let _ = catch_unwind(|| panic!("the first panic"));
    resume_unwind(Box::new(5_u8));
}

#[process_fn]
fn panic_at_length(bytes: usize) {
    panic!("{}", "x".repeat(bytes));
}

scenario!(a_panic_need_not_carry_text, {
    let panic = panic_of(panic_with_a_number::spawn().unwrap());
    assert_eq!(panic.message, "Box<dyn Any>");
    assert!(panic.location.unwrap().starts_with(file!()));
});

scenario!(a_resumed_panic_has_no_place, {
    let panic = panic_of(panic_without_the_hook::spawn().unwrap());
    assert_eq!((panic.message.as_str(), panic.location), ("a resumed panic", None));
});

scenario!(a_panic_that_was_caught_does_not_describe_another, {
    let panic = panic_of(panic_after_another::spawn().unwrap());
    assert_eq!((panic.message.as_str(), panic.location), ("Box<dyn Any>", None));
});

#[process_fn]
fn catch_on_another_thread() -> Panic {
    let thread = std::thread::spawn(|| catch_panic(|| panic!("on another thread")).unwrap_err());
    thread.join().unwrap()
}

scenario!(a_panic_that_is_caught_on_another_thread_has_its_place_and_backtrace, {
    let builder = without_backtrace().env("RUST_BACKTRACE", "1");
    let panic = builder.spawn(catch_on_another_thread::call()).unwrap().join().unwrap();
    assert_eq!(panic.message, "on another thread");
    assert!(panic.location.unwrap().starts_with(file!()));
    assert!(panic.backtrace.unwrap().contains("catch_on_another_thread"));
});

scenario!(a_message_of_a_mebibyte_arrives, {
    let builder = Builder::new().stderr(Stdio::null());
    let panic = panic_of(builder.spawn(panic_at_length::call(1 << 20)).unwrap());
    assert_eq!(panic.message.len(), 1 << 20);
});

/// A value that panics at a moment of its life.
#[derive(Debug)]
enum Bomb {
    Drop,
    Serialize,
    Deserialize,
    Dud,
}

impl Drop for Bomb {
    fn drop(&mut self) {
        if matches!(self, Self::Drop) && mp_core::current().name() == "bomb" {
            panic!("dropped a bomb");
        }
    }
}

impl Serialize for Bomb {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        assert!(!matches!(self, Self::Serialize), "serialised a bomb");
        let number = match self {
            Self::Drop => 0,
            Self::Serialize => 1,
            Self::Deserialize => 2,
            Self::Dud => 3,
        };
        serializer.serialize_u8(number)
    }
}

impl<'de> Deserialize<'de> for Bomb {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match u8::deserialize(deserializer)? {
            0 => Ok(Self::Drop),
            1 => Ok(Self::Serialize),
            2 if mp_core::current().name() == "bomb" => panic!("deserialised a bomb"),
            2 => Ok(Self::Deserialize),
            _ => Ok(Self::Dud),
        }
    }
}

#[process_fn]
fn take(bomb: Bomb) {
    std::mem::forget(bomb);
}

#[process_fn]
fn make(drop: bool) -> Bomb {
    if drop { Bomb::Drop } else { Bomb::Serialize }
}

#[process_fn]
fn throw() {
    panic_any(Bomb::Drop);
}

scenario!(a_panic_in_the_drop_of_the_result_is_reported, {
    let process = Builder::new().name("bomb").spawn(make::call(true)).unwrap();
    assert_eq!(panic_of(process).message, "dropped a bomb");
});

scenario!(a_panic_while_the_result_is_serialised_is_reported, {
    let process = Builder::new().name("bomb").spawn(make::call(false)).unwrap();
    assert_eq!(panic_of(process).message, "serialised a bomb");
});

scenario!(a_panic_while_an_argument_is_deserialised_is_reported, {
    let process = Builder::new().name("bomb").spawn(take::call(Bomb::Deserialize)).unwrap();
    assert_eq!(panic_of(process).message, "deserialised a bomb");
});

scenario!(a_panic_while_an_argument_is_serialised_is_the_callers_and_leaves_nothing, {
    catch_unwind(|| take::spawn(Bomb::Serialize)).unwrap_err();
    take::spawn(Bomb::Dud).unwrap().join().unwrap();
});

scenario!(a_panic_whose_payload_panics_when_dropped_is_reported, {
    let process = Builder::new().name("bomb").spawn(throw::call()).unwrap();
    assert_eq!(panic_of(process).message, "Box<dyn Any>");
});

#[process_fn]
fn survive_a_thread() -> bool {
    std::thread::spawn(|| panic!("the thread's affair")).join().is_err()
}

#[process_fn]
fn panic_while_unwinding() {
    struct Second;
    impl Drop for Second {
        fn drop(&mut self) {
            panic!("the second panic");
        }
    }
    let _second = Second;
    panic!("the first panic");
}

scenario!(a_panic_of_another_thread_is_that_threads_affair, {
    assert!(survive_a_thread::spawn().unwrap().join().unwrap());
});

scenario!(a_panic_during_a_panic_ends_the_process_by_abort, {
    let process = Builder::new().stderr(Stdio::null()).spawn(panic_while_unwinding::call()).unwrap();
    match process.join() {
        Err(JoinError::Exited(ExitStatus::Signal { signal: libc::SIGABRT, .. })) => {}
        other => panic!("{other:?}"),
    }
});

scenario!(a_panic_without_a_standard_error_is_reported_all_the_same, {
    let mut process = Builder::new().stderr(Stdio::piped()).spawn(divide::call(1, 0)).unwrap();
    drop(process.take_stderr());
    assert_eq!(panic_of(process).message, "cannot divide 1 by zero");
});
