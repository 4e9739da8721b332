//! What a copy of a process, made by `fork`, can do with the buffers of its original.

use mp_core::{Receiver, Sender, pipe};
use mp_shm::Buffer;
use mp_testing::copies::in_copy;
use mp_testing::scenario;

scenario!(a_copy_that_drops_a_buffer_leaves_it_to_its_original, {
    let mut buffer = Some(Buffer::<u64>::from_slice(&[1, 2, 3]).unwrap());
    let reclaimer = buffer.as_ref().unwrap().reclaimer().unwrap();
    in_copy(|| drop(buffer.take()));
    in_copy(|| drop(buffer.take().map(|buffer| buffer.split(2))));
    let reclaimer = reclaimer.reclaim().expect_err("the buffer is in use").reclaimer;
    in_copy(|| assert!(buffer.as_ref().unwrap().reclaimer().is_err()));
    drop(buffer);
    assert_eq!(*reclaimer.reclaim().unwrap(), [1, 2, 3]);
});

scenario!(a_copy_cannot_send_a_buffer_of_its_original, {
    let (sender, receiver): (Sender<Buffer<u8>>, Receiver<Buffer<u8>>) = pipe().unwrap();
    let mut buffer = Some(Buffer::from_slice(&[5; 10]).unwrap());
    in_copy(|| {
        let refused = sender.send(buffer.take().unwrap()).unwrap_err();
        assert_eq!(refused.value.range(), 0..10);
        // Its own travel.
        sender.send(Buffer::from_slice(&[6; 2]).unwrap()).unwrap();
        assert_eq!(*receiver.recv().unwrap(), [6; 2]);
    });
    sender.send(buffer.unwrap()).unwrap();
    assert_eq!(*receiver.recv().unwrap(), [5; 10]);
});
