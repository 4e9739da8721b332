//! What `#[repr(…)]` says about an enum's discriminant.

use proc_macro2::{Span, TokenStream};
use quote::quote;
use syn::{Attribute, Ident};

/// The integers that can be written in `#[repr(…)]`.
const INTEGERS: [&str; 12] = ["u8", "u16", "u32", "u64", "u128", "usize", "i8", "i16", "i32", "i64", "i128", "isize"];

/// How an enum stores its discriminant.
#[derive(Default)]
pub(crate) struct Representation {
    integer: Option<&'static str>,
    is_c: bool,
}

impl Representation {
    /// Reads the attributes of an enum. rustc reports their errors.
    pub(crate) fn from(attributes: &[Attribute]) -> Self {
        let mut representation = Self::default();
        for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident("repr")) {
            let _ = attribute.parse_nested_meta(|meta| {
                if meta.path.is_ident("C") {
                    representation.is_c = true;
                } else if let Some(integer) = INTEGERS.into_iter().find(|integer| meta.path.is_ident(integer)) {
                    representation.integer = Some(integer);
                } else if meta.input.peek(syn::token::Paren) {
                    let content;
                    syn::parenthesized!(content in meta.input);
                    content.parse::<TokenStream>()?;
                }
                Ok(())
            });
        }
        representation
    }

    /// Tells whether the discriminant is stored at the beginning.
    pub(crate) fn is_tagged(&self) -> bool {
        self.is_c || self.integer.is_some()
    }

    /// The type of an explicit discriminant.
    pub(crate) fn discriminant(&self) -> TokenStream {
        let integer = Ident::new(self.integer.unwrap_or("isize"), Span::call_site());
        quote!(::core::primitive::#integer)
    }
}
