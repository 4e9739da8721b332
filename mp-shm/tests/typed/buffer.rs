//! `Buffer`: memory with one owner, which goes from process to process, whole and in parts.

use std::os::fd::OwnedFd;
use std::time::Duration;

use mp_core::raw::Message;
use mp_core::{Fd, Receiver, Sender, duplex, pipe, process_fn};
use mp_shm::{Buffer, BufferError, RejoinErrorReason};
use mp_testing::{PATIENCE, error_chain, eventually, scenario};

#[process_fn]
fn add_one(mut numbers: Buffer<u32>) -> Buffer<u32> {
    numbers.iter_mut().for_each(|number| *number += 1);
    numbers
}

/// Gives back what it receives, changed, until there is nothing more.
#[process_fn]
fn serve(requests: Receiver<Buffer<u64>>, answers: Sender<Buffer<u64>>) {
    for buffer in requests.iter() {
        let mut buffer = buffer.unwrap();
        buffer.iter_mut().for_each(|value| *value += 1);
        answers.send(buffer).unwrap();
    }
}

scenario!(it_goes_there_and_back_and_is_what_was_written, {
    for length in [0, 1, 2, 1023, 1024, 1025, 100_000] {
        let numbers: Vec<u32> = (0..length).collect();
        let buffer = Buffer::from_slice(&numbers).unwrap();
        assert_eq!((buffer.len(), buffer.is_empty()), (numbers.len(), numbers.is_empty()));
        let back = add_one::spawn(buffer).unwrap().join().unwrap();
        assert!(back.iter().zip(&numbers).all(|(back, number)| *back == number + 1));
        assert_eq!(back.len(), numbers.len());
    }
    assert!(Buffer::<u8>::zeroed(70_000).unwrap().iter().all(|byte| *byte == 0));
    assert_eq!(*Buffer::from_slice(&[(1u8, 2u32), (3, 4)]).unwrap(), [(1, 2), (3, 4)]);
});

scenario!(it_goes_over_connections_again_and_again, {
    let (requests, served) = pipe().unwrap();
    let (answered, answers) = pipe().unwrap();
    let server = serve::spawn(served, answered).unwrap();
    let mut buffer = Buffer::<u64>::zeroed(3_000).unwrap();
    for round in 1..=200 {
        requests.send(buffer).unwrap();
        buffer = answers.recv().unwrap();
        assert!(buffer.iter().all(|value| *value == round));
    }
    drop(requests);
    server.join().unwrap();
});

scenario!(encoding_it_changes_nothing_and_its_receiver_waits_until_it_is_dropped, {
    let (sender, receiver) = pipe().unwrap();
    let mut buffer = Buffer::from_slice(&[1u8, 2, 3]).unwrap();
    sender.send_ref(&buffer).unwrap();
    buffer[0] = 7;
    assert_eq!(*buffer, [7, 2, 3]);

    let mut arrived: Buffer<u8> = receiver.recv().unwrap();
    assert!(matches!(arrived.wait(Duration::from_millis(20)), Err(BufferError::InUse)));
    assert!(matches!(arrived.try_as_slice(), Err(BufferError::InUse)));
    assert!(matches!(arrived.try_as_mut_slice(), Err(BufferError::InUse)));
    assert_eq!((format!("{arrived:?}"), arrived.len()), ("Buffer(awaited)".to_owned(), 3));
    // Nor can one that is awaited be passed on to somebody who does not have to wait.
    let next = Message::encode(&arrived).unwrap().decode::<Buffer<u8>>().unwrap();
    assert!(matches!(next.wait(Duration::ZERO), Err(BufferError::InUse)));
    drop(next);

    buffer[1] = 8;
    drop(buffer);
    assert_eq!(arrived.try_as_slice().unwrap(), [7, 8, 3], "what its sender wrote last");
    arrived.try_as_mut_slice().unwrap()[2] = 9;
    assert_eq!(*arrived, [7, 8, 9]);
});

scenario!(what_is_not_delivered_is_as_it_was, {
    let (sender, receiver) = pipe::<Buffer<u8>>().unwrap();
    drop(receiver);
    let buffer = Buffer::from_slice(&[1u8, 2, 3]).unwrap();
    let buffer = sender.send(buffer).unwrap_err().into_inner();
    assert_eq!(*buffer, [1, 2, 3]);
    sender.send_ref(&buffer).unwrap_err();
    assert_eq!(*buffer, [1, 2, 3]);
    drop(Message::encode(&buffer).unwrap());
    assert_eq!(*buffer, [1, 2, 3]);

    // A full connection, and parts of a buffer.
    let (sender, receiver) = pipe::<Buffer<u8>>().unwrap();
    let mut parts = Buffer::<u8>::zeroed(1 << 20).unwrap().split(5_000);
    let refused = loop {
        if let Err(error) = sender.try_send(parts.pop().unwrap()) {
            break error.into_inner();
        }
    };
    assert_eq!((refused[0], refused.len()), (0, refused.range().len()));
    let arrived = receiver.recv().unwrap();
    sender.send(refused).unwrap();
    parts.push(arrived);
    while let Ok(Some(part)) = receiver.try_recv() {
        parts.push(part);
    }
    assert_eq!(Buffer::rejoin(parts).unwrap().len(), 1 << 20);
});

scenario!(copies_of_a_message_make_no_second_owner, {
    let (sender, receiver) = pipe::<Message>().unwrap();
    let buffer = Buffer::from_slice(&[1u64; 1000]).unwrap();
    let message = Message::encode(&buffer).unwrap();
    sender.send_ref(&message).unwrap();
    sender.send_ref(&message).unwrap();
    drop((message, buffer));
    let received = || receiver.recv().unwrap().decode::<Buffer<u64>>().unwrap();
    let (mut owner, next) = (received(), received());
    owner[0] = 2;
    assert!(matches!(next.wait(Duration::from_millis(5)), Err(BufferError::InUse)), "the first has it");
    drop(owner);
    next.wait(PATIENCE).unwrap();
    assert_eq!((next[0], next[1]), (2, 1));

    // Descriptors that somebody has copied: whoever is first has it.
    let buffer = Buffer::from_slice(&[1u64; 1000]).unwrap();
    let forged = Message::encode(&buffer).unwrap().decode::<(Fd<OwnedFd>, u64, u64)>().unwrap();
    drop(buffer);
    let copy = || {
        let file = Fd(forged.0.0.try_clone().unwrap());
        Message::encode(&(file, forged.1, forged.2)).unwrap().decode::<Buffer<u64>>().unwrap()
    };
    let (mut owner, next) = (copy(), copy());
    owner[0] = 2;
    assert!(matches!(next.wait(Duration::from_millis(5)), Err(BufferError::InUse)));
    let (start, end) = owner.split_at(500);
    drop(start);
    assert!(next.wait(Duration::ZERO).is_err(), "a part is still used");
    drop(end);
    next.wait(PATIENCE).unwrap();
    assert_eq!(next[0], 2);
    assert!(copy().wait(Duration::ZERO).is_err());
});

#[process_fn]
fn fill(mut part: Buffer<u16>) -> Buffer<u16> {
    let start = part.range().start;
    part.iter_mut().enumerate().for_each(|(index, value)| *value = (start + index) as u16);
    part
}

scenario!(parts_are_filled_by_others_and_become_one_again, {
    // Parts begin and end within pages, and are of every length.
    for (length, parts) in [(10_000, 7), (5, 3), (2, 5), (0, 2), (60_000, 1)] {
        let split = Buffer::<u16>::zeroed(length).unwrap().split(parts);
        let lengths: Vec<_> = split.iter().map(Buffer::len).collect();
        assert_eq!((lengths.len(), lengths.iter().sum::<usize>()), (parts, length));
        assert!(
            lengths.iter().max().unwrap() - lengths.iter().min().unwrap() <= 1 && lengths.is_sorted_by(|a, b| a >= b)
        );
        let workers: Vec<_> = split.into_iter().map(|part| fill::spawn(part).unwrap()).collect();
        // In the opposite order.
        let back: Vec<_> = workers.into_iter().rev().map(|worker| worker.join().unwrap()).collect();
        let whole = Buffer::rejoin(back).unwrap();
        assert_eq!((whole.len(), whole.range()), (length, 0..length));
        assert!(whole.iter().enumerate().all(|(index, value)| *value == index as u16));
        let again = fill::spawn(whole).unwrap().join().unwrap();
        assert_eq!(again.freeze().unwrap().len(), length);
    }
});

scenario!(some_parts_stay_while_others_are_away, {
    let (start, end) = Buffer::<u16>::zeroed(9_999).unwrap().split_at(3_333);
    let (mut middle, end) = end.split_at(3_333);
    let worker = fill::spawn(end).unwrap();
    middle.fill(7);
    let end = worker.join().unwrap();
    let start = fill::spawn(start).unwrap().join().unwrap();
    let whole = start.unsplit(middle).unwrap().unsplit(end).unwrap();
    assert_eq!((whole[3_332], whole[3_333], whole[6_665], whole[6_666]), (3_332, 7, 7, 6_666));
    assert_eq!(whole.range(), 0..9_999);
});

scenario!(what_does_not_make_up_the_buffer_is_refused_and_given_back, {
    let parts = || Buffer::from_slice(&[1u8, 2, 3, 4, 5, 6]).unwrap().split(3);
    assert!(matches!(Buffer::<u8>::rejoin([]).unwrap_err().reason, RejoinErrorReason::Empty));

    for (missing, (start, end)) in [(0, (0, 2)), (1, (2, 4)), (2, (4, 6))] {
        let mut some = parts();
        some.remove(missing);
        let error = Buffer::rejoin(some).unwrap_err();
        let reason = error.reason;
        assert!(
            matches!(reason, RejoinErrorReason::Missing { start: s, end: e } if (s, e) == (start, end)),
            "{reason:?}"
        );
        assert_eq!(error.parts.iter().map(|part| part.len()).sum::<usize>(), 4);
        assert!(error.parts.iter().all(|part| part[0] > 0));
    }

    let mut mixed = parts();
    mixed[1] = parts().remove(1);
    let error = Buffer::rejoin(mixed).unwrap_err();
    assert!(matches!(error.reason, RejoinErrorReason::Foreign) && error.parts.len() == 3);

    let (start, end) = Buffer::from_slice(&[1u8, 2, 3]).unwrap().split_at(1);
    let (middle, end) = end.split_at(1);
    let error = start.unsplit(end).unwrap_err();
    assert!(matches!(error.reason, RejoinErrorReason::Missing { start: 1, end: 2 }));
    let [start, end] = error.parts.try_into().unwrap();
    assert_eq!(*end.unsplit(middle).unwrap().unsplit(start).unwrap(), [1, 2, 3], "on either side");
});

scenario!(the_same_buffer_twice_in_one_message_has_one_owner, {
    let buffer = Buffer::from_slice(&[1u8]).unwrap();
    let message = Message::encode(&(&buffer, &buffer)).unwrap();
    drop(buffer);
    let (one, other) = message.decode::<(Buffer<u8>, Buffer<u8>)>().unwrap();
    assert_eq!(*one, [1]);
    assert!(matches!(other.wait(Duration::from_millis(5)), Err(BufferError::InUse)));
    drop(one);
    assert_eq!(*other, [1]);
});

// Parts of it, and the frozen whole, of a buffer that a message stands for.
scenario!(what_its_sender_makes_of_it_after_it_was_encoded_is_not_the_receivers, {
    let buffer = Buffer::from_slice(&[1u8, 2, 3]).unwrap();
    let (sender, receiver) = pipe::<Buffer<u8>>().unwrap();
    sender.send_ref(&buffer).unwrap();
    sender.send_ref(&buffer).unwrap();
    let arrived = receiver.recv().unwrap();
    let (start, end) = buffer.split_at(1);
    drop(start);
    assert!(matches!(arrived.wait(Duration::ZERO), Err(BufferError::InUse)), "a part is still here");
    drop(end);
    assert_eq!(*arrived, [1, 2, 3]);

    let frozen = arrived.freeze().unwrap();
    let error = receiver.recv().unwrap_err();
    assert!(error_chain(&error).contains("frozen"), "{}", error_chain(&error));
    assert_eq!(*frozen, [1, 2, 3]);
});

scenario!(sizes_that_cannot_be_are_errors, {
    for length in [usize::MAX, usize::MAX / 2, usize::MAX / 8 + 1, isize::MAX as usize, 1 << 50, 1 << 45] {
        Buffer::<u64>::zeroed(length).unwrap_err();
        Buffer::<u8>::zeroed(length).unwrap_err();
    }
    assert_eq!(Buffer::<[u64; 0]>::zeroed(usize::MAX).unwrap().len(), usize::MAX);
    assert_eq!(*Buffer::<u64>::zeroed(1).unwrap(), [0]);
});

scenario!(its_memory_can_be_had_at_once, {
    for length in [0, 1, 100_000, 80 << 20] {
        let mut buffer = Buffer::<u8>::zeroed(length).unwrap();
        buffer.populate().unwrap();
        if length > 0 {
            assert_eq!((buffer[0], buffer[length - 1]), (0, 0));
        }
        let mut parts = buffer.split(3);
        parts[1].populate().unwrap();
    }
});

// What a large buffer leaves behind in the one that sent it.
scenario!(a_large_one_is_unmapped_after_it_was_sent, {
    let mapped = || std::fs::read_to_string("/proc/self/maps").unwrap().contains("mp-shm");
    let (ours, theirs) = duplex::<Buffer<u8>, Buffer<u8>>().unwrap();
    let mut buffer = Buffer::zeroed(100 << 20).unwrap();
    buffer.iter_mut().step_by(4096).for_each(|byte| *byte = 1);
    ours.send(buffer).unwrap();
    eventually("it is unmapped", || !mapped());
    let arrived = theirs.recv().unwrap();
    assert!(arrived.iter().step_by(4096).all(|byte| *byte == 1));
    let frozen = arrived.freeze().unwrap();
    assert_eq!(frozen[0], 1);
});
