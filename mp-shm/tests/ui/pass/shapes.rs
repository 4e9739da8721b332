//! Every form that a type can have.

#![allow(dead_code, unused_parens)]

use std::marker::PhantomData;
use std::num::{NonZero, NonZeroU8, Wrapping};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize};
use std::time::Duration;

use mp_shm::{ShmSafe, Zeroable};
use mp_sync::{Barrier, Condvar, Event, Mutex, OnceLock, ReentrantMutex, RobustSemaphore, RwLock, Semaphore};

#[derive(ShmSafe)]
struct Named {
    a: u8,
    r#type: (u16, f64, [[char; 3]; 2]),
    b: Option<NonZero<i32>>,
    c: NonZeroU8,
    d: Duration,
    e: PhantomData<*const str>,
    f: (),
    g: Wrapping<i128>,
    h: ((u8)),
}

#[derive(ShmSafe)]
struct Tuple(Named, bool);

#[derive(ShmSafe)]
struct Unit;

#[derive(ShmSafe)]
struct Empty {}

#[derive(ShmSafe)]
struct Locks {
    a: Mutex<Tuple>,
    b: ReentrantMutex<AtomicI64>,
    c: RwLock<[Unit; 4]>,
    d: mp_sync::RwLock<AtomicUsize, 4>,
    e: Condvar,
    f: Semaphore,
    g: RobustSemaphore,
    h: RobustSemaphore<8>,
    i: Event,
    j: Barrier,
    k: OnceLock<OnceLock<u8>>,
    l: AtomicBool,
}

#[derive(ShmSafe)]
enum Variants<T> {
    Unit,
    Tuple(u8, T),
    Struct { a: [T; 2], b: Box },
    Empty {},
    None(),
}

/// Not std's: that has a parameter.
#[derive(ShmSafe)]
struct Box;

#[derive(ShmSafe)]
#[repr(C, align(64))]
struct Aligned(u8);

#[derive(ShmSafe)]
#[repr(C, packed(2))]
struct Packed<T>(u8, T, u64);

#[derive(ShmSafe)]
#[repr(transparent)]
struct Transparent(Mutex<u8>);

#[derive(ShmSafe)]
struct Defaults<T: Copy = u8, const N: usize = 3>
where
    [T; N]: Clone,
{
    values: [T; N],
}

#[derive(ShmSafe)]
struct Associated<T>(T::Item)
where
    T: Iterator,
    T::Item: ShmSafe;

const THREE: u64 = 3;

#[derive(ShmSafe)]
#[repr(u64)]
#[repr(align(16))]
enum Discriminants {
    A = THREE,
    B = u64::MAX,
    C(u8) = { 2 * THREE },
    D,
}

mod reexporter {
    pub(crate) use ::mp_shm as shared;
}

#[derive(ShmSafe)]
#[shm_safe(crate = crate::pass::shapes::reexporter::shared)]
#[shm_safe(invariants)]
struct Reexported<T>(T);

macro_rules! types {
    ($name:ident, $field:ty, $value:expr) => {
        #[derive(ShmSafe)]
        struct $name {
            inner: $field,
            array: [$field; 2],
        }

        mod in_macro {
            #[derive(mp_shm::ShmSafe)]
            #[repr(u8)]
            pub enum Variants {
                A = $value,
                B($field),
            }
        }
    };
}
types!(FromMacro, Option<u8>, 0);

#[cfg_attr(all(), derive(ShmSafe), repr(u8))]
enum Conditional {
    #[cfg(any())]
    No(Vec<u8>),
    Yes,
}

#[test]
fn it_works() {
    fn is_shm_safe<T: ShmSafe>() {}
    fn is_zeroable<T: Zeroable>() {}
    is_shm_safe::<Named>();
    is_shm_safe::<Tuple>();
    is_shm_safe::<Locks>();
    is_shm_safe::<Variants<Unit>>();
    is_shm_safe::<Discriminants>();
    is_shm_safe::<Reexported<u8>>();
    is_shm_safe::<FromMacro>();
    is_zeroable::<Unit>();
    is_zeroable::<Empty>();
    is_zeroable::<Aligned>();
    is_zeroable::<Packed<u32>>();
    is_zeroable::<Transparent>();
    is_zeroable::<Defaults>();
    is_zeroable::<in_macro::Variants>();
    is_zeroable::<Conditional>();
    let _ = Discriminants::D;
}
