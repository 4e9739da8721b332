//! Where memory, addresses, descriptors or the sizes of files run out: an error, nothing is left,
//! and it goes on after relief.

use std::io::{self, ErrorKind};
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::SeqCst;

use mp_core::raw::Message;
use mp_core::{pipe, process_fn};
use mp_shm::{Array, Shared, Value};
use mp_testing::leaks::Resources;
use mp_testing::limits::{with_descriptors, with_limit, with_memory};
use mp_testing::{error_chain, scenario};
use rustix::process::Resource;

/// It has to fail for that reason and leave nothing.
#[track_caller]
fn refused<T>(make: impl FnOnce() -> io::Result<T>, is_reason: impl FnOnce(&io::Error) -> bool) {
    let before = Resources::of_this_process();
    let Err(error) = make() else { panic!("it was made") };
    assert!(is_reason(&error), "{error:?}");
    assert_eq!(Resources::of_this_process(), before);
}

fn is_out_of_memory(error: &io::Error) -> bool {
    error.kind() == ErrorKind::OutOfMemory
}

/// What the machine has left, in bytes.
fn available() -> usize {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap();
    let bytes = |name| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim().strip_suffix(" kB").unwrap().parse::<usize>().unwrap() * 1024
    };
    bytes("MemAvailable:") + bytes("SwapFree:")
}

scenario!(more_elements_than_memory_has_are_an_error_at_once, {
    for len in [
        usize::MAX,
        usize::MAX / 8 + 1,
        usize::MAX / 8,
        // Their bytes can be counted, but not addressed.
        isize::MAX as usize / 8 + 1,
        isize::MAX as usize / 8,
        isize::MAX as usize / 8 - 14,
        1 << 46,
        1 << 43,
        available() / 8 * 2,
    ] {
        refused(|| Array::<u64>::zeroed(len), is_out_of_memory);
    }
    refused(|| Array::<[u64; 1 << 20]>::zeroed(1 << 40), is_out_of_memory);
    refused(|| Array::<[u8; 1 << 50]>::zeroed(1), is_out_of_memory);
    refused(Shared::<[AtomicU64; 1 << 50]>::zeroed, is_out_of_memory);
    Array::<u64>::zeroed(1 << 20).unwrap().set((1 << 20) - 1, 1).unwrap();
});

scenario!(every_descriptor_that_is_needed_can_be_missing, {
    let is_out_of_descriptors = |error: &io::Error| error.raw_os_error() == Some(libc::EMFILE);
    let value = Value::new(7_u32).unwrap();
    let (one, other) = pipe().unwrap();
    refused(|| with_descriptors(0, || Value::new(1_u32)), is_out_of_descriptors);
    refused(|| with_descriptors(0, || Shared::new(1_u32)), is_out_of_descriptors);
    refused(|| with_descriptors(0, || Array::<u32>::zeroed(1)), is_out_of_descriptors);
    refused(|| with_descriptors(0, || Array::from_slice(&[1_u32])), is_out_of_descriptors);
    // A message shares the descriptor of the value. To receive it takes another one.
    with_descriptors(0, || one.send(value.clone()).unwrap());
    let before = Resources::of_this_process();
    with_descriptors(0, || other.recv().unwrap_err());
    assert_eq!(Resources::of_this_process(), before);
    // One is enough to make one, and to receive one.
    with_descriptors(1, || drop(Value::new(1_u32).unwrap()));
    with_descriptors(1, || drop(Array::from_slice(&[1_u32]).unwrap()));
    one.send(value).unwrap();
    with_descriptors(1, || assert_eq!(other.recv().unwrap().get().unwrap(), 7));
});

const LARGE: usize = 256 << 20;
const MEMORY_IN_KIB: u64 = 64 << 10;

/// Has too few addresses for the array, at first.
#[process_fn]
fn attaches_when_there_is_room(message: (u32, Array<u8>)) -> u8 {
    let (index, array) = message;
    let before = Resources::of_this_process();
    let text = with_memory(MEMORY_IN_KIB, || {
        error_chain(&Message::encode(&array).unwrap().decode::<Array<u8>>().map(|array| array.len()).unwrap_err())
    });
    assert!(text.contains("os error 12"), "{text}");
    assert_eq!(Resources::of_this_process(), before);
    Message::encode(&array).unwrap().decode::<Array<u8>>().unwrap().get(index as usize).unwrap()
}

scenario!(addresses_can_be_missing, {
    with_memory(MEMORY_IN_KIB, || {
        refused(|| Array::<u8>::zeroed(LARGE), is_out_of_memory);
        refused(Shared::<[AtomicU64; LARGE / 8]>::zeroed, is_out_of_memory);
        // What is small enough goes on.
        Array::<u8>::zeroed(1 << 20).unwrap().set(5, 1).unwrap();
    });
    let array = Array::zeroed(LARGE).unwrap();
    array.set(9, 6).unwrap();
    assert_eq!(attaches_when_there_is_room::spawn((9, array.clone())).unwrap().join().unwrap(), 6);
    assert_eq!(array.get(9).unwrap(), 6);
});

scenario!(a_limit_on_the_sizes_of_files_is_an_error_and_no_signal, {
    let is_too_large = |error: &io::Error| error.kind() == ErrorKind::FileTooLarge;
    let large = Array::<u8>::zeroed(1 << 20).unwrap();
    with_limit(Resource::Fsize, 1 << 16, || {
        refused(|| Array::<u8>::zeroed(1 << 20), is_too_large);
        refused(|| Array::from_slice(&vec![1_u8; 1 << 16]), is_too_large);
        refused(Shared::<[AtomicU64; 1 << 14]>::zeroed, is_too_large);
        // What is below it, and what was made before.
        assert_eq!(Array::from_slice(&vec![1_u8; 60_000]).unwrap().get(59_999).unwrap(), 1);
        assert_eq!(Value::new(3).unwrap().get().unwrap(), 3);
        large.set((1 << 20) - 1, 1).unwrap();
        let again: Array<u8> = Message::encode(&large).unwrap().decode().unwrap();
        assert_eq!(again.get((1 << 20) - 1).unwrap(), 1);
    });
    with_limit(Resource::Fsize, 0, || refused(|| Value::new(3), is_too_large));
    Shared::<[AtomicU64; 1 << 14]>::zeroed().unwrap()[9].store(1, SeqCst);
});

#[process_fn]
fn has_many(values: Vec<Value<u64>>) -> u64 {
    values.iter().map(|value| value.get().unwrap()).sum()
}

scenario!(many_in_one_message_all_arrive_and_go, {
    let values: Vec<_> = (0..500).map(|number| Value::new(number).unwrap()).collect();
    assert_eq!(has_many::spawn(values).unwrap().join().unwrap(), 499 * 250);
});

scenario!(a_thousand_made_and_dropped_leave_nothing, {
    let before = Resources::of_this_process();
    for number in 0..1_000 {
        let value = Value::new(number).unwrap();
        let array = Array::from_slice(&[number; 100]).unwrap();
        assert_eq!(array.get(99).unwrap(), value.get().unwrap());
        let clone = value.clone();
        drop(value);
        clone.update(|value| *value += 1).unwrap();
    }
    assert_eq!(Resources::of_this_process(), before);
});
