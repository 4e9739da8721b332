//! A generic type is `ShmSafe` if its parameters are, and locks have to be possible before zeros are one.

use mp_shm::ShmSafe;

#[derive(ShmSafe)]
struct Pair<T>(T, T);

fn is_shm_safe<T: ShmSafe>() {}

fn main() {
    is_shm_safe::<Pair<String>>();
    is_shm_safe::<(Pair<u8>, &u8)>();
}
