//! Slices of bytes that generic code does not know to be such.

use std::any::TypeId;
use std::slice;

/// The same slice, if its elements are bytes.
pub(crate) fn of<T: 'static>(values: &[T]) -> Option<&[u8]> {
    if TypeId::of::<T>() != TypeId::of::<u8>() {
        return None;
    }
    // SAFETY: `from_raw_parts` needs a pointer to as many initialised bytes, which nobody changes while they are borrowed. `T` is
    // `u8`, as the same `TypeId` means the same type; so this is the pointer and the length of `values` itself, borrowed for as long.
    Some(unsafe { slice::from_raw_parts(values.as_ptr().cast::<u8>(), values.len()) })
}

#[cfg(test)]
mod tests {
    #[test]
    fn only_bytes_are_bytes() {
        let bytes = [1_u8, 2, 3];
        assert!(std::ptr::eq(super::of(&bytes[1..]).unwrap(), &raw const bytes[1..]));
        assert_eq!(super::of::<u8>(&[]), Some(&[][..]));
        assert_eq!(super::of(&[1_i8]), None);
        assert_eq!(super::of(&[true]), None);
        assert_eq!(super::of::<std::mem::MaybeUninit<u8>>(&[]), None);
    }
}
