//! The slices of mp-core that the linker collects.

use proc_macro2::TokenStream;
use quote::{format_ident, quote};
use syn::parse::{Parse, ParseStream};
use syn::{Attribute, Ident, Token, Type, Visibility};

/// `pub static NAME: [Type];`
struct Slice {
    attributes: Vec<Attribute>,
    visibility: Visibility,
    name: Ident,
    ty: Type,
}

impl Parse for Slice {
    fn parse(input: ParseStream) -> syn::Result<Self> {
        let attributes = input.call(Attribute::parse_outer)?;
        let visibility = input.parse()?;
        input.parse::<Token![static]>()?;
        let name = input.parse()?;
        input.parse::<Token![:]>()?;
        let ty = input.parse()?;
        input.parse::<Token![;]>()?;
        Ok(Self { attributes, visibility, name, ty })
    }
}

/// Declares the slice under a name that contains the version of the package that is being compiled.
pub(crate) fn versioned(item: TokenStream) -> TokenStream {
    let Slice { attributes, visibility, name, ty } = match syn::parse2(item) {
        Ok(slice) => slice,
        Err(error) => return error.to_compile_error(),
    };
    let is_of_names = |character: char| character.is_ascii_alphanumeric();
    let version = std::env::var("CARGO_PKG_VERSION").unwrap_or_default().replace(|it| !is_of_names(it), "_");
    let versioned = format_ident!("MP_CORE_{name}_{version}");
    quote! {
        #(#attributes)*
        #[::linkme::distributed_slice]
        #visibility static #versioned: #ty;
        #visibility use #versioned as #name;
    }
}
