#![allow(unused)]

use mp_shm::ShmSafe;

#[derive(ShmSafe)]
union Either {
    a: u8,
    b: i8,
}

#[derive(ShmSafe)]
struct Borrowed<'a, 'b: 'a, T>(std::marker::PhantomData<(&'a u8, &'b T)>);

fn main() {}
