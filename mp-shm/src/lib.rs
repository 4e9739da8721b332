//! Memory that several processes share, typed.
//!
//! | to | use | read it as |
//! |---|---|---|
//! | lock it | [`Shared<T>`](Shared), an `Arc` across processes; [`Value<T>`](Value) and [`Array<T>`](Array), each with a lock of its own | `&T`, guards |
//! | move it | [`Buffer<T>`](Buffer): one owner at a time; sending it gives it away without a copy, whole or in parts | `&mut [T]` |
//! | freeze it | [`FrozenBuffer<T>`](FrozenBuffer): sealed against every writer, for any number of readers | `&[T]` |
//! | name it | [`SharedMemory`] and [`ShareableList`], for programs that did not start each other, Python programs included | bytes, items |
//!
//! The first three rows are values of `mp-core`: arguments, results, messages, or parts of them.
//! Only a descriptor is sent, whatever the size.
//!
//! ```
//! use mp_core::process_fn;
//! use mp_shm::{ShmSafe, Shared};
//! use mp_sync::{Condvar, Mutex};
//! use std::sync::atomic::{AtomicU64, Ordering};
//!
//! /// Several locks and counters in one mapping.
//! #[derive(ShmSafe)]
//! struct Workshop {
//!     done: AtomicU64,
//!     open_orders: Mutex<u32>,
//!     no_orders: Condvar,
//!     last_by_day: [Mutex<Option<u32>>; 7],
//! }
//!
//! #[process_fn]
//! fn work(shop: Shared<Workshop>, day: usize) {
//!     *shop.last_by_day[day].lock().expect("nobody died") = Some(std::process::id());
//!     shop.done.fetch_add(1, Ordering::Relaxed);
//!     *shop.open_orders.lock().expect("nobody died") -= 1;
//!     shop.no_orders.notify_all();
//! }
//!
//! let shop = Shared::new(Workshop {
//!     done: AtomicU64::new(0),
//!     open_orders: Mutex::new(2),
//!     no_orders: Condvar::new(),
//!     last_by_day: [const { Mutex::new(None) }; 7],
//! })?;
//! let workers = [work::spawn(shop.clone(), 0)?, work::spawn(shop.clone(), 6)?];
//! let open = shop.open_orders.lock().expect("nobody died");
//! let open = shop.no_orders.wait_while(open, |open| *open > 0).expect("nobody died");
//! assert_eq!((*open, shop.done.load(Ordering::Relaxed)), (0, 2));
//! # drop(open);
//! # for worker in workers { worker.join()?; }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What it costs
//!
//! All but the named kind is an anonymous file in memory (`memfd`). It takes at least a page, and
//! one descriptor in each process that made or received it, however often the process clones it.
//! `ulimit -n` is the limit, 1,024 by default on many systems. The kernel frees the memory with the
//! last process that has it and the last message that holds it, however they end: it has no name
//! that could be left behind.
//!
//! The kernel allocates a page when a process first touches it, as with a `Vec` of zeros;
//! [`Buffer::populate`] allocates all of them at once. Asking for more memory than the machine or
//! the control groups have left is an error. Asking for less succeeds, and the OOM killer may end a
//! process later if memory runs out, as with any memory. If the system does not overcommit
//! (`vm.overcommit_memory` is 2), making or attaching memory reserves all of it. No access to these
//! types raises SIGBUS, with one exception: without overcommit, another process that can write the
//! memory can take reserved pages away.
//!
//! # Whom it trusts
//!
//! | | what another process that has it can do |
//! |---|---|
//! | `Shared`, `Value`, `Array` | anything to the contents: wrong values, locks that are never released. Share them only with processes that you trust like your own. |
//! | `Buffer` | if it kept a mapping or a descriptor by other means: change values after it gave them away, while another process has references to them |
//! | `FrozenBuffer` | nothing |
//! | `SharedMemory`, `ShareableList` | anything: write other bytes, or shorten the file, so that touching a mapping raises SIGBUS |
//!
//! The size of the first three is sealed, so no process can change it. Each begins with a header
//! that describes its contents. Attaching checks the header, the seals, the size and the kind of
//! file, and nothing reads the header afterwards. Whatever a descriptor refers to, and whatever
//! another process does to it later, this crate reads and writes only inside the memory that it
//! checked, or returns an error: an [`AttachError`], or a decoding error with the same text.
//!
//! A value with invalid bytes, such as a `bool` of 2, is undefined behaviour in Rust, and any
//! process that shares memory can write one. So is a value that changes while there is a reference
//! to it. Buffers hold only types for which all bytes are valid, which makes the first impossible,
//! and not the second. All of these but `FrozenBuffer` are for processes that trust each other.
//!
//! # When a process dies
//!
//! | | while it has the memory, or the memory is in a message to it |
//! |---|---|
//! | `Shared`, `Value`, `Array` | others go on; the next owner of a lock that it held receives an error |
//! | `Buffer` | the kernel frees the memory, unless a [`Reclaimer`] takes it back |
//! | `FrozenBuffer` | others go on |
//! | `SharedMemory` | if it created the memory, the next program that uses this library removes it, once no process has it open |
//!
//! # Platforms
//!
//! Linux 5.4 or later with `/proc` mounted, on 64-bit targets, with glibc (for the locks).

#![deny(unsafe_code)]
#![cfg_attr(not(test), warn(clippy::unwrap_used))]

#[cfg(not(target_pointer_width = "64"))]
compile_error!("mp-shm supports only 64-bit targets");

#[allow(unsafe_code, reason = "it hands out references into memory that it has mapped")]
mod array;
#[allow(unsafe_code, reason = "it hands out references into memory that it has mapped")]
mod buffer;
mod error;
#[allow(unsafe_code, reason = "it hands out references into memory that it has mapped")]
mod frozen;
mod layout;
mod named;
mod part;
mod pauses;
#[allow(unsafe_code, reason = "the head of a region is a value in mapped memory")]
pub mod raw;
mod segment;
#[allow(unsafe_code, reason = "it hands out references into memory that it has mapped")]
mod shared;
#[allow(unsafe_code, reason = "what is said of types cannot be checked")]
mod shm_safe;
#[allow(unsafe_code, reason = "the operating system's interface")]
mod sys;
mod value;

/// Implements the trait [`ShmSafe`](trait@ShmSafe): values of the type can be in memory that
/// several processes share.
///
/// # Examples
///
/// Several locks and counters, which make one value of shared memory:
///
/// ```
/// use std::sync::atomic::AtomicU64;
/// use std::time::Duration;
///
/// use mp_shm::ShmSafe;
/// use mp_sync::{Condvar, Mutex, Semaphore};
///
/// #[derive(ShmSafe)]
/// struct Jobs {
///     waiting: Mutex<Waiting>,
///     more: Condvar,
///     downloads: Semaphore,
///     done: AtomicU64,
/// }
///
/// #[derive(ShmSafe)]
/// struct Waiting {
///     jobs: [Option<Job>; 100],
///     count: usize,
/// }
///
/// #[derive(ShmSafe, Clone, Copy)]
/// enum Job {
///     Fetch { page: u64, patience: Duration },
///     Resize(u32, u32),
///     Stop,
/// }
///
/// fn can_be_shared<T: ShmSafe + Send + Sync>() {}
/// can_be_shared::<Jobs>();
/// ```
///
/// Generic types. Their parameters are part of the layout, even if no field contains a value of
/// them:
///
/// ```
/// use mp_shm::{Buffer, ShmSafe};
///
/// #[derive(ShmSafe, Clone, Copy)]
/// struct Ring<T, const N: usize> {
///     slots: [T; N],
///     first: u64,
/// }
///
/// let rings = Buffer::<Ring<f32, 8>>::zeroed(3)?;
/// assert_ne!(Ring::<f32, 8>::LAYOUT, Ring::<u32, 8>::LAYOUT);
///
/// #[derive(ShmSafe)]
/// struct Currency<const CODE: u32>(i64);
///
/// assert_ne!(Currency::<978>::LAYOUT, Currency::<840>::LAYOUT);
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// For an enum with a `repr`, zero bytes are valid if they are a valid value of the variant with
/// discriminant 0:
///
/// ```
/// use mp_shm::{Array, ShmSafe};
///
/// #[derive(ShmSafe)]
/// #[repr(u8)]
/// enum Slot {
///     Empty,
///     Used { by: u32 },
/// }
///
/// let slots = Array::<Slot>::zeroed(64)?;
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// `#[shm_safe(invariants)]` is for a type that relies on the checks of its constructor. Then no
/// value is ever made from zeros or from bytes that another process wrote:
///
/// ```compile_fail,E0277
/// use mp_shm::{Array, ShmSafe};
///
/// /// Odd, always.
/// #[derive(ShmSafe)]
/// #[shm_safe(invariants)]
/// pub struct Odd(u64);
///
/// impl Odd {
///     pub fn new(number: u64) -> Option<Self> {
///         (number % 2 == 1).then_some(Self(number))
///     }
/// }
///
/// let numbers = Array::<Odd>::zeroed(8);
/// ```
///
/// A type that would be meaningless in another process does not compile:
///
/// ```compile_fail
/// #[derive(mp_shm::ShmSafe)]
/// struct Message {
///     text: String, // a `String` has its text in the memory of one process: use an array of bytes, ..
/// }
/// ```
///
/// # Reference
///
pub use mp_macros::ShmSafe;

pub use self::{
    array::{Array, ArrayError, ArrayGuard},
    buffer::{Buffer, BufferError, FreezeError, ReclaimError, Reclaimer, RejoinError, RejoinErrorReason},
    error::AttachError,
    frozen::FrozenBuffer,
    layout::Layout,
    named::{Item, Items, NameError, ShareableList, ShareableListError, SharedMemory, SharedMemoryError},
    shared::Shared,
    shm_safe::{AnyBits, ShmSafe, Zeroable},
    value::Value,
};
