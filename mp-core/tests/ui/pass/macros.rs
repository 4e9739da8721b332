//! Functions that a macro makes, whose parts come in invisible groups.

use mp_core::{ProcessFn, process_fn};

macro_rules! make {
    ($(#[$meta:meta])* $vis:vis fn $name:ident($($arg:ident: $ty:ty),*) -> $out:ty $body:block) => {
        $(#[$meta])*
        #[process_fn]
        $vis fn $name($($arg: $ty),*) -> $out $body
    };
}

make! {
    /// Documented.
    #[inline]
    pub(crate) fn sum(a: u8, b: Vec<u8>) -> u64 { u64::from(a) + b.len() as u64 }
}

make! {
    fn borrowed(a: &str, b: &[u16], c: &'_ (u8, u8), d: u8) -> usize {
        a.len() + b.len() + usize::from(c.0) + usize::from(d)
    }
}

make! { fn empty() -> () {} }

make! { fn never() -> ! { panic!() } }

macro_rules! with_pattern {
    ($name:ident, $pattern:pat, $ty:ty, $label:literal, $krate:path) => {
        #[process_fn(name = $label, crate = $krate)]
        fn $name($pattern: $ty, other: $ty) -> $ty {
            let _ = other;
            Default::default()
        }
    };
}

with_pattern!(tuple, (_a, _b), (u8, u8), "macros.tuple", mp_core);
with_pattern!(plain, _, u8, "macros.plain", ::mp_core);

/// Both parameters are named `a`, and by hygiene differ.
macro_rules! hygienic {
    ($a:ident) => {
        #[process_fn]
        fn subtract($a: i8, a: i8) -> i8 {
            $a - a
        }
    };
}

hygienic!(a);

macro_rules! item {
    ($item:item) => {
        #[process_fn]
        $item
    };
}

item! {
    pub fn whole(a: u8) -> u8 {
        a
    }
}

item! {
    pub(crate) async fn whole_later(a: &u8) -> u8 {
        *a
    }
}

macro_rules! fixed {
    () => {
        #[process_fn]
        fn fixed(a: u8, _: u8) -> u8 {
            a
        }
    };
}

fixed!();

#[test]
fn it_works() {
    assert_eq!(sum::call(1, vec![0]).run(), 2);
    assert_eq!(borrowed::call("ab", &[1], &(1, 0), 1).run(), 5);
    assert_eq!(whole_later::call(&3).run(), 3);
    empty::call().run();
    let _ = never::call();
    assert_eq!(tuple::NAME, "macros.tuple");
    assert_eq!(tuple::call((1, 2), (3, 4)).run(), (0, 0));
    assert_eq!(plain::call(1, 2).run(), 0);
    assert_eq!(subtract::call(3, 1).run(), 2);
    assert_eq!(whole::call(3).run(), 3);
    assert_eq!(fixed::call(3, 1).run(), 3);
}
