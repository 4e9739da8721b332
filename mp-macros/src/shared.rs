//! The attribute `#[shared]`: an `impl` block whose methods other processes call through a proxy.
//!
//! The block is left as it is. Beside it come the proxy, a type for calls whose answer is awaited
//! later, and a registration with a function for each constructor and method.

use proc_macro2::{Span, TokenStream};
use quote::{ToTokens, format_ident, quote, quote_spanned};
use syn::ext::IdentExt;
use syn::parse::{ParseStream, Parser};
use syn::visit::Visit;
use syn::{
    Error, FnArg, GenericArgument, Ident, ImplItem, ImplItemFn, ItemImpl, LitStr, Pat, Path, PathArguments, Receiver,
    ReceiverKind, ReturnType, Signature, Token, Type, Visibility, parse_quote,
};

use crate::args::{PathArgument, parse_value, set, skip_argument};
use crate::errors::Errors;
use crate::parameter::MOST;
use crate::qualifiers;
use crate::types::{self, Position};

/// Expands the attribute. On an error it keeps the item.
pub(crate) fn shared(arguments: TokenStream, item: TokenStream) -> TokenStream {
    let mut errors = Errors::default();
    let args = errors.take(Args::parse_all.parse2(arguments));
    let block = syn::parse2::<ItemImpl>(item.clone());
    let block = errors.take(block.map_err(|error| Error::new(error.span(), "`#[shared]` goes on an `impl` block")));
    let block = block.map(|block| Block::check(&block, &mut errors));
    let beside = match (errors.finish(()), args, block.flatten()) {
        (Ok(()), Some(args), Some(block)) => block.expand(&args),
        (Err(error), ..) => error.to_compile_error(),
        _ => TokenStream::new(),
    };
    quote!(#item #beside)
}

/// The possible arguments, for error messages.
const ARGUMENTS: &str = "`proxy = Name`, `name = \"…\"`, `json` or `crate = path`";

struct Args {
    proxy: Option<Ident>,
    name: Option<LitStr>,
    json: Option<()>,
    krate: Path,
}

impl Args {
    fn parse_all(input: ParseStream) -> syn::Result<Self> {
        let mut errors = Errors::default();
        let (mut proxy, mut name, mut json, mut krate) = (None, None, None, None);
        while !input.is_empty() {
            let key = input.call(Ident::parse_any);
            let argument =
                key.map_err(|error| Error::new(error.span(), format!("expected {ARGUMENTS}"))).and_then(|key| {
                    if key == "proxy" {
                        set(&mut proxy, parse_value(input, &key, "proxy = Name")?, &key)
                    } else if key == "name" {
                        let value: LitStr = parse_value(input, &key, "name = \"stable.name\"")?;
                        if value.value().is_empty() {
                            return Err(Error::new(value.span(), "the name of a shared type cannot be empty"));
                        }
                        set(&mut name, value, &key)
                    } else if key == "json" {
                        set(&mut json, (), &key)
                    } else if key == "crate" {
                        let value = parse_value(input, &key, "crate = path::to::mp_manager")?;
                        set(&mut krate, PathArgument::into_inner(value), &key)
                    } else {
                        Err(Error::new(key.span(), format!("unknown argument `{key}`: expected {ARGUMENTS}")))
                    }
                });
            if errors.take(argument).is_none() {
                skip_argument(input)?;
            }
            input.parse::<Option<Token![,]>>()?;
        }
        errors.finish(Self { proxy, name, json, krate: krate.unwrap_or_else(|| parse_quote!(::mp_manager)) })
    }
}

/// The `impl` block.
struct Block {
    ty: Type,
    /// The last part of the type's path.
    name: Ident,
    methods: Vec<Method>,
}

enum Kind {
    /// Returns `Self`.
    Create,
    /// Returns `Result<Self, E>`, with this `E`.
    TryCreate(Box<Type>),
    /// Takes `&self`.
    Shared,
    /// Takes `&mut self`.
    Exclusive,
}

struct Method {
    visibility: Visibility,
    name: Ident,
    kind: Kind,
    names: Vec<Ident>,
    types: Vec<Type>,
    output: Type,
}

/// Methods that every proxy has.
const TAKEN: [&str; 3] = ["with_limit", "later", "clear_poison"];

impl Block {
    fn check(block: &ItemImpl, errors: &mut Errors) -> Option<Self> {
        if let Some((path, _)) = &block.trait_ {
            errors.at(path, "a trait cannot be shared: write the methods in an `impl` block of the type itself");
        }
        if !block.generics.params.is_empty() {
            errors.at(&block.generics, "a generic type cannot be shared, because the server finds it by its name");
        }
        let name = match types::bare(&block.self_ty) {
            Type::Path(path) if path.qself.is_none() => path.path.segments.last(),
            _ => None,
        };
        let Some(name) = name.filter(|name| name.arguments.is_empty()).map(|name| name.ident.clone()) else {
            errors.at(&block.self_ty, "only a type with a name and without generic arguments can be shared");
            return None;
        };
        let public = block.items.iter().filter_map(|item| match item {
            ImplItem::Fn(function) if !matches!(function.vis, Visibility::Inherited) => Some(function),
            _ => None,
        });
        let methods: Vec<_> = public.filter_map(|function| Method::check(function, &name, errors)).collect();
        Some(Self { ty: (*block.self_ty).clone(), name, methods })
    }

    fn expand(&self, args: &Args) -> TokenStream {
        let Self { ty, name, methods } = self;
        let krate = &args.krate;
        let private = quote!(#krate::__private);
        let proxy = args.proxy.clone().unwrap_or_else(|| format_ident!("{name}Proxy"));
        let later = format_ident!("{proxy}Later");
        let text = name.unraw().to_string();
        let class = match &args.name {
            Some(name) => name.to_token_stream(),
            None => quote!(::core::concat!(::core::module_path!(), "::", #text)),
        };
        let calls = methods.iter().zip(0_u32..).map(|(method, place)| method.call(&private, krate, &class, place));
        let later_calls =
            methods.iter().zip(0_u32..).filter_map(|(method, place)| method.later(&private, krate, place));
        let entries = methods.iter().map(|method| {
            let (name, entry) = (method.name.unraw().to_string(), method.entry(&private, ty));
            quote!((::core::concat!(#class, "::", #name), #entry))
        });
        let json = methods.iter().zip(0_u32..).filter(|_| args.json.is_some());
        let json = json.filter_map(|(method, place)| method.json(&private, place));
        let digest = self.digest();
        let sent = methods.iter().flat_map(|method| method.types.iter().chain(method.results()));
        let proxy_docs = format!("Stands for a `{text}` in the server of a manager.");
        let later_docs = format!("Sends calls of a `{text}` whose answers are awaited later.");
        let quiet = crate::expand::quiet();
        quote! {
            #private::proxy! {
                #[doc = #proxy_docs]
                #[allow(unreachable_pub)]
                pub struct #proxy, digest = #digest;
            }

            #quiet
            #[allow(dead_code, private_interfaces, unreachable_pub)]
            impl #proxy {
                #(#calls)*

                /// Returns the same methods, which send a call and do not wait for its answer.
                ///
                /// Calls through one value of this type are sent together: when it is dropped, when
                /// 64 have come together, or when a thread or a task waits for an answer of this
                /// server. `later().method()` drops it at once.
                pub fn later(&self) -> #later<'_> {
                    #later(#private::together(&self.handle))
                }

                /// Lets the value be used again after a panic in a method that takes `&mut self`.
                ///
                /// # Errors
                ///
                /// As any call.
                pub fn clear_poison(&self) -> ::core::result::Result<(), #krate::CallError> {
                    #private::clear_poison(&self.handle)
                }
            }

            #[doc = #later_docs]
            #[allow(unreachable_pub)]
            #[derive(::core::fmt::Debug)]
            pub struct #later<'a>(#private::Together<'a>);

            #quiet
            #[allow(dead_code, private_interfaces, unreachable_pub)]
            impl #later<'_> {
                #(#later_calls)*
            }

            #quiet
            const _: () = {
                #(#private::assert_travels::<#sent>();)*

                #[#private::linkme::distributed_slice(#private::CLASSES)]
                #[linkme(crate = #private::linkme)]
                static CLASS: #private::Class = #private::Class {
                    name: #class,
                    methods: &[#(#entries),*],
                    interface: <#proxy as #private::Sealed>::interface,
                    json: &[#(#json),*],
                };
            };
        }
    }
}

impl Block {
    /// Changes with the order, the names and the types of the methods: FNV-1a of their text.
    fn digest(&self) -> u64 {
        let text = self.methods.iter().map(|method| {
            let Method { name, kind, types, output, .. } = method;
            let kind = match kind {
                Kind::Create => "create",
                Kind::TryCreate(_) => "try",
                Kind::Shared => "shared",
                Kind::Exclusive => "exclusive",
            };
            quote!(#kind #name (#(#types),*) -> #output;).to_string()
        });
        let bytes = text.flat_map(String::into_bytes);
        bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
    }
}

impl Method {
    fn check(function: &ImplItemFn, this: &Ident, errors: &mut Errors) -> Option<Self> {
        let ImplItemFn { attrs, vis, sig, .. } = function;
        for attribute in attrs.iter().filter(|attribute| attribute.path().is_ident("cfg")) {
            errors.at(
                attribute,
                "`#[cfg]` on a shared method would give it another number: write one block for each case",
            );
        }
        if let Some(token) = &sig.asyncness {
            errors
                .at(token, "a shared method cannot be `async`: it runs on a thread of the server, and may wait there");
        }
        if TAKEN.iter().any(|taken| sig.ident == taken) {
            errors.at(&sig.ident, "the proxy has a method of this name: rename this one, or make it private");
        }
        qualifiers::check(sig, errors);
        let output = match &sig.output {
            ReturnType::Default => parse_quote!(()),
            ReturnType::Type(_, ty) => types::bare(ty).clone(),
        };
        let kind = Self::kind(sig, &output, this, errors)?;
        match &kind {
            Kind::Create => {}
            Kind::TryCreate(error) => check_type(error, Position::Return, errors),
            Kind::Shared | Kind::Exclusive => check_type(&output, Position::Return, errors),
        }
        let (mut names, mut types) = (Vec::new(), Vec::new());
        for input in &sig.inputs {
            let FnArg::Typed(parameter) = input else { continue };
            match types::bare(&parameter.ty) {
                Type::Reference(reference) => errors.at(
                    reference,
                    "a shared method owns its arguments: take a `String` for `&str`, a `Vec<T>` for `&[T]`, a `T` for `&T`",
                ),
                ty => check_type(ty, Position::Parameter, errors),
            }
            names.push(match &*parameter.pat {
                Pat::Ident(name) if name.subpat.is_none() && name.by_ref.is_none() => name.ident.clone(),
                _ => format_ident!("arg{}", names.len()),
            });
            types.push((*parameter.ty).clone());
        }
        if names.len() > MOST {
            errors.at(&sig.inputs, format!("a shared method takes at most {MOST} parameters: put them in a struct"));
        }
        Some(Self { visibility: vis.clone(), name: sig.ident.clone(), kind, names, types, output })
    }

    fn kind(sig: &Signature, output: &Type, this: &Ident, errors: &mut Errors) -> Option<Kind> {
        match sig.inputs.first() {
            Some(FnArg::Receiver(Receiver { kind: ReceiverKind::Reference(_, _, mutability), .. })) => {
                Some(if mutability.is_some() { Kind::Exclusive } else { Kind::Shared })
            }
            Some(FnArg::Receiver(receiver)) => {
                errors.at(receiver, "a shared method takes `&self` or `&mut self`: the value stays in the server");
                None
            }
            _ if is_self(output, this) => Some(Kind::Create),
            _ => match result_of_self(output, this) {
                Some(error) => Some(Kind::TryCreate(Box::new(error.clone()))),
                None => {
                    errors.at(
                        &sig.ident,
                        "a public function of a shared block takes `&self` or `&mut self`, or returns `Self` or \
                         `Result<Self, E>`: make this one private, or move it to another block",
                    );
                    None
                }
            },
        }
    }

    /// The types that the server sends back.
    fn results(&self) -> impl Iterator<Item = &Type> {
        match &self.kind {
            Kind::Create => None,
            Kind::TryCreate(error) => Some(&**error),
            Kind::Shared | Kind::Exclusive => Some(&self.output),
        }
        .into_iter()
    }

    /// The method of the proxy.
    fn call(&self, private: &TokenStream, krate: &Path, class: &TokenStream, place: u32) -> TokenStream {
        let Self { visibility, name, kind, names, types, output } = self;
        let arguments = quote!(&(#(#names,)*));
        let result = quote!(::core::result::Result);
        let (parameters, value, body) = match kind {
            Kind::Create => {
                let body = quote!(#private::create::<_, #private::Never>(host, #class, #place, #arguments));
                let body = quote!(#body.map(|#result::Ok(made)| made));
                (quote!(host: &impl #krate::Host), quote!(Self), body)
            }
            Kind::TryCreate(error) => {
                let body = quote!(#private::create(host, #class, #place, #arguments));
                (quote!(host: &impl #krate::Host), quote!(#result<Self, #error>), body)
            }
            Kind::Shared | Kind::Exclusive => {
                let body = quote!(#private::call(&self.handle, #place, #arguments));
                (quote!(&self), output.to_token_stream(), body)
            }
        };
        let docs = format!("Calls `{}` in the server.", name.unraw());
        quote_spanned! {name.span()=>
            #[doc = #docs]
            ///
            /// # Errors
            ///
            /// Any `CallError`.
            #visibility fn #name(#parameters #(, #names: #types)*) -> #result<#value, #krate::CallError> {
                #body
            }
        }
    }

    /// The method that sends a call.
    fn later(&self, private: &TokenStream, krate: &Path, place: u32) -> Option<TokenStream> {
        let Self { visibility, name, kind, names, types, output } = self;
        if let Kind::Create | Kind::TryCreate(_) = kind {
            return None;
        }
        let docs = format!("Sends a call of `{}` to the server.", name.unraw());
        Some(quote_spanned! {name.span()=>
            #[doc = #docs]
            #visibility fn #name(&self #(, #names: #types)*) -> #krate::Reply<#output> {
                #private::later(&self.0, #place, &(#(#names,)*))
            }
        })
    }

    /// The entry for programs in other languages.
    fn json(&self, private: &TokenStream, place: u32) -> Option<TokenStream> {
        let Self { name, kind, types, output, .. } = self;
        if let Kind::Create | Kind::TryCreate(_) = kind {
            return None;
        }
        let text = name.unraw().to_string();
        // No arguments are an empty array, as which `()` is not written.
        let arguments = if types.is_empty() { quote!([(); 0]) } else { quote!((#(#types,)*)) };
        Some(quote_spanned! {name.span()=>
            #private::JsonMethod { name: #text, place: #place, call: #private::json_call::<#arguments, #output> }
        })
    }

    /// The entry in the registration.
    fn entry(&self, private: &TokenStream, ty: &Type) -> TokenStream {
        let Self { name, kind, types, .. } = self;
        let positions = 0..types.len();
        let locals: Vec<_> = positions.map(|place| format_ident!("arg{place}", span = Span::mixed_site())).collect();
        let pattern = quote!((#(#locals,)*): (#(#types,)*));
        let function = quote_spanned!(name.span()=> <#ty>::#name);
        match kind {
            Kind::Create => quote! {
                #private::Method::Create(|arguments| {
                    #private::construct(arguments, |#pattern| {
                        ::core::result::Result::Ok::<_, #private::Never>(#function(#(#locals),*))
                    })
                })
            },
            Kind::TryCreate(_) => quote! {
                #private::Method::Create(|arguments| #private::construct(arguments, |#pattern| #function(#(#locals),*)))
            },
            Kind::Shared => quote! {
                #private::Method::Shared(|value, arguments| {
                    #private::shared(value, arguments, |this: &#ty, #pattern| #function(this #(, #locals)*))
                })
            },
            Kind::Exclusive => quote! {
                #private::Method::Exclusive(|value, arguments| {
                    #private::exclusive(value, arguments, |this: &mut #ty, #pattern| #function(this #(, #locals)*))
                })
            },
        }
    }
}

/// Checks a type that is sent.
fn check_type(ty: &Type, position: Position, errors: &mut Errors) {
    struct FindSelf<'a>(Option<&'a Ident>);
    impl<'a> Visit<'a> for FindSelf<'a> {
        fn visit_path(&mut self, path: &'a Path) {
            if let Some(first) = path.segments.first().filter(|first| first.ident == "Self") {
                self.0 = Some(&first.ident);
            }
            syn::visit::visit_path(self, path);
        }
    }
    let mut found = FindSelf(None);
    found.visit_type(ty);
    match found.0 {
        Some(token) => {
            errors.at(token, "the value stays in the server and cannot be sent: take or return something else")
        }
        None => types::check(ty, position, errors),
    }
}

fn is_self(ty: &Type, this: &Ident) -> bool {
    matches!(types::bare(ty), Type::Path(path) if path.path.is_ident("Self") || path.path.is_ident(this))
}

/// The `E` of `Result<Self, E>`.
fn result_of_self<'a>(ty: &'a Type, this: &Ident) -> Option<&'a Type> {
    let Type::Path(path) = ty else { return None };
    let last = path.path.segments.last().filter(|last| last.ident == "Result")?;
    let PathArguments::AngleBracketed(arguments) = &last.arguments else { return None };
    let mut arguments = arguments.args.iter();
    match (arguments.next()?, arguments.next()?) {
        (GenericArgument::Type(value), GenericArgument::Type(error)) if is_self(value, this) => Some(error),
        _ => None,
    }
}
