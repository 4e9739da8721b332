//! Types without a value of zero bytes, and types of which not all bytes are a value.

use std::num::NonZero;

use mp_shm::raw::Region;
use mp_shm::{Array, Buffer, FrozenBuffer, Shared, ShmSafe};
use mp_sync::Mutex;

#[derive(ShmSafe)]
struct Entry {
    number: NonZero<u64>,
    used: bool,
}

#[derive(ShmSafe, Clone, Copy)]
enum Color {
    Red,
}

fn main() {
    let _ = Array::<NonZero<u8>>::zeroed(8);
    let _ = Shared::<Mutex<Entry>>::zeroed();
    let _ = Region::<Color>::zeroed(8);
    let _ = Buffer::<bool>::zeroed(8);
    let _ = FrozenBuffer::from_slice(&[Color::Red]);
}
