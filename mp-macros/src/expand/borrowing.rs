//! What a function needs in addition if it takes references.

use proc_macro2::{Span, TokenStream};
use quote::{ToTokens, quote, quote_spanned};
use syn::{Lifetime, TypeReference};

use super::{Expansion, pack, quiet};
use crate::parameter;

impl Expansion<'_> {
    /// The types of the parameters with `lifetime` in the references, packed.
    pub(super) fn arguments(&self, lifetime: &Lifetime) -> TokenStream {
        let parameters = self.function.parameters.iter();
        pack(parameters.map(|parameter| parameter.with_lifetime(lifetime)), self.name.span())
    }

    /// How the arguments are encoded through the references, and what they become; nothing if there are none.
    pub(super) fn borrowing(&self) -> Option<TokenStream> {
        if !self.function.borrows() {
            return None;
        }
        let Self { krate, name, .. } = self;
        let conditions = &self.carried.conditions;
        let quiet = quiet();
        let lifetime = Lifetime::new("'arguments", Span::mixed_site());
        let arguments = self.arguments(&lifetime);
        let locals = self.locals();
        let unpacked = pack(&locals, Span::mixed_site());
        let mut received = Vec::new();
        let mut decoded = Vec::new();
        let mut encoded = Vec::new();
        for (parameter, local) in self.function.parameters.iter().zip(&locals) {
            if let Some(TypeReference { elem, .. }) = &parameter.reference {
                let place = parameter::place(elem);
                received.push(quote_spanned!(place=> #krate::__private::Received<#elem>));
                decoded.push(quote!(#krate::__private::Received(#local)));
                encoded.push(quote_spanned!(place=> #krate::__private::Lent::<#elem>(#local)));
            } else {
                received.push(parameter.ty.to_token_stream());
                decoded.push(local.to_token_stream());
                encoded.push(local.to_token_stream());
            }
        }
        let received = pack(received, name.span());
        let decoded = pack(decoded, Span::mixed_site());
        let encoded = pack(encoded, Span::mixed_site());
        let types = quote_spanned! {name.span()=>
            type Arguments<#lifetime> = #arguments;
            type Received = #received;
        };
        let call = self.call(locals.iter().map(ToTokens::to_token_stream));
        Some(quote! {
            #(#conditions)*
            #quiet
            #[automatically_derived]
            impl #krate::__private::Borrowing for #name {
                #types

                fn encode(#unpacked: &Self::Arguments<'_>) -> ::core::result::Result<#krate::raw::Message, #krate::EncodeError> {
                    #krate::raw::Message::encode(&#encoded)
                }

                fn run(#unpacked: Self::Arguments<'_>) -> Self::Output {
                    #call
                }

                fn owned(#decoded: Self::Received) -> Self::Args {
                    #unpacked
                }
            }
        })
    }
}
