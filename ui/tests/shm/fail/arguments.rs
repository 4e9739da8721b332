#![allow(unused)]

use mp_shm::ShmSafe;

#[derive(ShmSafe)]
#[shm_safe]
struct None(u8);

#[derive(ShmSafe)]
#[shm_safe = "crate"]
struct Text(u8);

#[derive(ShmSafe)]
#[shm_safe(carte = mp_shm)]
#[shm_safe(invariants = true, crate)]
struct Unknown(u8);

#[derive(ShmSafe)]
#[shm_safe(crate = "mp_shm", invariants)]
#[shm_safe(invariants, "text" crate = mp_shm)]
struct Twice(u8);

#[derive(ShmSafe)]
struct Field(#[shm_safe(invariants)] u8);

#[derive(ShmSafe)]
enum Variant {
    #[shm_safe(invariants)]
    A(#[shm_safe] u8),
}

fn main() {}
