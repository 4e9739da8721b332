//! What `#[derive(ShmSafe)]` makes of types.

#![allow(dead_code, reason = "most of these types are only looked at")]

use std::num::NonZero;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use mp_core::raw::Message;
use mp_shm::{AttachError, Layout, Shared, ShmSafe, Zeroable};
use mp_sync::{Barrier, Condvar, Event, Mutex, OnceLock, ReentrantMutex, RobustSemaphore, RwLock, Semaphore};
use mp_testing::error_chain;

use crate::bytes::{Bytes, bytes};

/// The layout of a type `Example` that is defined by these tokens.
macro_rules! layout {
    (of $($definition:tt)*) => {{
        #[derive(ShmSafe)]
        $($definition)*
        Example::LAYOUT
    }};
}

/// Which bytes are a value of such a type.
macro_rules! bytes_of {
    ($($definition:tt)*) => {{
        #[derive(ShmSafe)]
        $($definition)*
        Bytes::of(bytes!(Example))
    }};
}

#[test]
fn structs_are_told_apart() {
    let original = || layout!(of struct Example { a: u32, b: u32 });
    assert_eq!(original(), original());
    let others = [
        ("a name", layout!(of struct Example { a: u32, c: u32 })),
        ("the order", layout!(of struct Example { b: u32, a: u32 })),
        ("a type", layout!(of struct Example { a: u32, b: i32 })),
        ("a size", layout!(of struct Example { a: u32, b: u64 })),
        ("a field more", layout!(of struct Example { a: u32, b: u32, c: u32 })),
        ("a field without bytes more", layout!(of struct Example { a: u32, b: u32, c: () })),
        ("a field less", layout!(of struct Example { a: u32 })),
        ("names", layout!(of struct Example(u32, u32);)),
        ("the alignment", layout!(of #[repr(align(8))] struct Example { a: u32, b: u32 })),
        ("the form", layout!(of enum Example { A { a: u32, b: u32 } })),
    ];
    for (difference, other) in others {
        assert_ne!(original().digest(), other.digest(), "{difference}");
    }
    let renamed = {
        #[derive(ShmSafe)]
        struct Sample {
            a: u32,
            b: u32,
        }
        Sample::LAYOUT
    };
    assert_ne!(original().digest(), renamed.digest());
}

/// Nothing else is different here, so the derive cannot make two such types.
#[test]
fn offsets_are_told_apart() {
    let at = |offset| Layout::structure::<u64>("Example", &[("a", 0, u8::LAYOUT), ("b", offset, u8::LAYOUT)]);
    assert_eq!(at(4), at(4));
    assert_ne!(at(4).digest(), at(2).digest());
    // The derive says where its fields are.
    let derived = layout!(of #[repr(C)] struct Example { a: u8, b: u32, c: u8 });
    let fields = [("a", 0, u8::LAYOUT), ("b", 4, u32::LAYOUT), ("c", 8, u8::LAYOUT)];
    assert_eq!(derived, Layout::structure::<[u32; 3]>("Example", &fields));
}

#[test]
fn enums_are_told_apart() {
    let original = || layout!(of #[repr(u8)] enum Example { A, B(u8), C { a: u8, b: u8 } });
    assert_eq!(original(), original());
    let others = [
        ("the representation", layout!(of enum Example { A, B(u8), C { a: u8, b: u8 } })),
        ("a variant's name", layout!(of #[repr(u8)] enum Example { A, D(u8), C { a: u8, b: u8 } })),
        ("the variants' order", layout!(of #[repr(u8)] enum Example { B(u8), A, C { a: u8, b: u8 } })),
        ("a variant more", layout!(of #[repr(u8)] enum Example { A, B(u8), C { a: u8, b: u8 }, D })),
        ("a field's name", layout!(of #[repr(u8)] enum Example { A, B(u8), C { a: u8, c: u8 } })),
        ("a field's type", layout!(of #[repr(u8)] enum Example { A, B(i8), C { a: u8, b: u8 } })),
        ("a field elsewhere", layout!(of #[repr(u8)] enum Example { A(u8), B, C { a: u8, b: u8 } })),
        ("a discriminant", layout!(of #[repr(u8)] enum Example { A, B(u8) = 2, C { a: u8, b: u8 } })),
        ("the first discriminant", layout!(of #[repr(u8)] enum Example { A = 1, B(u8), C { a: u8, b: u8 } })),
    ];
    for (difference, other) in others {
        assert_ne!(original().digest(), other.digest(), "{difference}");
    }
    // The same discriminants, written otherwise.
    assert_eq!(original(), layout!(of #[repr(u8)] enum Example { A = 0, B(u8) = 1, C { a: u8, b: u8 } = 2 }));
    // With their sign: -1 is not 255.
    let signed = layout!(of #[repr(i8)] enum Example { A = -1 });
    let unsigned = layout!(of #[repr(u8)] enum Example { A = 255 });
    assert_ne!(signed.digest(), unsigned.digest());
}

#[test]
fn parameters_are_told_apart() {
    #[derive(ShmSafe)]
    struct Tagged<T, const UNIT: u32, const FLAG: bool>(std::marker::PhantomData<T>);

    assert_eq!(Tagged::<u8, 1, true>::LAYOUT, Tagged::<u8, 1, true>::LAYOUT);
    assert_ne!(Tagged::<u8, 1, true>::LAYOUT, Tagged::<i8, 1, true>::LAYOUT);
    assert_ne!(Tagged::<u8, 1, true>::LAYOUT, Tagged::<u8, 2, true>::LAYOUT);
    assert_ne!(Tagged::<u8, 1, true>::LAYOUT, Tagged::<u8, 1, false>::LAYOUT);
}

#[test]
fn all_bits_of_a_number_among_the_parameters_count() {
    #[derive(ShmSafe)]
    struct Of<const NUMBER: u128>;
    #[derive(ShmSafe)]
    struct Signed<const NUMBER: i128, const LETTER: char>;

    assert_ne!(Of::<0>::LAYOUT, Of::<{ 1 << 64 }>::LAYOUT);
    assert_ne!(Signed::<-1, 'a'>::LAYOUT, Signed::<{ u64::MAX as i128 }, 'a'>::LAYOUT);
    assert_ne!(Signed::<-1, 'a'>::LAYOUT, Signed::<-1, 'b'>::LAYOUT);
}

/// What only functions of its module can make.
mod guarded {
    #[derive(mp_shm::ShmSafe)]
    #[shm_safe(invariants)]
    pub(crate) struct Index(usize);

    #[derive(mp_shm::ShmSafe)]
    #[shm_safe(invariants)]
    pub(crate) enum Side {
        Left(u8),
    }

    #[derive(mp_shm::ShmSafe)]
    pub(crate) enum Never {}
}

#[test]
fn what_has_invariants_is_not_to_be_had_from_a_type_of_the_same_name() {
    #[derive(ShmSafe)]
    struct Index(usize);
    #[derive(ShmSafe)]
    #[shm_safe(invariants)]
    enum Side {
        Left(u8),
    }
    #[derive(ShmSafe)]
    struct Never<const NUMBER: u64>;

    assert_ne!(Index::LAYOUT.digest(), guarded::Index::LAYOUT.digest());
    assert_ne!(Side::LAYOUT.digest(), guarded::Side::LAYOUT.digest());
    // Of this one there is no value at all.
    assert_ne!(Never::<0>::LAYOUT.digest(), guarded::Never::LAYOUT.digest());
    let message = Message::encode(&Shared::new(Index(9)).unwrap()).unwrap();
    let error = message.decode::<Shared<guarded::Index>>().err().expect("it is another type");
    assert!(error_chain(&error).contains(&AttachError::Type.to_string()));
}

#[test]
fn a_struct_is_zeros_if_each_field_may_be() {
    for (expected, bytes) in [
        (
            Bytes::Any,
            bytes_of!(
                struct Example;
            ),
        ),
        (
            Bytes::Any,
            bytes_of!(
                struct Example(u8, (f32, [i64; 3]));
            ),
        ),
        (
            Bytes::Zeros,
            bytes_of!(
                struct Example(u8, bool);
            ),
        ),
        (
            Bytes::Zeros,
            bytes_of!(
                struct Example {
                    a: u8,
                    b: Mutex<(u8, char)>,
                }
            ),
        ),
        (
            Bytes::Checked,
            bytes_of!(
                struct Example(u8, NonZero<u8>);
            ),
        ),
        (
            Bytes::Checked,
            bytes_of!(
                struct Example {
                    a: Mutex<Barrier>,
                    b: u8,
                }
            ),
        ),
        (
            Bytes::Checked,
            bytes_of!(
                #[shm_safe(invariants)]
                struct Example(u8);
            ),
        ),
    ] {
        assert_eq!(bytes, expected);
    }
}

const ZERO: i16 = 0;

#[test]
fn an_enum_is_zeros_if_its_variant_0_may_be() {
    for (expected, bytes) in [
        (
            Bytes::Zeros,
            bytes_of!(
                #[repr(u8)]
                enum Example {
                    A,
                    B(Barrier),
                }
            ),
        ),
        (
            Bytes::Zeros,
            bytes_of!(
                #[repr(C)]
                enum Example {
                    A(u8, bool),
                    B(Barrier),
                }
            ),
        ),
        (
            Bytes::Zeros,
            bytes_of!(
                #[repr(C, u64)]
                enum Example {
                    A { a: Mutex<u8> },
                }
            ),
        ),
        (
            Bytes::Zeros,
            bytes_of!(
                #[repr(isize)]
                enum Example {
                    A = -2,
                    B,
                    C(u8),
                    D(Barrier),
                }
            ),
        ),
        (
            Bytes::Zeros,
            bytes_of!(
                #[repr(i16)]
                enum Example {
                    A(Barrier) = 7,
                    B = (0x0_i16),
                }
            ),
        ),
        (
            Bytes::Zeros,
            bytes_of!(
                #[repr(align(4), u8)]
                enum Example {
                    A,
                }
            ),
        ),
        // Nobody says where the discriminant is.
        (
            Bytes::Checked,
            bytes_of!(
                enum Example {
                    A,
                    B,
                }
            ),
        ),
        (
            Bytes::Checked,
            bytes_of!(
                enum Example {
                    A = 0,
                    B = 1,
                }
            ),
        ),
        (
            Bytes::Checked,
            bytes_of!(
                #[repr(align(4))]
                enum Example {
                    A,
                }
            ),
        ),
        // The derive does not know what a constant is.
        (
            Bytes::Checked,
            bytes_of!(
                #[repr(i16)]
                enum Example {
                    A = ZERO,
                }
            ),
        ),
        (
            Bytes::Checked,
            bytes_of!(
                #[repr(i16)]
                enum Example {
                    A = ZERO - 1,
                    B,
                }
            ),
        ),
        // Zeros are another variant, or none.
        (
            Bytes::Checked,
            bytes_of!(
                #[repr(u8)]
                enum Example {
                    A(NonZero<u8>),
                    B,
                }
            ),
        ),
        (
            Bytes::Checked,
            bytes_of!(
                #[repr(u8)]
                enum Example {
                    A = 1,
                    B,
                }
            ),
        ),
        (
            Bytes::Checked,
            bytes_of!(
                #[repr(i8)]
                enum Example {
                    A = -1,
                    B(Barrier),
                    C,
                }
            ),
        ),
        (
            Bytes::Checked,
            bytes_of!(
                enum Example {}
            ),
        ),
        (
            Bytes::Checked,
            bytes_of!(
                #[repr(u8)]
                #[shm_safe(invariants)]
                enum Example {
                    A,
                    B,
                }
            ),
        ),
    ] {
        assert_eq!(bytes, expected);
    }
}

/// What the derive says of zeros is true.
#[test]
fn zeros_are_the_variant_0() {
    #[derive(ShmSafe, Debug, PartialEq)]
    #[repr(u16)]
    enum Slot {
        Taken { by: NonZero<u32> } = 1,
        Empty { since: u64, clean: bool } = 0,
    }

    fn is_zeroable<T: Zeroable>() {}
    is_zeroable::<[Slot; 2]>();
    // SAFETY: zeros are a value of it, as asserted.
    let slots: [Slot; 2] = unsafe { std::mem::zeroed() };
    assert_eq!(slots, [const { Slot::Empty { since: 0, clean: false } }; 2]);
    assert_ne!(slots[0], Slot::Taken { by: NonZero::<u32>::MIN });
}

/// Several locks and counters in one value, used by several threads.
#[test]
fn a_showcase() {
    #[derive(ShmSafe)]
    struct Shop {
        queue: Mutex<Queue<Order, 4>>,
        more: Condvar,
        counters: Semaphore,
        prices: RwLock<[u32; 3], 8>,
        opened: OnceLock<Duration>,
        sold: AtomicU64,
    }

    #[derive(ShmSafe)]
    struct Queue<T, const N: usize> {
        slots: [Option<T>; N],
        count: usize,
    }

    #[derive(ShmSafe, Clone, Copy)]
    enum Order {
        One { ware: u8 },
        Several(u8, u64),
        Close,
    }

    fn can_be_shared<T: ShmSafe + Send + Sync>(value: T) -> T {
        value
    }

    let shop = can_be_shared(Shop {
        queue: Mutex::new(Queue { slots: [None; 4], count: 0 }),
        more: Condvar::new(),
        counters: Semaphore::new(1),
        prices: RwLock::with_readers([2, 3, 5]),
        opened: OnceLock::new(),
        sold: AtomicU64::new(0),
    });
    let serve = || loop {
        let queue = shop.queue.lock().unwrap();
        // The test ends also if nobody ever comes.
        let patience = Duration::from_secs(20);
        let (mut queue, waited) = shop.more.wait_timeout_while(queue, patience, |queue| queue.count == 0).unwrap();
        assert!(!waited.timed_out());
        let count = queue.count - 1;
        // Whoever finds that the shop closes leaves it to the others to find too.
        let (ware, number) = match queue.slots[count].expect("it is one of the first `count`") {
            Order::One { ware } => (ware, 1),
            Order::Several(ware, number) => (ware, number),
            Order::Close => {
                shop.more.notify_all();
                return;
            }
        };
        queue.slots[count] = None;
        queue.count = count;
        drop(queue);
        shop.opened.get_or_init(|| Duration::from_secs(8 * 60 * 60));
        let _counter = shop.counters.acquire();
        let price = shop.prices.read().unwrap()[usize::from(ware)];
        shop.sold.fetch_add(u64::from(price) * number, Relaxed);
    };
    std::thread::scope(|scope| {
        scope.spawn(serve);
        scope.spawn(serve);
        let mut queue = shop.queue.lock().unwrap();
        queue.slots = [Some(Order::Close), Some(Order::One { ware: 2 }), Some(Order::Several(0, 10)), None];
        queue.count = 3;
        drop(queue);
        shop.more.notify_all();
    });
    assert_eq!(shop.sold.load(Relaxed), 5 + 2 * 10);
    assert_eq!(shop.opened.get(), Some(&Duration::from_secs(8 * 60 * 60)));
    assert_eq!(shop.counters.value(), 1);
    assert_eq!(Bytes::of(bytes!(Shop)), Bytes::Checked);
}

#[test]
fn locks_are_noticed_wherever_they_are() {
    #[derive(ShmSafe)]
    struct Beside {
        number: u64,
        lock: Mutex<u64>,
    }
    #[derive(ShmSafe)]
    enum Either {
        Number(u64),
        Lock([(u8, Mutex<u64>); 2]),
    }
    for (has, layout) in [
        (true, Mutex::<u64>::LAYOUT),
        (true, ReentrantMutex::<u64>::LAYOUT),
        (true, RwLock::<u64>::LAYOUT),
        (true, OnceLock::<u64>::LAYOUT),
        (true, <RobustSemaphore>::LAYOUT),
        (true, Beside::LAYOUT),
        (true, Either::LAYOUT),
        (true, <Option<(u8, Mutex<u8>)>>::LAYOUT),
        (true, <ReentrantMutex<Beside>>::LAYOUT),
        (true, <[Beside; 3]>::LAYOUT),
        (true, Layout::of::<u8>("by hand").locks()),
        (false, Layout::of::<u8>("by hand")),
        (false, <[AtomicU64; 3]>::LAYOUT),
        (false, Condvar::LAYOUT),
        (false, Semaphore::LAYOUT),
        (false, Event::LAYOUT),
        (false, Barrier::LAYOUT),
    ] {
        assert_eq!(layout.has_locks(), has, "{layout:?}");
    }
}
