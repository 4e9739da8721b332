//! Lints that people deny do not fire for what is made.

#![forbid(unsafe_code)]
#![deny(warnings, nonstandard_style, rust_2018_idioms, unused)]
#![deny(
    dead_code,
    elided_lifetimes_in_paths,
    missing_copy_implementations,
    missing_debug_implementations,
    missing_docs,
    non_camel_case_types,
    non_local_definitions,
    explicit_outlives_requirements,
    unused_lifetimes,
    redundant_lifetimes,
    single_use_lifetimes,
    trivial_casts,
    unnameable_types,
    unreachable_pub,
    unsafe_code,
    unused_qualifications,
    unused_results
)]
#![deny(clippy::all, clippy::pedantic)]

use mp_core::process_fn;

/// Public, and used by nobody.
#[process_fn]
#[must_use]
pub fn public(count: u64, flag: bool) -> u64 {
    if flag { count } else { 0 }
}

#[process_fn]
fn private(_unused: u64, (a, b): (u8, u8)) -> (u8, u8) {
    (b, a)
}

/// Public, and takes references.
#[process_fn]
#[must_use]
pub fn borrows(text: &str, _numbers: &[u64], data: &[u8], flag: bool) -> usize {
    if flag { text.len() } else { data.len() }
}

#[process_fn]
fn borrows_one(only: &str) -> usize {
    only.len()
}

/// Public, and waits.
///
/// # Errors
///
/// Always.
#[process_fn]
pub async fn waits(text: &str) -> Result<(), String> {
    nothing_later(1).await;
    Err(text.to_owned())
}

#[process_fn]
async fn nothing_later(_unused: u8) {
    std::future::ready(()).await;
}

#[process_fn]
fn nothing() {}

#[process_fn]
#[expect(clippy::too_many_arguments, clippy::many_single_char_names)]
fn many(a: u8, b: u8, c: u8, d: u8, e: u8, f: u8, g: u8, h: u8) -> u64 {
    [a, b, c, d, e, f, g, h].into_iter().map(u64::from).sum()
}

#[process_fn]
#[expect(clippy::fn_params_excessive_bools)]
fn flags(a: bool, b: bool, c: bool, d: bool) -> bool {
    a && b && c && d
}

#[process_fn]
fn stops() -> ! {
    std::process::exit(0)
}

#[process_fn]
#[expect(non_snake_case)]
fn Named(Parameter: u8) -> u8 {
    Parameter
}

mod inner {
    use mp_core::process_fn;
    use std::collections::HashMap;

    /// What is the matter with these types is said once, and can be allowed once.
    #[process_fn]
    #[expect(unused_qualifications, unused_parens, clippy::box_collection, clippy::option_option)]
    #[expect(clippy::boxed_local, clippy::needless_pass_by_value, clippy::unnecessary_wraps)]
    pub(crate) fn types(a: std::collections::HashMap<u8, u8>, b: (u8), c: Box<Vec<u8>>) -> (Option<Option<u8>>) {
        let _: HashMap<u8, u8> = a;
        Some(Some(b + c[0]))
    }

    #[process_fn]
    pub(crate) fn of_module(a: u8) -> u8 {
        a
    }
}

#[test]
fn it_works() {
    #[process_fn]
    fn local(a: u8) -> u8 {
        a
    }

    assert_eq!(inner::of_module(1), local(1));
}
