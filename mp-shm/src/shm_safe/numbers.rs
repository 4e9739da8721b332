//! Primitive types, and types of the standard library that are as simple.

use std::marker::PhantomData;
use std::num::{NonZero, Saturating, Wrapping};
use std::time::Duration;

use super::{AnyBits, ShmSafe, Zeroable};
use crate::Layout;

/// Numbers, for which any bytes are valid.
macro_rules! numbers {
    ($($number:ident)*) => {$(
        // SAFETY: it is a number, and any bytes are valid.
        unsafe impl ShmSafe for $number {
            const LAYOUT: Layout = Layout::of::<Self>(stringify!($number));
        }

        // SAFETY: as above.
        unsafe impl Zeroable for $number {}

        // SAFETY: as above.
        unsafe impl AnyBits for $number {}
    )*};
}

numbers!(u8 u16 u32 u64 u128 usize i8 i16 i32 i64 i128 isize f32 f64);

/// Integers that are not zero.
macro_rules! non_zero {
    ($($number:ident)*) => {$(
        // SAFETY: it is a number.
        unsafe impl ShmSafe for NonZero<$number> {
            const LAYOUT: Layout = Layout::of::<Self>(concat!("NonZero ", stringify!($number)));
        }
    )*};
}

non_zero!(u8 u16 u32 u64 u128 usize i8 i16 i32 i64 i128 isize);

// SAFETY: it is a byte, 0 or 1, and 0 is `false`.
unsafe impl ShmSafe for bool {
    const LAYOUT: Layout = Layout::of::<Self>("bool");
}

// SAFETY: as above.
unsafe impl Zeroable for bool {}

// SAFETY: it is a number, for which 0 is valid.
unsafe impl ShmSafe for char {
    const LAYOUT: Layout = Layout::of::<Self>("char");
}

// SAFETY: as above.
unsafe impl Zeroable for char {}

// SAFETY: it has no bytes, so none are invalid.
unsafe impl ShmSafe for () {
    const LAYOUT: Layout = Layout::of::<Self>("()");
}

// SAFETY: as above.
unsafe impl Zeroable for () {}

// SAFETY: as above.
unsafe impl AnyBits for () {}

// SAFETY: it has no bytes, for any type parameter.
unsafe impl<T: ?Sized + 'static> ShmSafe for PhantomData<T> {
    const LAYOUT: Layout = Layout::of::<Self>("PhantomData");
}

// SAFETY: as above.
unsafe impl<T: ?Sized + 'static> Zeroable for PhantomData<T> {}

// SAFETY: as above.
unsafe impl<T: ?Sized + 'static> AnyBits for PhantomData<T> {}

// SAFETY: it has the same representation as the value in it.
unsafe impl<T: ShmSafe> ShmSafe for Wrapping<T> {
    const LAYOUT: Layout = Layout::structure::<Self>("Wrapping", &[("0", std::mem::offset_of!(Self, 0), T::LAYOUT)]);
}

// SAFETY: as above.
unsafe impl<T: Zeroable> Zeroable for Wrapping<T> {}

// SAFETY: as above.
unsafe impl<T: AnyBits> AnyBits for Wrapping<T> {}

// SAFETY: it has the same representation as the value in it.
unsafe impl<T: ShmSafe> ShmSafe for Saturating<T> {
    const LAYOUT: Layout = Layout::structure::<Self>("Saturating", &[("0", std::mem::offset_of!(Self, 0), T::LAYOUT)]);
}

// SAFETY: as above.
unsafe impl<T: Zeroable> Zeroable for Saturating<T> {}

// SAFETY: as above.
unsafe impl<T: AnyBits> AnyBits for Saturating<T> {}

/// The representation of a `Duration` is not specified. So the compiler checks here that zero bytes
/// are valid: a constant with an invalid value is an error.
const _: Duration = {
    // SAFETY: both have the same size, and an invalid `Duration` would not compile.
    unsafe { std::mem::transmute([0_u8; size_of::<Duration>()]) }
};

// SAFETY: it consists of two numbers, and zero bytes are valid, as checked above.
unsafe impl ShmSafe for Duration {
    const LAYOUT: Layout = Layout::of::<Self>("Duration");
}

// SAFETY: as above.
unsafe impl Zeroable for Duration {}
