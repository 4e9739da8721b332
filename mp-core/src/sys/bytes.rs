//! Vectors, slices and arrays of numbers as bytes, in generic code that does not know its types.
//!
//! serde treats a vector or an array of numbers as a sequence, with one call for each element. The
//! codec asks this module whether the bytes of a value in memory are those on the wire, and then
//! copies them at once. `numbers!` lists the types. On targets that are not 64-bit little-endian,
//! only `u8` and `i8` are among them.

use std::any::{TypeId, type_name};
use std::borrow::Cow;
use std::ffi::OsString;
use std::marker::PhantomData;
use std::mem::{self, ManuallyDrop, MaybeUninit};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::{ptr, slice};

use serde::de::DeserializeOwned;

/// A number whose bytes in memory are its bytes on the wire.
///
/// # Safety
///
/// The type has no padding, and any bytes are a valid value.
pub(crate) unsafe trait Number: Copy + DeserializeOwned + 'static {}

/// What reads numbers.
pub(crate) trait Take {
    type Error;

    /// Returns the ID of the type by which a `V` is asked for, which is a sequence or a tuple.
    fn request<V: DeserializeOwned>() -> Option<TypeId>;

    /// Reads a vector: the number of elements, and their bytes.
    fn take<N: Number>(self) -> Result<Vec<N>, Self::Error>;

    /// Takes so many bytes of the input, if they are in memory already.
    fn show(&mut self, length: usize) -> Option<&[u8]>;

    /// Reads an array: its bytes.
    fn fill(self, bytes: &mut [u8]) -> Result<(), Self::Error>;
}

/// Numbers in memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Numbers<'a> {
    /// How many there are, if the type does not say it.
    pub(crate) count: Option<usize>,
    pub(crate) bytes: &'a [u8],
}

/// Returns what `TypeId::of` would return for `T` if all its lifetimes were `'static`.
///
/// So types that differ only in lifetimes have the same ID, and types without lifetimes have
/// different ones.
pub(crate) fn id<T: ?Sized>() -> TypeId {
    trait Known {
        fn id(&self) -> TypeId
        where
            Self: 'static;
    }
    impl<T: ?Sized> Known for PhantomData<T> {
        fn id(&self) -> TypeId
        where
            Self: 'static,
        {
            TypeId::of::<T>()
        }
    }
    let marker = PhantomData::<T>;
    let known: &dyn Known = &marker;
    // SAFETY: the two types differ only in a lifetime, which has no representation. The longer
    // lifetime permits calling `id`, which is all that is done with the reference. `marker` is
    // still alive then, and `id` reads nothing from it. The returned number holds no lifetime.
    let known: &(dyn Known + 'static) = unsafe { mem::transmute::<&dyn Known, &(dyn Known + 'static)>(known) };
    known.id()
}

/// Returns the bytes of `numbers`.
fn bytes<N: Number>(numbers: &[N]) -> &[u8] {
    // SAFETY: `from_raw_parts` needs a pointer to that many initialised bytes, which must not
    // change while they are borrowed. This is the memory of `numbers`, borrowed for as long, and a
    // `Number` has no padding.
    unsafe { slice::from_raw_parts(numbers.as_ptr().cast::<u8>(), size_of_val(numbers)) }
}

/// serde has arrays of these lengths, and the empty one.
macro_rules! lengths {
    ($($length:literal)+) => {
        /// The ID of the array of so many numbers.
        #[inline]
        fn array_id<N: Number>(length: usize) -> Option<TypeId> {
            match length {
                $($length => Some(TypeId::of::<[N; $length]>()),)+
                _ => None,
            }
        }

        /// The ID of the type by which that array is asked for.
        #[inline]
        fn array_request<N: Number, T: Take>(length: usize) -> Option<TypeId> {
            match length {
                $($length => T::request::<[N; $length]>(),)+
                _ => None,
            }
        }
    };
}

lengths!(1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31 32);

/// Tells whether `T` may be an array of numbers. If std changed the names of types, numbers would
/// be treated one by one.
#[inline]
fn may_be_array<T: ?Sized>() -> bool {
    !mem::needs_drop::<T>() && type_name::<T>().as_bytes().first() == Some(&b'[')
}

/// Returns the path in `value`, if that is one, a reference to one, or owns one. `id` is that of
/// its type.
///
/// serde encodes a path as a text, and refuses one that is not UTF-8. The bytes of a text are those
/// of a path, so a path that is UTF-8 is the same on the wire in both ways.
#[inline]
fn path<T: ?Sized>(value: &T, id: TypeId) -> Option<&Path> {
    let place = ptr::from_ref(value).cast::<()>();
    macro_rules! owners {
        ($($owner:ty),+) => {$(
            if id == TypeId::of::<$owner>() {
                // SAFETY: `T` is this type, but for a lifetime in it, which outlives the borrow of
                // `value`. The path is used no longer than that borrow.
                return Some(unsafe { &*place.cast::<$owner>() });
            }
            if id == TypeId::of::<&$owner>() {
                // SAFETY: `T` is a reference to this type, and as above.
                return Some(unsafe { *place.cast::<&$owner>() });
            }
        )+};
    }
    owners!(PathBuf, Box<Path>, Cow<'static, Path>);
    if id == TypeId::of::<&Path>() {
        // SAFETY: `T` is `&'a Path` for some `'a`, and as above.
        return Some(unsafe { *place.cast::<&Path>() });
    }
    if id == TypeId::of::<Path>() {
        // SAFETY: `T` is `Path`, so both are the type `&Path`.
        return Some(unsafe { mem::transmute_copy::<&T, &Path>(&value) });
    }
    None
}

/// Makes the value of a path of any bytes, if `R` is the request for a `PathBuf` and `V` is that.
#[cold]
pub(crate) fn path_from<R, V, T: Take>(bytes: Vec<u8>) -> Option<V> {
    if id::<V>() != TypeId::of::<PathBuf>() || Some(id::<R>()) != T::request::<PathBuf>() {
        return None;
    }
    let path = ManuallyDrop::new(PathBuf::from(OsString::from_vec(bytes)));
    // SAFETY: `V` is `PathBuf`, which has no lifetimes, so this moves the value. The original is
    // not dropped.
    Some(unsafe { mem::transmute_copy::<ManuallyDrop<PathBuf>, V>(&path) })
}

macro_rules! numbers {
    ($($number:ty),+ $(,)?) => {
        $(
            // SAFETY: a primitive integer or float has no padding, and every bit pattern is valid.
            unsafe impl Number for $number {}
        )+

        /// Returns the numbers in `value`, if it is a `Vec` or an array of numbers, a slice of
        /// them, or a reference to a `Vec` or a slice.
        #[inline]
        pub(crate) fn of<T: ?Sized>(value: &T) -> Option<Numbers<'_>> {
            // This rules out most values. It costs nothing with optimisation, and little without.
            // The name of a type tells whether it is a reference; if std changed the names, numbers
            // would be written one by one.
            let is_slice = size_of::<&T>() == size_of::<&[u8]>();
            let is_vec = !is_slice && size_of_val(value) == size_of::<Vec<u8>>() && mem::needs_drop::<T>();
            let is_reference = !is_slice && !is_vec && type_name::<T>().as_bytes().first() == Some(&b'&');
            let is_array = !is_slice && !is_vec && !is_reference && may_be_array::<T>();
            let is_box = !is_slice && size_of_val(value) == size_of::<Box<[u8]>>() && mem::needs_drop::<T>();
            if !(is_slice || is_vec || is_reference || is_array || is_box) {
                return None;
            }
            let id = id::<T>();
            let place = ptr::from_ref(value).cast::<()>();
            if let Some(path) = path(value, id) {
                let bytes = path.as_os_str().as_bytes();
                return Some(Numbers { count: Some(bytes.len()), bytes });
            }
            $(
                if is_vec && id == TypeId::of::<Vec<$number>>() {
                    // SAFETY: `T` is `Vec<$number>`, which has no lifetimes, so this is the
                    // reference `value` itself.
                    let numbers = unsafe { &*place.cast::<Vec<$number>>() };
                    return Some(Numbers { count: Some(numbers.len()), bytes: bytes(numbers) });
                }
                if is_reference && id == TypeId::of::<&[$number]>() {
                    // SAFETY: `T` is `&'a [$number]` for some `'a`. The slice is used no longer
                    // than `value` is borrowed, and `'a` outlives that borrow.
                    let numbers = unsafe { *place.cast::<&[$number]>() };
                    return Some(Numbers { count: Some(numbers.len()), bytes: bytes(numbers) });
                }
                if is_reference && id == TypeId::of::<&Vec<$number>>() {
                    // SAFETY: as for the reference to a slice.
                    let numbers = unsafe { *place.cast::<&Vec<$number>>() };
                    return Some(Numbers { count: Some(numbers.len()), bytes: bytes(numbers) });
                }
                if is_slice && id == TypeId::of::<[$number]>() {
                    let length = size_of_val(value) / size_of::<$number>();
                    // SAFETY: `T` is `[$number]`, so these are the pointer and the length of
                    // `value` itself, borrowed for as long.
                    let numbers = unsafe { slice::from_raw_parts(place.cast::<$number>(), length) };
                    return Some(Numbers { count: Some(length), bytes: bytes(numbers) });
                }
                let length = size_of_val(value) / size_of::<$number>();
                if is_array && Some(id) == array_id::<$number>(length) {
                    // SAFETY: `T` is `[$number; length]`, so this is the memory of its elements,
                    // borrowed as long as `value`.
                    let numbers = unsafe { slice::from_raw_parts(place.cast::<$number>(), length) };
                    return Some(Numbers { count: None, bytes: bytes(numbers) });
                }
            )+
            None
        }

        /// If `R` is the request for a `Vec` of numbers and `V` is that `Vec`, lets `take` make the
        /// value. Otherwise returns `take`.
        #[inline]
        pub(crate) fn take<R, V, T: Take>(take: T) -> Result<Result<V, T::Error>, T> {
            if size_of::<V>() != size_of::<Vec<u8>>() || !mem::needs_drop::<V>() {
                return Err(take);
            }
            let (request, value) = (Some(id::<R>()), id::<V>());
            $(
                if value == TypeId::of::<Vec<$number>>() && request == T::request::<Vec<$number>>() {
                    return Ok(take.take::<$number>().map(|numbers| {
                        let numbers = ManuallyDrop::new(numbers);
                        // SAFETY: `V` is `Vec<$number>`, which has no lifetimes, so this moves the
                        // value. The original is not dropped.
                        unsafe { mem::transmute_copy::<ManuallyDrop<Vec<$number>>, V>(&numbers) }
                    }));
                }
            )+
            Err(take)
        }

        /// The same for an array of numbers.
        #[inline]
        pub(crate) fn fill<R, V, T: Take>(mut take: T) -> Result<Result<V, T::Error>, T> {
            if !may_be_array::<V>() {
                return Err(take);
            }
            let (request, value) = (Some(id::<R>()), Some(id::<V>()));
            $(
                let length = size_of::<V>() / size_of::<$number>();
                if value == array_id::<$number>(length) && request == array_request::<$number, T>(length) {
                    // Not by way of `array`: what is written and then copied in other pieces makes
                    // the processor wait.
                    if let Some(bytes) = take.show(size_of::<V>()) {
                        // SAFETY: there are as many bytes, borrowed for now. `V` is
                        // `[$number; length]`, and any bytes are one.
                        return Ok(Ok(unsafe { bytes.as_ptr().cast::<V>().read_unaligned() }));
                    }
                    let mut array = MaybeUninit::<V>::zeroed();
                    // SAFETY: the memory of `array`, which is initialised and borrowed exclusively.
                    let bytes = unsafe { slice::from_raw_parts_mut(array.as_mut_ptr().cast::<u8>(), size_of::<V>()) };
                    return Ok(take.fill(bytes).map(|()| {
                        // SAFETY: `V` is `[$number; length]`, and any bytes are one.
                        unsafe { array.assume_init() }
                    }));
                }
            )+
            Err(take)
        }
    };
}

#[cfg(all(target_endian = "little", target_pointer_width = "64"))]
numbers!(u8, i8, u16, i16, u32, i32, u64, i64, u128, i128, usize, isize, f32, f64);

#[cfg(not(all(target_endian = "little", target_pointer_width = "64")))]
numbers!(u8, i8);

/// Memory that is being filled from its beginning.
pub(crate) struct Room<'a> {
    bytes: &'a mut [MaybeUninit<u8>],
    filled: usize,
}

impl Room<'_> {
    /// The part that is not filled yet.
    pub(crate) fn rest(&mut self) -> &mut [MaybeUninit<u8>] {
        &mut self.bytes[self.filled..]
    }

    /// Fills the beginning of the rest with `bytes`, which fit.
    pub(crate) fn put(&mut self, bytes: &[u8]) {
        let place = self.rest()[..bytes.len()].as_mut_ptr().cast::<u8>();
        // SAFETY: the indexing above checked that the place is as long as `bytes`. It is
        // exclusively borrowed, so they do not overlap.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), place, bytes.len()) };
        self.filled += bytes.len();
    }

    /// Lets `fill` initialise the rest. It returns the memory that it was given.
    pub(crate) fn fill_by(&mut self, fill: impl FnOnce(&mut [MaybeUninit<u8>]) -> &mut [u8]) -> std::io::Result<()> {
        let place = self.rest().as_ptr().cast::<u8>();
        let filled = fill(self.rest());
        if filled.as_ptr() != place {
            return Err(std::io::ErrorKind::InvalidData.into());
        }
        let count = filled.len();
        // SAFETY: `filled` is a reference to initialised bytes, and they are the first of the rest.
        unsafe { self.assume(count) };
        Ok(())
    }

    /// Counts the first `count` bytes of the rest as filled.
    ///
    /// # Safety
    ///
    /// These bytes are initialised.
    pub(crate) unsafe fn assume(&mut self, count: usize) {
        self.filled += count;
    }
}

/// Appends up to `most` numbers, for which the vector has the capacity. `fill` puts their bytes
/// into the room that it gets.
pub(crate) fn append<N: Number, E>(
    numbers: &mut Vec<N>,
    most: usize,
    fill: impl FnOnce(&mut Room<'_>) -> Result<(), E>,
) -> Result<(), E> {
    let room = &mut numbers.spare_capacity_mut()[..most];
    let length = size_of_val(room);
    // SAFETY: this is the memory of `room`, exclusively borrowed for as long. A `MaybeUninit<u8>`
    // needs no alignment and no initialisation.
    let bytes = unsafe { slice::from_raw_parts_mut(room.as_mut_ptr().cast::<MaybeUninit<u8>>(), length) };
    let mut room = Room { bytes, filled: 0 };
    let result = fill(&mut room);
    let count = room.filled.min(length) / size_of::<N>();
    // SAFETY: the `count` elements after the vector's own are within its capacity. All their bytes
    // are initialised, because `Room` counts only initialised bytes, and any bytes are a valid
    // `Number`.
    unsafe { numbers.set_len(numbers.len() + count) };
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vec(count: usize, bytes: &[u8]) -> Option<Numbers<'_>> {
        Some(Numbers { count: Some(count), bytes })
    }

    #[test]
    fn numbers_are_their_bytes_and_nothing_else_is() {
        let numbers = [1_u16, 2, 3];
        let all = [1, 0, 2, 0, 3, 0];
        assert_eq!(of(&numbers[..]), vec(3, &all[..]));
        assert_eq!(of(&&numbers[1..]), vec(2, &all[2..]));
        assert_eq!(of(&numbers.to_vec()), vec(3, &all[..]));
        assert_eq!(of(&&numbers.to_vec()), vec(3, &all[..]));
        assert_eq!(of::<[u8]>(&[]), vec(0, &[][..]));
        assert_eq!(of(&Vec::<f64>::new()), vec(0, &[][..]));
        assert_eq!(of(&[1.5_f32][..]), vec(1, &1.5_f32.to_le_bytes()[..]));
        assert_eq!(of(&vec![-2_i128]), vec(1, &(-2_i128).to_le_bytes()[..]));

        assert_eq!(of(&numbers), Some(Numbers { count: None, bytes: &all }));
        assert_eq!(of(&[-2_i8]), Some(Numbers { count: None, bytes: &[0xfe] }));
        assert_eq!(of(&[1.5_f64; 32]).unwrap().bytes, 1.5_f64.to_le_bytes().repeat(32));

        assert_eq!(of(&&numbers), None);
        assert_eq!(of(&[0_u8; 33]), None);
        assert_eq!(of::<[u8; 0]>(&[]), None);
        assert_eq!(of(&[[1_u8; 2]; 2]), None);
        assert_eq!(of(&[true; 2]), None);
        assert_eq!(of(&[Some(1_u8)]), None);
        assert_eq!(of(&[MaybeUninit::<u8>::uninit()]), None);
        assert_eq!(of(&&&numbers[..]), None);
        assert_eq!(of(&[true][..]), None);
        assert_eq!(of(&['a'][..]), None);
        assert_eq!(of(&vec![true]), None);
        assert_eq!(of(&vec![[1_u8; 2]]), None);
        assert_eq!(of("text"), None);
        assert_eq!(of(&"text"), None);
        assert_eq!(of(&"text".to_owned()), None);
        assert_eq!(of(&vec![Some(1_u8)]), None);
        assert_eq!(of(&(1_u64, 2_u64, 3_u64)), None);
        assert_eq!(of(&Box::<[u8]>::default()), None);
        assert_eq!(of(&[MaybeUninit::<u8>::uninit()][..]), None);
    }

    #[test]
    fn the_memory_is_the_same() {
        let numbers = vec![1_u8, 2, 3];
        assert!(ptr::eq(of(&numbers).unwrap().bytes, &raw const numbers[..]));
        assert!(ptr::eq(of(&&numbers[1..]).unwrap().bytes, &raw const numbers[1..]));
    }

    struct Two;

    impl Take for Two {
        type Error = ();

        fn request<V: DeserializeOwned>() -> Option<TypeId> {
            Some(id::<PhantomData<V>>())
        }

        fn take<N: Number>(self) -> Result<Vec<N>, ()> {
            let mut numbers = Vec::with_capacity(2);
            append(&mut numbers, 2, |room| {
                let length = room.rest().len();
                room.put(&[1][..length.min(1)]);
                room.put(&vec![0; length - 1]);
                Ok(())
            })?;
            Ok(numbers)
        }

        fn show(&mut self, length: usize) -> Option<&[u8]> {
            [1; 8].get(..length)
        }

        fn fill(self, bytes: &mut [u8]) -> Result<(), ()> {
            bytes.fill(1);
            Ok(())
        }
    }

    #[test]
    fn only_the_request_for_an_array_of_numbers_is_one() {
        assert_eq!(fill::<PhantomData<[u32; 2]>, [u32; 2], _>(Two).ok(), Some(Ok([0x0101_0101; 2])));
        assert_eq!(fill::<PhantomData<[i8; 32]>, [i8; 32], _>(Two).ok(), Some(Ok([1; 32])));
        assert!(fill::<PhantomData<[u8; 0]>, [u8; 0], _>(Two).is_err());
        assert!(fill::<PhantomData<[u8; 33]>, [u8; 33], _>(Two).is_err());
        assert!(fill::<PhantomData<[bool; 2]>, [bool; 2], _>(Two).is_err());
        assert!(fill::<PhantomData<(u8, u8)>, (u8, u8), _>(Two).is_err());
        // A request of another type for the same value, and one for a different value.
        assert!(fill::<u8, [u8; 2], _>(Two).is_err());
        assert!(fill::<PhantomData<[u8; 2]>, [i8; 2], _>(Two).is_err());
    }

    #[test]
    fn only_the_request_for_a_vector_of_numbers_is_one() {
        assert_eq!(take::<PhantomData<Vec<u32>>, Vec<u32>, _>(Two).ok(), Some(Ok(vec![1, 0])));
        assert_eq!(take::<PhantomData<Vec<i8>>, Vec<i8>, _>(Two).ok(), Some(Ok(vec![1, 0])));
        assert!(take::<PhantomData<Vec<bool>>, Vec<bool>, _>(Two).is_err());
        assert!(take::<PhantomData<String>, String, _>(Two).is_err());
        // A request of another type for the same value, and one for a different value.
        assert!(take::<u8, Vec<u8>, _>(Two).is_err());
        assert!(take::<PhantomData<Vec<u8>>, Vec<i8>, _>(Two).is_err());
    }

    #[test]
    fn half_a_number_is_none() {
        let mut numbers = vec![7_u32];
        numbers.reserve(2);
        append(&mut numbers, 2, |room| {
            room.put(&[1, 0, 0, 0, 2, 0]);
            Err(())
        })
        .unwrap_err();
        assert_eq!(numbers, [7, 1]);
    }
}
