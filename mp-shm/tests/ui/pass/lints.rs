//! Lints that people deny do not fire for what is made.

#![forbid(unsafe_code)]
#![deny(warnings, nonstandard_style, rust_2018_idioms, unused)]
#![deny(
    dead_code,
    drop_bounds,
    elided_lifetimes_in_paths,
    missing_copy_implementations,
    missing_debug_implementations,
    missing_docs,
    non_camel_case_types,
    non_local_definitions,
    explicit_outlives_requirements,
    let_underscore_drop,
    unused_lifetimes,
    redundant_lifetimes,
    single_use_lifetimes,
    trivial_casts,
    unused_braces,
    unused_parens,
    trivial_numeric_casts,
    unnameable_types,
    unreachable_pub,
    unsafe_code,
    unused_qualifications,
    unused_results,
    variant_size_differences
)]
#![deny(clippy::all, clippy::pedantic)]

use mp_shm::ShmSafe;

/// Public, and used by nobody.
#[derive(ShmSafe, Clone, Copy, Debug)]
pub struct Public {
    /// A field.
    pub count: u64,
    flag: bool,
}

impl Public {
    /// Whether it is.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.flag
    }
}

/// Public, and generic.
#[derive(ShmSafe, Clone, Copy, Debug)]
#[shm_safe(invariants)]
pub struct Generic<T, const WIDE: u64, const NARROW: u8, const SIGNED: i8, const FLAG: bool, const LETTER: char> {
    /// A field.
    pub value: Option<T>,
}

/// Public, with variants.
#[derive(ShmSafe, Clone, Copy, Debug)]
#[repr(u8)]
pub enum Variants {
    /// One.
    One = 7,
    /// Two.
    Two(u8) = 1 << 1,
    /// Three.
    Three {
        /// A field.
        of: u8,
    },
}

/// Public, by isize.
#[derive(ShmSafe, Clone, Copy, Debug)]
pub enum Plain {
    /// Down.
    Down = -1,
    /// Up.
    Up = 1,
}

#[derive(ShmSafe)]
struct Nothing;

mod inner {
    use mp_shm::ShmSafe;
    use std::num::Wrapping;

    /// What is the matter with these types is said once, and can be allowed once.
    #[derive(ShmSafe)]
    #[expect(unused_qualifications, unused_parens, clippy::option_option)]
    pub(crate) struct Types {
        pub(crate) a: std::num::Wrapping<u8>,
        pub(crate) b: (u8),
        pub(crate) c: Option<Option<u8>>,
    }

    #[derive(ShmSafe)]
    #[repr(i16)]
    pub(crate) enum Values {
        First = (1),
        Second = { 1 + 1 },
    }

    pub(crate) fn types() -> Types {
        Types { a: Wrapping(1), b: 2, c: None }
    }

    #[deprecated]
    #[derive(ShmSafe)]
    pub(crate) struct Old(#[deprecated] pub(crate) u8);
}

#[test]
fn it_works() {
    #[derive(ShmSafe)]
    struct Local(u8);

    let inner::Types { a, b, c } = inner::types();
    assert_eq!(u16::from(a.0) + u16::from(b) + u16::from(c.is_none()), 4);
    assert_eq!((inner::Values::First as i16) + (inner::Values::Second as i16), 3);
    assert_eq!(Local(7).0, 7);
    let Nothing = Nothing;
    #[expect(deprecated)]
    let old = inner::Old(1).0;
    assert_eq!(old, 1);
}
