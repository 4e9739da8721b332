//! Refused system calls, and a first thread that has ended.

use std::thread;

use mp_core::{Receiver, Sender, pipe, process_fn};
use mp_shm::{Buffer, FrozenBuffer, SharedMemory, Value};
use mp_testing::filters::refuse_system_call;
use mp_testing::{eventually, procfs, scenario};

fn use_all() {
    let (sender, receiver): (Sender<Buffer<u8>>, Receiver<Buffer<u8>>) = pipe().unwrap();
    let buffer = Buffer::<u8>::zeroed(100).unwrap();
    drop(buffer.reclaimer().unwrap());
    sender.send(Buffer::rejoin(buffer.split(2)).unwrap()).unwrap();
    assert_eq!(receiver.recv().unwrap().freeze().unwrap().len(), 100);
    assert_eq!(*FrozenBuffer::from_slice(&[1u8, 2]).unwrap(), [1, 2]);
    assert_eq!(Value::new(7).unwrap().get().unwrap(), 7);
    let named = SharedMemory::create(None, 10).unwrap();
    SharedMemory::open(named.name()).unwrap();
}

scenario!(limits_that_cannot_be_asked_for_are_none, {
    refuse_system_call(libc::SYS_prlimit64);
    use_all();
});

#[process_fn]
fn use_all_without_the_first_thread() {
    thread::spawn(|| {
        let state = || procfs::Entry::read(std::process::id()).map(|entry| entry.state);
        eventually("the first thread has ended", || state() == Some('Z'));
        let failed = std::panic::catch_unwind(use_all).is_err();
        std::process::exit(i32::from(failed));
    });
    // SAFETY: it ends this thread alone, whose stack nothing uses.
    unsafe { libc::syscall(libc::SYS_exit, 0) };
}

scenario!(a_process_whose_first_thread_has_ended_goes_on, {
    use_all_without_the_first_thread::spawn().unwrap().join().unwrap();
});
