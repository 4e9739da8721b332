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
/// `mp-sync`. [`LAYOUT`](Self::LAYOUT) differs from that of every type with other bytes.
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

/// A type for which zero bytes are a valid value.
///
/// [`derive(ShmSafe)`](derive@crate::ShmSafe) implements it for structs whose fields are all
/// `Zeroable`, and for some enums. These types implement it: numbers, `bool`, `char`, `Duration`,
/// atomics, the locks of `mp-sync` except `Barrier`, if their value is `Zeroable`, and arrays and
/// tuples of such types. `NonZero` and `Option` do not.
///
/// ```compile_fail,E0277
/// // A `NonZero` has no value of zero bytes.
/// let array = mp_shm::Array::<std::num::NonZero<u8>>::zeroed(8);
/// ```
///
/// # Safety
///
/// Zero bytes are a valid value of the type, and respect what its code relies on.
#[diagnostic::on_unimplemented(
    message = "zero bytes may not be a valid value of `{Self}`",
    label = "is not `Zeroable`",
    note = "make the values with `new` or `from_slice`, or use another type: a number with a meaning for 0 instead of a \
            `NonZero` or an `Option`",
    note = "`#[derive(ShmSafe)]` makes a struct `Zeroable` if all its fields are, and an enum with `#[repr(u8)]` if the \
            fields of the variant with the discriminant 0 are"
)]
pub unsafe trait Zeroable: ShmSafe {}

/// A type for which any bytes are a valid value: numbers, and arrays, tuples and structs of these
/// without invariants.
///
/// [`derive(ShmSafe)`](derive@crate::ShmSafe) implements it for structs whose fields are all
/// `AnyBits`.
///
/// ```compile_fail,E0277
/// // Bytes of 0 and 1 only: use a `u8`.
/// let flags = mp_shm::Buffer::<bool>::zeroed(8);
/// ```
///
/// # Safety
///
/// Any bytes are a valid value of the type, and its code does not rely on anything about them. Its
/// padding has no meaning.
#[diagnostic::on_unimplemented(
    message = "any bytes may not be a valid value of `{Self}`",
    label = "is not `AnyBits`",
    note = "a buffer holds numbers, and arrays, tuples and structs of them: use a `u8` for a `bool` or an enum",
    note = "`#[derive(ShmSafe)]` makes a struct `AnyBits` if all its fields are"
)]
pub unsafe trait AnyBits: Zeroable {}
