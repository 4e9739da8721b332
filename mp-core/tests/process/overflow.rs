//! A function that recurses for ever.

use std::fs::File;
use std::io::{Read, Seek};

use mp_core::{Builder, ExitStatus, JoinError, process_fn};
use mp_testing::scenario;

#[process_fn]
fn recurse(depth: u64) -> u64 {
    let frame = [depth; 100];
    if std::hint::black_box(depth) == u64::MAX { 0 } else { recurse(depth + 1) + std::hint::black_box(frame)[3] }
}

#[process_fn]
fn read_from(address: usize) -> u8 {
    // SAFETY: it is not, which is the point: the process crashes, as a faulty C library would make
    // it.
    unsafe { std::ptr::with_exposed_provenance::<u8>(std::hint::black_box(address)).read_volatile() }
}

fn printed(output: &mut File) -> String {
    let mut text = String::new();
    output.rewind().unwrap();
    output.read_to_string(&mut text).unwrap();
    text
}

scenario!(a_stack_overflow_says_so_and_aborts, {
    let mut output = tempfile::tempfile().unwrap();
    let builder = Builder::new().name("deep").stderr(output.try_clone().unwrap());
    let error = builder.spawn(recurse::call(0)).unwrap().join().unwrap_err();
    assert!(matches!(error, JoinError::Exited(ExitStatus::Signal { signal: libc::SIGABRT, .. })), "{error:?}");
    let text = printed(&mut output);
    assert!(text.contains("process 'deep' (") && text.contains("has overflowed its stack"), "{text}");
});

scenario!(another_fault_stays_what_it_is, {
    let mut output = tempfile::tempfile().unwrap();
    let builder = Builder::new().stderr(output.try_clone().unwrap());
    let error = builder.spawn(read_from::call(16)).unwrap().join().unwrap_err();
    assert!(matches!(error, JoinError::Exited(ExitStatus::Signal { signal: libc::SIGSEGV, .. })), "{error:?}");
    assert_eq!(printed(&mut output), "");
});
