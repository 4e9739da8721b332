//! The name of the trait says what is wrong.

#![allow(unused)]

use mp_shm::ShmSafe;

#[derive(ShmSafe)]
struct Dropped(u8);

impl Drop for Dropped {
    fn drop(&mut self) {}
}

#[derive(ShmSafe)]
struct Generic<T, const N: usize>
where
    T: Copy,
{
    values: [T; N],
}

impl<T: Copy, const N: usize> Drop for Generic<T, N> {
    fn drop(&mut self) {}
}

fn main() {}
