//! Types of the language without parts, and those of the standard library that are as plain.

use std::marker::PhantomData;
use std::num::{NonZero, Saturating, Wrapping};
use std::time::Duration;

use super::ShmSafe;
use crate::Layout;

/// Numbers: all bytes are one.
macro_rules! numbers {
    ($($number:ident)*) => {$(
        // SAFETY: it is nothing but a number, and all bytes are one.
        unsafe impl ShmSafe for $number {
            const LAYOUT: Layout = Layout::of::<Self>(stringify!($number)).any_bits();
        }
    )*};
}

numbers!(u8 u16 u32 u64 u128 usize i8 i16 i32 i64 i128 isize f32 f64);

/// Integers that are not zero.
macro_rules! non_zero {
    ($($number:ident)*) => {$(
        // SAFETY: it is nothing but a number, of which nothing is said but its name.
        unsafe impl ShmSafe for NonZero<$number> {
            const LAYOUT: Layout = Layout::of::<Self>(concat!("NonZero ", stringify!($number)));
        }
    )*};
}

non_zero!(u8 u16 u32 u64 u128 usize i8 i16 i32 i64 i128 isize);

// SAFETY: it is a byte of 0 or 1, and 0 is `false`.
unsafe impl ShmSafe for bool {
    const LAYOUT: Layout = Layout::of::<Self>("bool").zeroable();
}

// SAFETY: it is a number, and 0 is one of those that it may be.
unsafe impl ShmSafe for char {
    const LAYOUT: Layout = Layout::of::<Self>("char").zeroable();
}

// SAFETY: it has no bytes, so no bytes are wrong.
unsafe impl ShmSafe for () {
    const LAYOUT: Layout = Layout::of::<Self>("()").any_bits();
}

// SAFETY: it has no bytes, whatever the type that it names may be.
unsafe impl<T: ?Sized + 'static> ShmSafe for PhantomData<T> {
    const LAYOUT: Layout = Layout::of::<Self>("PhantomData").any_bits();
}

// SAFETY: it is the value in it, by another name.
unsafe impl<T: ShmSafe> ShmSafe for Wrapping<T> {
    const LAYOUT: Layout = Layout::structure::<Self>("Wrapping", &[("0", std::mem::offset_of!(Self, 0), T::LAYOUT)]);
}

// SAFETY: it is the value in it, by another name.
unsafe impl<T: ShmSafe> ShmSafe for Saturating<T> {
    const LAYOUT: Layout = Layout::structure::<Self>("Saturating", &[("0", std::mem::offset_of!(Self, 0), T::LAYOUT)]);
}

/// How a duration is put together is not promised; that zeros are one is what the compiler checks
/// here, of every version that builds this: a constant that is no value of its type is an error.
const _: Duration = {
    // SAFETY: both have the same size, and what is no `Duration` does not compile.
    unsafe { std::mem::transmute([0_u8; size_of::<Duration>()]) }
};

// SAFETY: it is two numbers, and zeros are a value of it, as above.
unsafe impl ShmSafe for Duration {
    const LAYOUT: Layout = Layout::of::<Self>("Duration").zeroable();
}
