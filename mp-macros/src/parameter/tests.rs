use syn::{Signature, parse_quote};

use super::Parameter;
use crate::errors::Errors;

fn names(signature: &Signature) -> Vec<String> {
    let mut errors = Errors::default();
    let parameters = Parameter::all(signature, None, &mut errors).0;
    errors.finish(()).expect("no parameter is at fault");
    parameters.iter().map(|parameter| parameter.name.to_string()).collect()
}

#[test]
fn plain_names_stay() {
    let signature = parse_quote!(fn f(a: u8, mut b: u8, _c: u8, r#type: u8, ref d: u8));
    assert_eq!(names(&signature), ["a", "b", "_c", "r#type", "d"]);
}

#[test]
fn other_patterns_are_named_by_position() {
    let signature = parse_quote!(fn f(_: u8, (a, b): (u8, u8), [c, d]: [u8; 2], P { x, .. }: P));
    assert_eq!(names(&signature), ["arg0", "arg1", "arg2", "arg3"]);
}

#[test]
fn made_up_names_avoid_real_ones() {
    let signature = parse_quote!(fn f(_: u8, arg0: u8, arg0_: u8));
    assert_eq!(names(&signature), ["arg0__", "arg0", "arg0_"]);
}

#[test]
fn a_name_that_occurs_twice_is_kept_once() {
    let signature = parse_quote!(fn f(a: u8, a: u8));
    assert_eq!(names(&signature), ["a", "arg1"]);
}

/// The owned form of each parameter.
fn owned(signature: &Signature) -> Vec<String> {
    let mut errors = Errors::default();
    let parameters = Parameter::all(signature, None, &mut errors).0;
    errors.finish(()).expect("no parameter is at fault");
    let krate = parse_quote!(mp_core);
    parameters.iter().map(|parameter| parameter.owned(&krate).to_string().replace(' ', "")).collect()
}

#[test]
fn only_a_whole_parameter_is_a_reference() {
    let signature = parse_quote!(fn f(a: &str, b: (&'_ [u8]), c: Vec<u8>, d: &Vec<u8>));
    let referent = |ty: &str| format!("<{ty}asmp_core::__private::Referent>::Owned");
    assert_eq!(owned(&signature), [referent("str"), referent("[u8]"), "Vec<u8>".to_owned(), referent("Vec<u8>")]);
}

#[test]
fn a_reference_that_cannot_be_lent_is_an_error() {
    for ty in ["&mut u8", "&'static u8", "&&u8", "&Vec<&u8>", "Option<&u8>", "&dyn Send", "&impl Send", "&*const u8"] {
        let ty: syn::Type = syn::parse_str(ty).unwrap();
        let mut errors = Errors::default();
        Parameter::all(&parse_quote!(fn f(a: #ty)), None, &mut errors);
        let error = errors.finish(()).expect_err("it is refused");
        assert_eq!(error.into_iter().count(), 1);
    }
}
