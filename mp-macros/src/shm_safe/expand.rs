//! The output: the implementation, and a check that the type has no `Drop`.

use proc_macro2::{Span, TokenStream};
use quote::{format_ident, quote, quote_spanned};
use syn::ext::IdentExt;
use syn::spanned::Spanned;
use syn::{DeriveInput, Generics, Ident, Member, Path};

use super::args::Args;
use super::generics;
use super::representation::Representation;
use super::shape::{Field, Shape, Variant};
use crate::expand::quiet;

/// The output for one type.
///
/// Everything has the span of the derive. Where a message should point at the type or a field, it
/// has that location with the hygiene of the derive. So lints, `unsafe_code` among them, know that
/// this is generated code.
pub(crate) struct Expansion<'a> {
    krate: &'a Path,
    invariants: bool,
    name: Ident,
    generics: &'a Generics,
    bounded: Generics,
}

impl<'a> Expansion<'a> {
    pub(crate) fn new(args: &'a Args, input: &'a DeriveInput) -> Self {
        let mut name = input.ident.clone();
        name.set_span(Span::call_site().located_at(name.span()));
        let bounded = generics::bounded(&input.generics, &args.krate);
        Self { krate: &args.krate, invariants: args.invariants, name, generics: &input.generics, bounded }
    }

    /// The output for a type that passed all checks.
    pub(crate) fn of(&self, shape: &Shape) -> TokenStream {
        let mut layout = match shape {
            Shape::Struct(fields) => self.structure(fields),
            Shape::Enum(representation, variants) => self.enumeration(representation, variants),
        };
        layout.extend(generics::told_apart(self.generics, self.krate));
        let mut tokens = self.implementation(&layout);
        if !self.invariants {
            tokens.extend(shape.zeroed().map(|fields| self.bytes("Zeroable", fields)));
            tokens.extend(shape.structure().map(|fields| self.bytes("AnyBits", fields)));
        }
        tokens.extend(self.without_drop());
        tokens.extend(self.unchanged(shape));
        tokens
    }

    /// An implementation for a type with errors, so that uses of the type compile.
    pub(crate) fn placeholder(&self) -> TokenStream {
        let krate = self.krate;
        let mut tokens = self.implementation(&quote!(#krate::Layout::of::<Self>("")));
        tokens.extend(["Zeroable", "AnyBits"].map(|name| self.bytes(name, &[])));
        tokens
    }

    fn implementation(&self, layout: &TokenStream) -> TokenStream {
        let Self { krate, name, .. } = self;
        let quiet = quiet();
        let (parameters, _, conditions) = self.bounded.split_for_impl();
        let (_, arguments, _) = self.generics.split_for_impl();
        quote! {
            #quiet
            #[automatically_derived]
            unsafe impl #parameters #krate::ShmSafe for #name #arguments #conditions {
                const LAYOUT: #krate::Layout = #layout;
            }
        }
    }

    /// An implementation of a trait that says which bytes are valid, if all these fields have it.
    fn bytes(&self, of: &str, fields: &[Field]) -> TokenStream {
        let Self { krate, name, .. } = self;
        let quiet = quiet();
        let (parameters, _, conditions) = self.bounded.split_for_impl();
        let (_, arguments, _) = self.generics.split_for_impl();
        let of = Ident::new(of, Span::call_site());
        let conditions = conditions.map_or_else(
            || quote!(where),
            |conditions| {
                // There may be a comma at the end, and there may be none.
                let predicates = conditions.predicates.iter();
                quote!(where #(#predicates,)*)
            },
        );
        // rustc refuses a bound without parameters that does not hold, but not with a lifetime.
        let types = fields.iter().map(|Field { ty, .. }| quote_spanned!(at(ty)=> for<'shm_safe> #ty: #krate::#of));
        quote! {
            #quiet
            #[automatically_derived]
            unsafe impl #parameters #krate::#of for #name #arguments #conditions #(#types,)* {}
        }
    }

    /// A bound cannot exclude types with `Drop`. But two implementations of a trait for one type
    /// are an error, which names the trait.
    fn without_drop(&self) -> TokenStream {
        let name = &self.name;
        let quiet = quiet();
        let (parameters, _, conditions) = self.bounded.split_for_impl();
        let (_, arguments, _) = self.generics.split_for_impl();
        let this_one = quote_spanned! {name.span()=>
            impl #parameters ShmSafeTypesCannotImplementDrop for #name #arguments #conditions {}
        };
        quote! {
            #quiet
            const _: () = {
                trait ShmSafeTypesCannotImplementDrop {}
                impl<Type: ?::core::marker::Sized + ::core::ops::Drop> ShmSafeTypesCannotImplementDrop for Type {}
                #this_one
            };
        }
    }

    /// An attribute after the derive runs later and may change the type. This does not compile if
    /// the type then has other parts than the checked ones. (The names are long so that they do not
    /// conflict with the user's types.)
    fn unchanged(&self, shape: &Shape) -> TokenStream {
        let name = &self.name;
        let quiet = quiet();
        let (parameters, _, conditions) = self.bounded.split_for_impl();
        let (_, arguments, _) = self.generics.split_for_impl();
        // Pointers, because references would be coerced to each other.
        let checks = match shape {
            Shape::Struct(fields) => {
                let members = fields.iter().map(|field| &field.member);
                let checks = fields
                    .iter()
                    .map(|Field { member, ty }| quote_spanned!(at(ty)=> let _: *const #ty = &raw const self.#member;));
                quote! {
                    let #name { #(#members: _),* } = *self;
                    #(#checks)*
                }
            }
            Shape::Enum(_, variants) => {
                let arms = variants.iter().map(|Variant { name: variant, fields, .. }| {
                    let members = fields.iter().map(|field| &field.member);
                    let locals: Vec<_> =
                        (0..fields.len()).map(|index| format_ident!("shm_safe_part_{index}")).collect();
                    let checks = fields.iter().zip(&locals).map(
                        |(Field { ty, .. }, local)| quote_spanned!(at(ty)=> let _: *const #ty = &raw const *#local;),
                    );
                    quote!(#name::#variant { #(#members: ref #locals),* } => { #(#checks)* })
                });
                quote!(match *self { #(#arms)* })
            }
        };
        quote! {
            #quiet
            const _: () = {
                trait WhatTheDeriveOfShmSafeHasSeen {
                    fn parts(&self);
                }
                impl #parameters WhatTheDeriveOfShmSafeHasSeen for #name #arguments #conditions {
                    fn parts(&self) {
                        #checks
                    }
                }
            };
        }
    }

    /// The name of the type in the layout. Only a type's own functions make values with invariants,
    /// so another type of the same name must not supply them.
    fn layout_name(&self) -> TokenStream {
        let name = self.name.unraw().to_string();
        if self.invariants { quote!(::core::concat!(::core::module_path!(), "::", #name)) } else { quote!(#name) }
    }

    fn structure(&self, fields: &[Field]) -> TokenStream {
        let krate = self.krate;
        let name = self.layout_name();
        let fields = fields.iter().map(|field| {
            let (name, layout) = (text(&field.member), self.layout(field));
            let member = &field.member;
            quote!((#name, ::core::mem::offset_of!(Self, #member), #layout))
        });
        quote!(#krate::Layout::structure::<Self>(#name, &[#(#fields),*]))
    }

    fn enumeration(&self, representation: &Representation, variants: &[Variant]) -> TokenStream {
        let krate = self.krate;
        let name = self.layout_name();
        let tagged = representation.is_tagged();
        let variants = variants.iter().map(|variant| {
            let name = variant.name.unraw().to_string();
            let discriminant = match variant.discriminant {
                None => quote!(::core::option::Option::None),
                Some(value) => {
                    let ty = representation.discriminant();
                    // By a function, which gives the value its type, because a variable could have
                    // the name of one of the user's constants. In an array, so that rustc does not
                    // warn about the user's braces.
                    quote!(::core::option::Option::Some(
                        ::core::convert::identity::<[#ty; 1]>([#value])[0] as ::core::primitive::i128
                    ))
                }
            };
            let fields = variant.fields.iter().map(|field| {
                let (name, layout) = (text(&field.member), self.layout(field));
                quote!((#name, #layout))
            });
            quote!((#name, #discriminant, &[#(#fields),*]))
        });
        quote!(#krate::Layout::enumeration::<Self>(#name, #tagged, &[#(#variants),*]))
    }

    /// The layout of a field. If its type has none, rustc points at the type.
    fn layout(&self, field: &Field) -> TokenStream {
        let (krate, ty) = (self.krate, field.ty);
        quote_spanned!(at(ty)=> <#ty as #krate::ShmSafe>::LAYOUT)
    }
}

/// The location of `tokens`, with the hygiene of the derive.
fn at(tokens: &impl Spanned) -> Span {
    Span::call_site().located_at(tokens.span())
}

/// The name of a field in the layout.
fn text(member: &Member) -> String {
    match member {
        Member::Named(name) => name.unraw().to_string(),
        Member::Unnamed(index) => index.index.to_string(),
    }
}
