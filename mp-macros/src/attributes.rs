//! Which attributes of the function are copied to the type.

use proc_macro2::{TokenStream, TokenTree};
use quote::{ToTokens, quote};
use syn::parse::{ParseStream, Parser};
use syn::punctuated::Punctuated;
use syn::{Attribute, Meta, Token};

/// Attributes to repeat on the output.
pub(crate) struct Carried {
    /// Conditions: for every item.
    pub(crate) conditions: Vec<TokenStream>,
    /// The others, for the type.
    pub(crate) others: Vec<TokenStream>,
}

impl Carried {
    /// Picks from the attributes of the function.
    pub(crate) fn from(attributes: &[Attribute]) -> Self {
        let pick = |wanted: fn(&Meta) -> bool| {
            let metas = attributes.iter().filter_map(|attribute| pick(&attribute.meta, wanted));
            metas.map(|meta| quote!(#[#meta])).collect()
        };
        Self {
            conditions: pick(|meta| meta.path().is_ident("cfg")),
            others: pick(|meta| {
                let listed_doc = meta.path().is_ident("doc") && matches!(meta, Meta::List(_));
                listed_doc || meta.path().is_ident("deprecated")
            }),
        }
    }
}

/// Returns `meta` if it is wanted, or the wanted parts of a `cfg_attr`, under its condition.
fn pick(meta: &Meta, wanted: fn(&Meta) -> bool) -> Option<TokenStream> {
    if wanted(meta) {
        return Some(meta.to_token_stream());
    }
    let Meta::List(list) = meta else { return None };
    if !list.path.is_ident("cfg_attr") {
        return None;
    }
    let (condition, metas) = parse_cfg_attr.parse2(list.tokens.clone()).ok()?;
    let picked: Vec<_> = metas.iter().filter_map(|meta| pick(meta, wanted)).collect();
    if picked.is_empty() { None } else { Some(quote!(cfg_attr(#condition, #(#picked),*))) }
}

fn parse_cfg_attr(input: ParseStream) -> syn::Result<(TokenStream, Punctuated<Meta, Token![,]>)> {
    let mut condition = TokenStream::new();
    while !input.is_empty() && !input.peek(Token![,]) {
        condition.extend([input.parse::<TokenTree>()?]);
    }
    input.parse::<Token![,]>()?;
    Ok((condition, Punctuated::parse_terminated(input)?))
}

#[cfg(test)]
mod tests;
