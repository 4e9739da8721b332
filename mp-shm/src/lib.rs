//! Memory that several processes share, typed.
//!
//! | to | there is | which reads as |
//! |---|---|---|
//! | lock it | [`Shared<T>`](Shared), an `Arc` across processes; [`Value<T>`](Value) and [`Array<T>`](Array), with a lock of their own | `&T`, guards |
//! | move it | [`Buffer<T>`](Buffer): one owner at a time; sending it gives it away without a copy, whole or in parts | `&mut [T]` |
//! | freeze it | [`FrozenBuffer<T>`](FrozenBuffer): sealed against every writer, for as many readers as there are | `&[T]` |
//! | name it | [`SharedMemory`] and [`ShareableList`], for programs that did not start each other, Python's among them | bytes, items |
//!
//! The first three are values of `mp-core`: arguments, results, messages, or parts of such. A descriptor travels, whatever the size.
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
//! All but the named kind is an anonymous file in memory (`memfd`): at least a page, and one descriptor for each that a process has made
//! or received, however often it is cloned there. `ulimit -n` is the limit, 1,024 by default on many systems. The kernel frees it with the last
//! process that has it and the last message that it is in, however they end: nothing of it has a name that could be left behind.
//!
//! Memory is there when it is touched, as with a `Vec` of zeros, unless it is asked for at once ([`Buffer::populate`]). What is
//! larger than the memory that the machine or its control groups leave is an error when it is made. Whoever asks for less, and more than
//! there is in the end, is in the hands of the system, as with any memory. Where the system does not overcommit
//! (`vm.overcommit_memory` is 2) all of it is set aside when it is made, or attached. No access to memory of these types ends in SIGBUS,
//! except there, if another process that has the memory to be written takes pages away that were set aside.
//!
//! # Whom it trusts
//!
//! | | what another process that has it can do |
//! |---|---|
//! | `Shared`, `Value`, `Array` | everything to the contents: wrong values, locks that are never free. Share them with those who are trusted as this process is. |
//! | `Buffer` | if it kept a mapping or a descriptor by other means: change values after it gave them away |
//! | `FrozenBuffer` | nothing |
//! | `SharedMemory`, `ShareableList` | everything: other bytes, or a shorter file, so that touching a mapping is a SIGBUS |
//!
//! Nobody can change the size of the first three, which is sealed. Each begins with a header that says what is in it; it is checked when the
//! memory is attached, together with the seals, the size and what kind of file it is, and is not looked at afterwards. So whatever a descriptor
//! leads to, and whatever is done to it later, this crate reads and writes inside the memory that was checked, or returns an error: an
//! [`AttachError`], or a decoding error that says the same.
//!
//! A value with forbidden bytes, such as a `bool` of 2, is undefined behaviour in Rust, and whoever shares memory can write one. That is why
//! buffers hold types of which all bytes are valid, and why `Shared` and its like are for those who are trusted.
//!
//! # When a process dies
//!
//! | | while it has it | while it is in a message |
//! |---|---|---|
//! | `Shared`, `Value`, `Array` | others go on; a lock that it held tells its next owner | the same |
//! | `Buffer` | freed, or had again by a [`Reclaimer`] | the same |
//! | `FrozenBuffer` | others go on | the same |
//! | `SharedMemory` | its creator: the next program that uses this library removes it, once nobody has it open | |
//!
//! # Platforms
//!
//! Linux 5.4 or later with `/proc` mounted, on 64-bit targets, with glibc (for the locks).

#![deny(unsafe_code)]
#![cfg_attr(not(test), warn(clippy::unwrap_used))]

#[cfg(not(target_pointer_width = "64"))]
compile_error!("mp-shm supports 64-bit targets only so far");

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
mod segment;
#[allow(unsafe_code, reason = "it hands out references into memory that it has mapped")]
mod shared;
#[allow(unsafe_code, reason = "what is said of types cannot be checked")]
mod shm_safe;
#[allow(unsafe_code, reason = "the operating system's interface")]
mod sys;
mod value;

/// Implements the trait [`ShmSafe`](trait@ShmSafe): values of the type can be in memory that several processes share.
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
/// Generic types. Their parameters are part of the layout, also those of which there is no value:
///
/// ```
/// use mp_shm::ShmSafe;
///
/// #[derive(ShmSafe)]
/// struct Ring<T, const N: usize> {
///     slots: [T; N],
///     first: u64,
/// }
///
/// assert!(Ring::<f32, 8>::LAYOUT.is_any_bits());
/// assert_ne!(Ring::<f32, 8>::LAYOUT, Ring::<u32, 8>::LAYOUT);
///
/// #[derive(ShmSafe)]
/// struct Currency<const CODE: u32>(i64);
///
/// assert_ne!(Currency::<978>::LAYOUT, Currency::<840>::LAYOUT);
/// ```
///
/// Zeros are a value of an enum that says how it stores its variants, if they are one of the first:
///
/// ```
/// use mp_shm::ShmSafe;
///
/// #[derive(ShmSafe)]
/// #[repr(u8)]
/// enum Slot {
///     Empty,
///     Taken { by: u32 },
/// }
///
/// assert!(<[Slot; 64]>::LAYOUT.is_zeroable());
/// ```
///
/// A type that relies on what its constructor has checked is never made of zeros, nor of bytes that somebody else wrote:
///
/// ```
/// use mp_shm::ShmSafe;
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
/// assert!(u64::LAYOUT.is_zeroable() && !Odd::LAYOUT.is_zeroable());
/// ```
///
/// What would mean nothing in another process does not compile:
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
    shm_safe::ShmSafe,
    value::Value,
};
