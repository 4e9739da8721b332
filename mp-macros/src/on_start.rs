//! The attribute `#[on_start]`.

use proc_macro2::{Span, TokenStream};
use quote::{quote, quote_spanned};
use syn::ext::IdentExt;
use syn::parse::Parser;
use syn::{Error, Ident, ItemFn, Meta, Path, ReturnType, Safety, Signature, parse_quote};

use crate::args::{PathArgument, parse_value};
use crate::expand::quiet;

/// Expands the attribute. On an error it keeps the item, so that uses of the item are not errors as
/// well.
pub(crate) fn expand(arguments: TokenStream, item: TokenStream) -> TokenStream {
    let beside = register(arguments, item.clone()).unwrap_or_else(|error| error.to_compile_error());
    quote!(#item #beside)
}

fn register(arguments: TokenStream, item: TokenStream) -> syn::Result<TokenStream> {
    let krate = crate_path.parse2(arguments)?;
    let function: ItemFn = syn::parse2(item)?;
    if !is_plain(&function.sig) {
        let message =
            "a function that runs at the start of a process has the form `fn name()`: it takes and returns nothing";
        return Err(Error::new_spanned(&function.sig, message));
    }
    let name = &function.sig.ident;
    let text = name.unraw().to_string();
    let is_condition = |meta: &&Meta| meta.path().is_ident("cfg");
    let conditions: Vec<_> = function.attrs.iter().map(|attribute| &attribute.meta).filter(is_condition).collect();
    let quiet = quiet();
    let run = quote_spanned!(Span::call_site().located_at(name.span())=> #name);
    Ok(quote! {
        #(#[#conditions])*
        #quiet
        const _: () = {
            #[#krate::__private::linkme::distributed_slice(#krate::__private::START_HOOKS)]
            #[linkme(crate = #krate::__private::linkme)]
            static HOOK: #krate::__private::StartHook =
                #krate::__private::StartHook::new(::core::concat!(::core::module_path!(), "::", #text), #run);
        };
    })
}

/// `crate = path`, or nothing.
fn crate_path(input: syn::parse::ParseStream) -> syn::Result<Path> {
    if input.is_empty() {
        return Ok(parse_quote!(::mp_core));
    }
    let key = input.call(Ident::parse_any)?;
    if key != "crate" {
        return Err(Error::new(key.span(), format!("unknown argument `{key}`: expected `crate = path`")));
    }
    let path = parse_value::<PathArgument>(input, &key, "crate = path::to::mp_core")?;
    Ok(path.into_inner())
}

/// Tells whether a function has no more than a name and a body.
fn is_plain(signature: &Signature) -> bool {
    let Signature { asyncness, constness, safety, abi, generics, inputs, output, .. } = signature;
    let is_qualified =
        asyncness.is_some() || constness.is_some() || abi.is_some() || !matches!(safety, Safety::Default);
    !is_qualified && generics.params.is_empty() && inputs.is_empty() && matches!(output, ReturnType::Default)
}
