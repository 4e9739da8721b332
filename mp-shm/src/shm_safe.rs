//! What may lie in memory that several processes share.

use crate::Layout;

mod atomics;
mod compound;
mod locks;
mod numbers;

/// A type whose values mean the same in every process, wherever they lie.
///
/// [`derive(ShmSafe)`](derive@crate::ShmSafe) implements it for structs and enums of such types.
/// These are: numbers (also `NonZero`, `Wrapping` and `Saturating` ones), `bool`, `char`, `()`,
/// `PhantomData`, `Duration`, atomics, the locks of `mp-sync` with such a value, and arrays, tuples
/// of up to twelve, and `Option`s of such types.
///
/// It says nothing of threads: what is shared has to be `Send` and `Sync` besides.
///
/// # Examples
///
/// ```
/// use mp_shm::ShmSafe;
/// use mp_sync::Mutex;
///
/// /// The bytes that a value takes, if its type can be attached by another process.
/// fn size<T: ShmSafe + Send + Sync>(_: &T) -> usize {
///     size_of::<T>()
/// }
///
/// assert_eq!(size(&Mutex::new((1_u64, Some('x')))), 56);
/// ```
///
/// # Safety
///
/// A value holds no pointer, no reference, and nothing else that belongs to one process: no
/// descriptor, no thread. It has nothing to do when it is dropped, because nobody drops it: its
/// memory goes when the last process has let go. It may be used from any address, also from several
/// at once. What it changes through a shared reference it changes by atomics, or under a lock of
/// `mp-sync`. [`LAYOUT`](Self::LAYOUT) differs from that of a type with other bytes, and says of
/// zeros and of other bytes only what is true.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be in memory that several processes share",
    label = "is not `ShmSafe`",
    note = "a type of your own becomes `ShmSafe` by `#[derive(ShmSafe)]`, if its fields are",
    note = "locks are those of `mp_sync`, and instead of what has its values elsewhere, such as `Vec`, there are arrays"
)]
pub unsafe trait ShmSafe: Sized + 'static {
    /// What the other processes have to agree about.
    const LAYOUT: Layout;
}
