//! The arguments of the attribute.

use mp_core::ProcessFn;

mod reexporter {
    pub use mp_core;
    pub use mp_core as renamed;
    pub use mp_core::*;
}

#[mp_core::process_fn(name = "stable.name")]
fn named() {}

#[mp_core::process_fn()]
fn nothing() {}

#[reexporter::mp_core::process_fn(crate = reexporter::mp_core)]
fn elsewhere(a: u8) -> u8 {
    a
}

#[reexporter::process_fn(crate = crate::reexporter, name = r#"raw "name""#,)]
fn both(a: u8) -> u8 {
    a
}

#[mp_core::process_fn(name = "absolute", crate = ::mp_core)]
fn absolute() {}

mod nested {
    #[mp_core::process_fn(crate = super::reexporter::renamed)]
    pub(crate) fn relative(a: u8, b: u8) -> u8 {
        a + b
    }
}

fn main() {
    assert_eq!(named::NAME, "stable.name");
    assert_eq!(both::NAME, r#"raw "name""#);
    assert_eq!(elsewhere::call(1).run(), 1);
    assert_eq!(both::call(1).run(), 1);
    assert_eq!(nested::relative::call(1, 1).run(), 2);
    nothing::call().run();
    absolute::call().run();
}
