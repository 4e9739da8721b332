//! The parameters of the type.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{GenericParam, Generics, Path, parse_quote};

use crate::errors::Errors;

/// Reports lifetimes.
pub(crate) fn check(generics: &Generics, errors: &mut Errors) {
    for parameter in generics.lifetimes() {
        errors.at(
            &parameter.lifetime,
            "a value in shared memory cannot borrow from one process: remove the lifetime, and use values in the fields \
             instead of references",
        );
    }
}

/// Tells whether the parameters allow the type to be `'static`.
pub(crate) fn are_static(generics: &Generics) -> bool {
    generics.lifetimes().next().is_none()
}

/// The generics, with a bound for each type parameter.
pub(crate) fn bounded(generics: &Generics, krate: &Path) -> Generics {
    let mut bounded = generics.clone();
    for parameter in generics.type_params() {
        let name = &parameter.ident;
        bounded.make_where_clause().predicates.push(parse_quote!(#name: #krate::ShmSafe));
    }
    bounded
}

/// Method calls that add the parameters to a layout, because there may be no field of that type.
pub(crate) fn told_apart(generics: &Generics, krate: &Path) -> TokenStream {
    let numbers = generics.params.iter().filter_map(|parameter| match parameter {
        GenericParam::Type(parameter) => {
            let name = &parameter.ident;
            Some(quote!(.with(<#name as #krate::ShmSafe>::LAYOUT.digest())))
        }
        GenericParam::Const(parameter) => {
            let name = &parameter.ident;
            // In two halves, because a number may have 128 bits.
            Some(quote!(
                .with(#name as ::core::primitive::u64)
                .with(((#name as ::core::primitive::u128) >> 64) as ::core::primitive::u64)
            ))
        }
        GenericParam::Lifetime(_) => None,
    });
    quote!(#(#numbers)*)
}
