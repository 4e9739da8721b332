//! Additional output for a function that takes references.

use proc_macro2::{Span, TokenStream};
use quote::{ToTokens, quote, quote_spanned};
use syn::Lifetime;

use super::{Expansion, pack, quiet};

impl Expansion<'_> {
    /// The types of the parameters with `lifetime` in the references, packed.
    pub(super) fn arguments(&self, lifetime: &Lifetime) -> TokenStream {
        let parameters = self.function.parameters.iter();
        pack(parameters.map(|parameter| parameter.with_lifetime(lifetime)), self.name.span())
    }

    /// The types of the references, and a call with them. Empty if there are none.
    pub(super) fn borrowing(&self) -> Option<TokenStream> {
        if !self.function.borrows() {
            return None;
        }
        let Self { krate, name, .. } = self;
        let quiet = quiet();
        let lifetime = Lifetime::new("'arguments", Span::mixed_site());
        let arguments = self.arguments(&lifetime);
        let locals = self.locals();
        let unpacked = pack(&locals, Span::mixed_site());
        let types = quote_spanned!(name.span()=> type Arguments<#lifetime> = #arguments;);
        let call = self.call(locals.iter().map(ToTokens::to_token_stream));
        Some(quote! {
            #quiet
            #[automatically_derived]
            impl #krate::__private::Borrowing for #name {
                #types

                fn run(#unpacked: Self::Arguments<'_>) -> Self::Output {
                    #call
                }
            }
        })
    }
}
