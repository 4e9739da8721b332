//! What `ShmSafe::LAYOUT` says of types: which are told apart, and which bytes are a value.

use std::marker::PhantomData;
use std::num::{NonZero, Saturating, Wrapping};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{
    AtomicBool, AtomicI8, AtomicI16, AtomicI32, AtomicI64, AtomicIsize, AtomicU8, AtomicU16, AtomicU32, AtomicU64,
    AtomicUsize,
};
use std::time::Duration;

use crate::bytes::{Bytes, bytes};
use mp_shm::{Layout, ShmSafe, Zeroable};
use mp_sync::{Barrier, Condvar, Event, Mutex, OnceLock, ReentrantMutex, RobustSemaphore, RwLock, Semaphore};

macro_rules! assert_bytes {
    ($expected:ident: $($ty:ty),+ $(,)?) => {
        $(assert_eq!(Bytes::of(bytes!($ty)), Bytes::$expected, "{}", stringify!($ty));)+
    };
}

#[test]
fn types_of_the_language() {
    assert_bytes!(Any: u8, u16, u32, u64, u128, usize, i8, i16, i32, i64, i128, isize, f32, f64, ());
    assert_bytes!(Zeros: bool, char, Duration);
    assert_bytes!(Checked: NonZero<u8>, NonZero<i128>, Option<u8>, Option<NonZero<u8>>, Option<()>);
    assert_bytes!(Any: PhantomData<String>, PhantomData<*const str>, PhantomData<dyn Send>);
    assert_bytes!(Any: AtomicU8, AtomicU16, AtomicU32, AtomicU64, AtomicUsize);
    assert_bytes!(Any: AtomicI8, AtomicI16, AtomicI32, AtomicI64, AtomicIsize);
    assert_bytes!(Zeros: AtomicBool);
}

#[test]
fn what_holds_others_is_as_they_are() {
    assert_bytes!(Any: [u8; 0], [f32; 3], [[u8; 2]; 2], (u8,), (u8, u64), Wrapping<u8>, Saturating<i8>);
    assert_bytes!(Zeros: [bool; 2], (u8, bool), (u8, (char, u8)), Wrapping<bool>);
    assert_bytes!(Checked: [NonZero<u8>; 2], (u8, NonZero<u8>), ((bool, Option<u8>), u8));
    type Twelve<T> = (u8, u8, u8, u8, u8, u8, u8, u8, u8, u8, u8, T);
    assert_bytes!(Any: Twelve<u16>);
    assert_bytes!(Zeros: Twelve<bool>);
    assert_bytes!(Checked: Twelve<Barrier>);
}

#[test]
fn locks_are_zeros_if_their_value_may_be() {
    assert_bytes!(Zeros: Mutex<u8>, ReentrantMutex<bool>, RwLock<[u8; 3]>, RwLock<u8, 4>);
    assert_bytes!(Checked: Mutex<NonZero<u8>>, ReentrantMutex<Option<u8>>, RwLock<Barrier>);
    assert_bytes!(Zeros: Condvar, Semaphore, RobustSemaphore, RobustSemaphore<128>, Event);
    assert_bytes!(Checked: Barrier, Mutex<Barrier>);
    // It is empty, whatever may be in it later.
    assert_bytes!(Zeros: OnceLock<u8>, OnceLock<NonZero<u8>>, OnceLock<Barrier>);
}

fn zeros<T: Zeroable>() -> T {
    // SAFETY: zeros are a value of it.
    unsafe { std::mem::zeroed() }
}

/// What is said of zeros is true: locks made of them work.
#[test]
fn zeros_are_locks() {
    #[derive(ShmSafe)]
    struct Locks {
        mutex: Mutex<[u64; 2]>,
        reentrant: ReentrantMutex<AtomicU32>,
        values: RwLock<(bool, char), 8>,
        changed: Condvar,
        semaphore: Semaphore,
        robust: RobustSemaphore<4>,
        event: Event,
        once: OnceLock<NonZero<u8>>,
        patience: Duration,
    }

    let locks: Locks = zeros();
    assert_eq!(*locks.mutex.lock().unwrap(), [0, 0]);
    assert_eq!(locks.reentrant.lock().unwrap().fetch_add(1, Relaxed), 0);
    *locks.values.write().unwrap() = (true, 'x');
    assert_eq!(*locks.values.read().unwrap(), (true, 'x'));
    locks.changed.notify_all();
    assert!(locks.semaphore.try_acquire().is_none());
    locks.semaphore.release(1).unwrap();
    assert!(locks.semaphore.try_acquire().is_some());
    let permits: Vec<_> = std::iter::from_fn(|| locks.robust.try_acquire()).collect();
    assert_eq!(permits.len(), 4);
    assert!(!locks.event.is_set());
    assert_eq!(locks.once.get(), None);
    assert_eq!(locks.once.get_or_init(|| NonZero::<u8>::MIN).get(), 1);
    assert_eq!(locks.patience, Duration::ZERO);
}

/// No two of these are taken for each other.
#[test]
fn digests_differ() {
    macro_rules! digests {
        ($($ty:ty),+ $(,)?) => {
            vec![$((stringify!($ty), <$ty>::LAYOUT.digest())),+]
        };
    }
    let digests = digests![
        u8, u16, u32, u64, u128, usize, i8, i16, i32, i64, i128, isize, f32, f64, bool, char, (), Duration,
        AtomicU8, AtomicU16, AtomicU32, AtomicU64, AtomicUsize, AtomicI8, AtomicI16, AtomicI32, AtomicI64, AtomicIsize, AtomicBool,
        NonZero<u8>, NonZero<i8>, NonZero<u32>, NonZero<i32>,
        Option<u8>, Option<i8>, Option<bool>, Option<NonZero<u8>>, Option<Option<u8>>,
        [u8; 1], [u8; 2], [i8; 2], [u16; 1], [[u8; 1]; 2], [[u8; 2]; 1], [u8; 0], [u16; 0], [(); 1], [(); 2],
        (u8,), (u8, u8), (u8, i8), (i8, u8), (u8, u8, u8), ((u8, u8), u8), (u8, (u8, u8)),
        Wrapping<u8>, Saturating<u8>, PhantomData<u8>,
        Mutex<u8>, Mutex<i8>, ReentrantMutex<u8>, RwLock<u8>, RwLock<i8>, RwLock<u8, 28>, RwLock<[u8; 2]>,
        Condvar, Semaphore, RobustSemaphore, RobustSemaphore<28>, Event, Barrier, OnceLock<u8>, OnceLock<i8>,
    ];
    for (index, (one, digest)) in digests.iter().enumerate() {
        for (other, another) in &digests[..index] {
            assert_ne!(digest, another, "{one} and {other}");
        }
    }
    assert_eq!(<(u8, Option<[char; 3]>)>::LAYOUT, <(u8, Option<[char; 3]>)>::LAYOUT);
}

/// Size and alignment are part of the layout of a type that is known by its name, and so is what
/// else is said of it.
#[test]
fn a_name_is_not_all() {
    let layout = Layout::of::<[u8; 8]>("name");
    assert_eq!(layout, Layout::of::<[i8; 8]>("name"));
    assert_ne!(layout.digest(), Layout::of::<[u8; 8]>("eman").digest());
    assert_ne!(layout.digest(), Layout::of::<[u8; 7]>("name").digest());
    assert_ne!(layout.digest(), Layout::of::<u64>("name").digest());
    assert_ne!(layout.with(1).digest(), layout.digest());
    assert_ne!(layout.with(1).digest(), layout.with(2).digest());
}
