use quote::quote;
use syn::{Attribute, ItemFn, parse_quote};

use super::Carried;

fn carried(function: ItemFn) -> (String, String) {
    let attributes: Vec<Attribute> = function.attrs;
    let Carried { conditions, others } = Carried::from(&attributes);
    (quote!(#(#conditions)*).to_string(), quote!(#(#others)*).to_string())
}

#[test]
fn conditions_and_deprecation_are_carried() {
    let (conditions, others) = carried(parse_quote! {
        #[cfg(unix)]
        #[inline]
        #[must_use]
        #[deprecated = "old"]
        #[doc(hidden)]
        #[doc = "text"]
        fn f() {}
    });
    assert_eq!(conditions, quote!(#[cfg(unix)]).to_string());
    assert_eq!(others, quote!(#[deprecated = "old"] #[doc(hidden)]).to_string());
}

#[test]
fn a_conditional_attribute_keeps_its_condition() {
    let (conditions, others) = carried(parse_quote! {
        #[cfg_attr(all(unix, true), inline, deprecated, cfg(linux), cfg_attr(x, doc(hidden), cold))]
        #[cfg_attr(unix, unsafe(no_mangle))]
        fn f() {}
    });
    assert_eq!(conditions, quote!(#[cfg_attr(all(unix, true), cfg(linux))]).to_string());
    let expected = quote!(#[cfg_attr(all(unix, true), deprecated, cfg_attr(x, doc(hidden)))]);
    assert_eq!(others, expected.to_string());
}
