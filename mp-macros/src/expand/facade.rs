//! The public part of the output: the type, `spawn` and `call`.

use proc_macro2::{Span, TokenStream};
use quote::{ToTokens, quote, quote_spanned};
use syn::{Ident, Lifetime};

use super::{Expansion, pack, quiet};
use crate::attributes::Carried;
use crate::docs;

impl Expansion<'_> {
    /// The type, with everything else as the argument of an attribute.
    ///
    /// A macro cannot learn that it is in an `impl`, where the parser refuses the type. So what
    /// follows must not be there either, and the name of the macro around it, which the error
    /// quotes, says what to do.
    pub(super) fn facade(&self) -> TokenStream {
        let Self { krate, name, .. } = self;
        let Carried { conditions, others } = &self.carried;
        let visibility = &self.function.visibility;
        let docs = docs::of_type(name, &self.function.attributes);
        let quiet = quiet();
        let rest = [Some(self.functions()), Some(self.assertions()), Some(self.implementation())];
        let rest = rest.into_iter().chain([self.borrowing(), Some(self.registration())]);
        quote_spanned! {name.span()=>
            #krate::__private::move_the_function_out_of_the_impl! {
                [
                    #(#conditions)*
                    #[#krate::__private::beside(#(#rest)*)]
                    #docs
                    #(#others)*
                    #quiet
                    #visibility
                ]
                #name
            }
        }
    }

    /// The functions of the type.
    fn functions(&self) -> TokenStream {
        let Self { krate, name, output, .. } = self;
        let visibility = &self.function.visibility;
        let spawn_docs = docs::of_spawn(name);
        let call_docs = docs::of_call(name);
        let quiet = quiet();
        let names: Vec<_> = self.function.parameters.iter().map(|parameter| &parameter.name).collect();
        let references = self.function.parameters.iter().map(|parameter| match &parameter.reference {
            Some(reference) => reference.to_token_stream(),
            None => parameter.ty.to_token_stream(),
        });
        let parameters = quote!(#(#names: #references),*);
        let call = self.facade_of_call(&names);
        quote! {
            #quiet
            impl #name {
                #spawn_docs
                #visibility fn spawn(#parameters) -> ::core::result::Result<#krate::Process<#output>, #krate::SpawnError> {
                    #krate::Builder::new().spawn(Self::call(#(#names),*))
                }

                #call_docs
                #visibility fn call #call
            }
        }
    }

    /// Signature and body of `call`, from the parameters on.
    fn facade_of_call(&self, names: &[&Ident]) -> TokenStream {
        let Self { krate, name, .. } = self;
        let packed = pack(names, name.span());
        if !self.function.borrows() {
            let types = self.function.parameters.iter().map(|parameter| &parameter.ty);
            return quote! {
                (#(#names: #types),*) -> #krate::Call<Self> {
                    #krate::Call::new(#packed)
                }
            };
        }
        let lifetime = Lifetime::new("'arguments", Span::mixed_site());
        let arguments = self.arguments(&lifetime);
        let types = self.function.parameters.iter().map(|parameter| parameter.with_lifetime(&lifetime));
        quote! {
            <#lifetime>(#(#names: #types),*) -> #krate::Call<Self, #arguments> {
                #krate::__private::borrowing_call::<Self>(#packed)
            }
        }
    }
}
