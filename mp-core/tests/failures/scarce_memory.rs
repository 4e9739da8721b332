//! Address space runs out (`RLIMIT_AS`): whatever memory a peer can make this library ask for is an
//! error when there is none.

use mp_core::raw::Message;
use mp_core::{
    Builder, ExitStatus, JoinError, Receiver, RecvError, Resource, SpawnError, Stdio, pipe, process_fn, wait,
};
use mp_testing::leaks::Resources;
use mp_testing::limits::with_memory;
use mp_testing::start_method::is_not_for_fork_server;
use mp_testing::{PATIENCE, error_chain, nothing, scenario};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_bytes::ByteBuf;

const MIB: usize = 1 << 20;

/// A large message. The allocator maps it by itself, and gives it back as soon as it is freed.
const LARGE: usize = 48 * MIB;

/// Room in KiB for everything but a large message; and for half of it.
const ROOMS: [u64; 2] = [8 << 10, (LARGE as u64 / 2) >> 10];

/// Says that memory ran out, wherever it did.
const REASONS: [&str; 2] = ["os error 12", "no memory for"];

#[track_caller]
fn assert_no_memory(error: &dyn std::error::Error) {
    let text = error_chain(error);
    assert!(REASONS.iter().any(|reason| text.contains(reason)), "{text}");
}

/// Receives a large value without the memory for it, then a small one, then the large one with
/// memory.
#[track_caller]
fn receive_without_memory<T: Serialize + DeserializeOwned + PartialEq>(large: impl Fn() -> T, small: impl Fn() -> T) {
    let before = Resources::of_this_process();
    for room in ROOMS {
        let (sender, receiver) = pipe::<T>().unwrap();
        sender.send(small()).unwrap();
        assert!(receiver.recv().unwrap() == small());
        sender.send(large()).unwrap();
        let error = with_memory(room, || receiver.recv().err()).expect("there is no room for it");
        assert!(matches!(error, RecvError::Decode(_)), "{error:?}");
        assert_no_memory(&error);
        sender.send(small()).unwrap();
        assert!(receiver.recv().unwrap() == small());
        sender.send(large()).unwrap();
        assert!(receiver.recv().unwrap() == large());
        drop((sender, receiver));
        assert_eq!(Resources::of_this_process(), before);
    }
}

scenario!(a_large_message_that_finds_no_memory_is_an_error_and_the_next_one_arrives, {
    receive_without_memory(|| ByteBuf::from(vec![1; LARGE]), || ByteBuf::from(vec![1; 10]));
    receive_without_memory(|| "a".repeat(LARGE), || "b".to_owned());
});

scenario!(plain_bytes_that_find_no_memory_are_an_error_and_the_next_ones_arrive, {
    for room in ROOMS {
        let (sender, receiver) = pipe::<()>().unwrap();
        for into in [false, true] {
            sender.send_bytes(&vec![1; LARGE]).unwrap();
            let error = with_memory(room, || match into {
                false => receiver.recv_bytes().err(),
                true => receiver.recv_bytes_into(&mut [0; 10]).err(),
            });
            assert_no_memory(&error.expect("there is no room for them"));
            sender.send_bytes(&[2; 10]).unwrap();
            assert_eq!(receiver.recv_bytes().unwrap(), [2; 10]);
        }
    }
});

/// Receives plain bytes to the end, with this much room in KiB, and returns how long they were.
#[process_fn]
fn lengths_within(room: u64, messages: Receiver<()>) -> Vec<usize> {
    let next = || match messages.recv_bytes() {
        Ok(message) => Some(message.len()),
        Err(RecvError::Disconnected) => None,
        Err(error) => panic!("{}", error_chain(&error)),
    };
    with_memory(room, || std::iter::from_fn(next).collect())
}

scenario!(plain_bytes_take_room_for_themselves_alone, {
    let room = (LARGE as u64 >> 10) + (8 << 10);
    let (sender, receiver) = pipe::<()>().unwrap();
    sender.send_bytes(&vec![1; LARGE]).unwrap();
    assert_eq!(with_memory(room, || receiver.recv_bytes()).unwrap().len(), LARGE);
    let child = lengths_within::spawn(room, receiver).unwrap();
    for _ in 0..3 {
        sender.send_bytes(&vec![1; LARGE]).unwrap();
    }
    drop(sender);
    assert_eq!(child.join().unwrap(), [LARGE; 3]);
});

scenario!(sending_and_encoding_a_large_value_takes_no_address_space, {
    let (sender, receiver) = pipe::<ByteBuf>().unwrap();
    let value = ByteBuf::from(vec![3; LARGE]);
    let message = with_memory(8 << 10, || {
        sender.send_ref(&value).unwrap();
        Message::encode(&value).unwrap()
    });
    assert!(receiver.recv().unwrap() == value);
    assert_no_memory(&with_memory(8 << 10, || message.decode::<ByteBuf>().unwrap_err()));
});

#[process_fn]
fn echo(bytes: ByteBuf) -> ByteBuf {
    bytes
}

#[process_fn]
fn length(bytes: ByteBuf) -> usize {
    bytes.len()
}

scenario!(a_result_that_finds_no_memory_is_an_error, {
    for room in ROOMS {
        let process = echo::spawn(ByteBuf::from(vec![1; LARGE])).unwrap();
        wait(&[&process], Some(PATIENCE)).unwrap();
        let error = with_memory(room, || process.join().unwrap_err());
        assert!(matches!(error, JoinError::Decode(_)), "{error:?}");
        assert_no_memory(&error);
    }
});

scenario!(arguments_that_find_no_memory_in_the_child_are_named, {
    let bytes = ByteBuf::from(vec![1; 4 * LARGE]);
    let builder = Builder::new().rlimit(Resource::AddressSpace, 3 * LARGE as u64, 3 * LARGE as u64);
    let process = builder.spawn(length::call(bytes)).unwrap();
    let error = process.join().unwrap_err();
    assert!(matches!(error, JoinError::Decode(_)) && error_chain(&error).contains("arguments"), "{error:?}");
    assert_no_memory(&error);
    assert_eq!(length::spawn(ByteBuf::from(vec![1; 4 * LARGE])).unwrap().join().unwrap(), 4 * LARGE);
});

#[process_fn]
fn sum(numbers: Vec<u64>) -> u64 {
    numbers.iter().sum()
}

scenario!(numbers_that_find_no_memory_are_an_error, {
    let numbers = vec![1_u64; 4 * LARGE / 8];
    let builder = Builder::new().rlimit(Resource::AddressSpace, 3 * LARGE as u64, 3 * LARGE as u64);
    let process = builder.spawn(sum::call(numbers)).unwrap();
    let error = process.join().unwrap_err();
    assert!(matches!(error, JoinError::Decode(_)) && error_chain(&error).contains("arguments"), "{error:?}");
    assert_no_memory(&error);
});

#[process_fn]
fn count(pairs: Vec<(u32, u32)>) -> usize {
    pairs.len()
}

// A `Vec` of anything but numbers grows in serde's hands, and Rust ends a process that cannot
// allocate. That is not promised; that the parent learns of it is.
scenario!(a_collection_that_finds_no_memory_ends_the_child_by_a_signal_that_is_named, {
    if is_not_for_fork_server("the limit is not for the server") {
        return;
    }
    // One more than fit into 16 MiB, so that a vector with room for 32 is made before the end.
    let pairs = vec![(1, 2); (2 << 20) + 1];
    let builder = Builder::new().stderr(Stdio::null());
    let process = with_memory(8 << 10, || builder.spawn(count::call(pairs))).unwrap();
    let error = process.join().unwrap_err();
    assert!(matches!(error, JoinError::Exited(ExitStatus::Signal { signal: libc::SIGABRT, .. })), "{error:?}");
});

scenario!(a_spawn_without_memory_is_an_error_or_a_child_whose_end_is_named, {
    if is_not_for_fork_server("the limit is not for the server") {
        return;
    }
    let before = Resources::of_this_process();
    // Small allocations find room in the heap, so that they do not end this process: std's own do.
    let mut room: Vec<Vec<u8>> = (0..64).map(|_| vec![1; 8 << 10]).collect();
    let last = room.pop();
    drop(room);
    let (mut refused, mut named) = (0, 0);
    let returned = (0..256).find(|more| {
        let builder = Builder::new().stdout(Stdio::null()).stderr(Stdio::null());
        let call = nothing::call();
        let result = with_memory(more * 8, || builder.spawn(call));
        let done = match result {
            Err(error @ SpawnError::Io { .. }) => {
                assert_no_memory(&error);
                refused += 1;
                false
            }
            Err(other) => panic!("with {more}: {other:?}"),
            // It is under the same limit, and may not come far.
            Ok(process) => match process.join() {
                Ok(()) => true,
                Err(JoinError::Exited(_) | JoinError::NotStarted(_)) => {
                    named += 1;
                    false
                }
                Err(other) => panic!("with {more}: {other:?}"),
            },
        };
        assert_eq!(Resources::of_this_process(), before, "with {more}");
        done
    });
    assert!(returned.is_some() && refused > 0, "{returned:?}: {refused} refused, {named} came to harm");
    drop(last);
    nothing::spawn().unwrap().join().unwrap();
});
