//! All errors are told at once, and the type stays usable.

#![allow(unused)]

use mp_shm::ShmSafe;

#[derive(ShmSafe)]
#[shm_safe(oops)]
enum Everything<T> {
    A(Vec<T>, &'static str),
    B {
        #[shm_safe(invariants)]
        text: String,
    },
}

#[derive(ShmSafe)]
struct Around {
    inner: Everything<u8>,
}

fn is_shm_safe<T: ShmSafe>() {}

fn main() {
    is_shm_safe::<Around>();
}
