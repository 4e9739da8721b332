//! Memory that several processes share, typed.

#![deny(unsafe_code)]
#![cfg_attr(not(test), warn(clippy::unwrap_used))]

#[cfg(not(target_pointer_width = "64"))]
compile_error!("mp-shm supports 64-bit targets only so far");

#[allow(unsafe_code, reason = "it hands out references into memory that it has mapped")]
mod array;
mod error;
mod layout;
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
    error::AttachError,
    layout::Layout,
    shared::Shared,
    shm_safe::ShmSafe,
    value::Value,
};
