//! What a fork server may load.

use std::sync::OnceLock;

use mp_core::{ForkServer, ForkServerError, process_fn};

use mp_shm::{Buffer, FrozenBuffer, Shared};
use mp_sync::Mutex;
use mp_testing::scenario;

static TABLE: OnceLock<FrozenBuffer<u64>> = OnceLock::new();

#[process_fn]
fn load(length: u64) {
    let numbers: Vec<_> = (0..length).map(|number| number * number).collect();
    TABLE.get_or_init(|| FrozenBuffer::from_slice(&numbers).unwrap());
}

#[process_fn]
fn square(number: usize) -> u64 {
    TABLE.get().unwrap()[number]
}

scenario!(a_fork_server_may_load_frozen_memory, {
    let server = ForkServer::builder().preload(load::call(100_000)).build().unwrap();
    for number in [0_u64, 7, 99_999] {
        let process = server.spawn(square::call(number as usize)).unwrap();
        assert_eq!(process.join().unwrap(), number * number);
    }
});

#[process_fn]
fn keep_lock() {
    let lock: &Shared<Mutex<u32>> = Box::leak(Box::new(Shared::new(Mutex::new(1)).unwrap()));
    std::mem::forget(lock.lock().unwrap());
}

#[process_fn]
fn keep_buffer() {
    std::mem::forget(Buffer::<u8>::zeroed(4096).unwrap());
}

scenario!(a_fork_server_may_not_keep_memory_that_its_copies_would_share, {
    for server in [ForkServer::builder().preload(keep_lock::call()), ForkServer::builder().preload(keep_buffer::call())]
    {
        let error = server.build().unwrap_err();
        assert!(matches!(&error, ForkServerError::Descriptors(names) if names[0].contains("memfd")), "{error}");
    }
});
