//! Which bytes are a value of a type.

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Bytes {
    Checked,
    Zeros,
    Any,
}

impl Bytes {
    pub(crate) fn of((is_zeroable, is_any_bits): (bool, bool)) -> Self {
        match (is_zeroable, is_any_bits) {
            (false, false) => Self::Checked,
            (true, false) => Self::Zeros,
            (true, true) => Self::Any,
            (false, true) => panic!("any bytes are a value, and zeros are not"),
        }
    }
}

/// Whether a type is `Zeroable`, and whether it is `AnyBits`. A constant of the type itself counts
/// before that of a trait.
macro_rules! bytes {
    ($ty:ty) => {{
        #[allow(dead_code, reason = "one of each two is used")]
        mod probe {
            use mp_shm::{AnyBits, Zeroable};

            pub(crate) struct Probe<T>(std::marker::PhantomData<T>);
            pub(crate) trait Otherwise {
                const ZEROABLE: bool = false;
                const ANY_BITS: bool = false;
            }
            impl<T> Otherwise for Probe<T> {}
            impl<T: Zeroable> Probe<T> {
                pub(crate) const ZEROABLE: bool = true;
            }
            impl<T: AnyBits> Probe<T> {
                pub(crate) const ANY_BITS: bool = true;
            }
        }
        #[allow(unused_imports, reason = "not for a type that has both")]
        use probe::Otherwise as _;
        (probe::Probe::<$ty>::ZEROABLE, probe::Probe::<$ty>::ANY_BITS)
    }};
}
pub(crate) use bytes;
