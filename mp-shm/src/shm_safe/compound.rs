//! Types that contain values of other types: arrays, tuples and options.

use std::mem::offset_of;

use super::{AnyBits, ShmSafe, Zeroable};
use crate::Layout;

// SAFETY: it consists of its elements only, so what is true of one element is true of the array.
unsafe impl<T: ShmSafe, const N: usize> ShmSafe for [T; N] {
    const LAYOUT: Layout = Layout::array::<Self>(T::LAYOUT, N);
}

// SAFETY: as above.
unsafe impl<T: Zeroable, const N: usize> Zeroable for [T; N] {}

// SAFETY: as above.
unsafe impl<T: AnyBits, const N: usize> AnyBits for [T; N] {}

// SAFETY: it contains its value or nothing. Rust does not specify in general how the two are
// distinguished, so it is not `Zeroable`.
unsafe impl<T: ShmSafe> ShmSafe for Option<T> {
    const LAYOUT: Layout = Layout::around::<Self>("Option", T::LAYOUT);
}

/// Tuples of these types.
macro_rules! tuples {
    ($($($name:ident $index:tt),+;)*) => {$(
        // SAFETY: it consists of its fields and padding, so what is true of all fields is true of
        // the tuple.
        unsafe impl<$($name: ShmSafe),+> ShmSafe for ($($name,)+) {
            const LAYOUT: Layout = Layout::structure::<Self>(
                "()",
                &[$((stringify!($index), offset_of!(Self, $index), $name::LAYOUT)),+],
            );
        }

        // SAFETY: as above.
        unsafe impl<$($name: Zeroable),+> Zeroable for ($($name,)+) {}

        // SAFETY: as above.
        unsafe impl<$($name: AnyBits),+> AnyBits for ($($name,)+) {}
    )*};
}

tuples! {
    A 0;
    A 0, B 1;
    A 0, B 1, C 2;
    A 0, B 1, C 2, D 3;
    A 0, B 1, C 2, D 3, E 4;
    A 0, B 1, C 2, D 3, E 4, F 5;
    A 0, B 1, C 2, D 3, E 4, F 5, G 6;
    A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7;
    A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8;
    A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9;
    A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10;
    A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10, L 11;
}
