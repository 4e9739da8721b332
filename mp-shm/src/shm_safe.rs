//! Types that can be in memory that several processes share.

use crate::Layout;

mod atomics;
mod compound;
mod locks;
mod numbers;

/// A type whose values have the same meaning in every process and at every address.
///
/// [`derive(ShmSafe)`](derive@crate::ShmSafe) implements it for structs and enums of such types.
/// These types implement it: numbers (and `NonZero`, `Wrapping` and `Saturating` of them), `bool`,
/// `char`, `()`, `PhantomData`, `Duration`, atomics, the locks of `mp-sync` with such a value, and
/// arrays, tuples of up to twelve, and `Option`s of such types.
///
/// It does not imply `Send` and `Sync`, which a shared value needs as well.
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
/// A value contains no pointer, no reference, and nothing else that belongs to one process, such as
/// a descriptor or a thread. It does not rely on its `Drop`, because it is never dropped: the
/// kernel frees its memory with the last process that has it. It can be used at any address, even
/// at several at once. It changes through a shared reference only by atomics, or under a lock of
/// `mp-sync`. [`LAYOUT`](Self::LAYOUT) differs from that of every type with other bytes, and states
/// truthfully whether zero bytes and any bytes are valid.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be in memory that several processes share",
    label = "is not `ShmSafe`",
    note = "a type of your own becomes `ShmSafe` by `#[derive(ShmSafe)]`, if its fields are",
    note = "use the locks of `mp_sync`, and arrays instead of types that store their values elsewhere, such as `Vec`"
)]
pub unsafe trait ShmSafe: Sized + 'static {
    /// The layout, on which all processes have to agree.
    const LAYOUT: Layout;
}
