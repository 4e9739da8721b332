//! What users see of the output: the type, `spawn` and `call`.

use proc_macro2::TokenStream;
use quote::quote;

use super::{Expansion, pack, quiet};
use crate::attributes::Carried;
use crate::docs;

impl Expansion<'_> {
    /// The type and its functions.
    pub(super) fn facade(&self) -> TokenStream {
        let Self { krate, name, output, .. } = self;
        let Carried { conditions, others } = &self.carried;
        let visibility = &self.function.visibility;
        let docs = docs::of_type(name, &self.function.attributes);
        let spawn_docs = docs::of_spawn(name);
        let call_docs = docs::of_call(name);
        let quiet = quiet();
        let names: Vec<_> = self.function.parameters.iter().map(|parameter| &parameter.name).collect();
        let types = self.function.parameters.iter().map(|parameter| &parameter.ty);
        let parameters = quote!(#(#names: #types),*);
        let packed = pack(&names, name.span());
        quote! {
            #(#conditions)*
            #docs
            #(#others)*
            #quiet
            #visibility struct #name {}

            #(#conditions)*
            #quiet
            impl #name {
                #spawn_docs
                #visibility fn spawn(#parameters) -> ::core::result::Result<#krate::Process<#output>, #krate::SpawnError> {
                    #krate::Builder::new().spawn(Self::call(#(#names),*))
                }

                #call_docs
                #[must_use = "a call does nothing until it is spawned or submitted"]
                #visibility fn call(#parameters) -> #krate::Call<Self> {
                    #krate::Call::new(#packed)
                }
            }
        }
    }
}
