//! The output: the unchanged function, and what the attribute adds.
//!
//! The part that users see is in [`facade`].

use proc_macro2::{Group, Span, TokenStream, TokenTree};
use quote::{ToTokens, format_ident, quote, quote_spanned};
use syn::ext::IdentExt;
use syn::spanned::Spanned;
use syn::{ExprPath, Ident, Path, TypeReference};

use crate::args::Args;
use crate::attributes::Carried;
use crate::errors::Errors;
use crate::function::Function;
use crate::parameter::{Parameter, State};

mod borrowing;
mod facade;

/// Expands the attribute. On an error it keeps the item, so that uses of the item are not errors as
/// well.
pub(crate) fn process_fn(arguments: TokenStream, item: TokenStream) -> TokenStream {
    let mut errors = Errors::default();
    let args = errors.take(Args::parse(arguments));
    let state = args.as_ref().and_then(|args| args.state.as_ref());
    let function = errors.take(Function::parse(item.clone(), state));
    if let (Some(args), Some(function)) = (&args, &function) {
        args.check_executor(function.is_async, &mut errors);
    }
    let beside = match (errors.finish(()), args, function) {
        (Ok(()), Some(args), Some(function)) if !function.has_placeholder() => {
            Expansion::new(&args, &function).into_token_stream()
        }
        (Err(error), ..) => error.to_compile_error(),
        _ => TokenStream::new(),
    };
    quote!(#item #beside)
}

/// The output for one function.
///
/// Everything has the span of the attribute. Where a message should point at the function, it has
/// the location of its name with the hygiene of the attribute. So lints know that this is generated
/// code.
struct Expansion<'a> {
    krate: &'a Path,
    executor: Option<&'a ExprPath>,
    function: &'a Function,
    carried: Carried,
    /// The value of `ProcessFn::NAME`.
    registered: TokenStream,
    /// The value of `ProcessFn::ID`, if it is another.
    id: Option<TokenStream>,
    /// The name of the function, and of the type.
    name: Ident,
    /// The type `ProcessFn::Args`.
    args: TokenStream,
    /// The type `ProcessFn::Output`.
    output: TokenStream,
}

impl<'a> Expansion<'a> {
    fn new(args: &'a Args, function: &'a Function) -> Self {
        let mut name = function.name.clone();
        name.set_span(Span::call_site().located_at(name.span()));
        let registered = match &args.name {
            Some(name) => name.to_token_stream(),
            None => {
                let last = name.unraw().to_string();
                quote!(::core::concat!(::core::module_path!(), "::", #last))
            }
        };
        // The path of the file tells two versions of a package apart.
        let place = place(name.span());
        let id = args.name.is_none().then(|| quote!(::core::concat!(#registered, " (", #place, ")")));
        Self {
            id,
            krate: &args.krate,
            executor: args.executor.as_ref().map(|executor| &executor.path),
            function,
            carried: Carried::from(&function.attributes),
            registered,
            args: pack(function.parameters.iter().map(|parameter| parameter.owned(&args.krate)), name.span()),
            output: match &function.output {
                Some(output) => output.to_token_stream(),
                None => quote!(()),
            },
            name,
        }
    }

    /// Makes rustc point at a type that cannot be sent.
    fn assertions(&self) -> TokenStream {
        let Self { krate, .. } = self;
        let quiet = quiet();
        let arguments = self.function.parameters.iter().map(|parameter| match &parameter.reference {
            Some(TypeReference { elem, .. }) => quote!(#krate::__private::assert_referent::<#elem>()),
            None => {
                let ty = &parameter.ty;
                quote!(#krate::__private::assert_argument::<#ty>())
            }
        });
        let outputs = self.function.output.iter();
        let states = self.function.state.iter().map(|state| &state.ty);
        quote! {
            #quiet
            const _: () = {
                #(#arguments;)*
                #(#krate::__private::assert_state::<#states>();)*
                #(#krate::__private::assert_output::<#outputs>();)*
            };
        }
    }

    fn implementation(&self) -> TokenStream {
        let Self { krate, registered, name, args, output, .. } = self;
        let id = self.id.iter();
        let quiet = quiet();
        let locals = self.locals();
        let unpacked = pack(&locals, Span::mixed_site());
        // A type that is more private than the function is an error here, which should point at the
        // function.
        let types = quote_spanned! {name.span()=>
            type Args = #args;
            type Output = #output;
        };
        let lend = |(parameter, local): (&Parameter, &Ident)| match parameter.reference {
            Some(_) => quote!(&#local),
            None => local.to_token_stream(),
        };
        let call = self.call(self.function.parameters.iter().zip(&locals).map(lend));
        quote! {
            #quiet
            #[automatically_derived]
            impl #krate::ProcessFn for #name {
                const NAME: &'static ::core::primitive::str = #registered;
                #(const ID: &'static ::core::primitive::str = #id;)*
                #types

                fn invoke(#unpacked: Self::Args) -> Self::Output {
                    #call
                }
            }
        }
    }

    /// A variable for each parameter. They cannot conflict with other names, because they have the
    /// hygiene of local variables of the macro.
    fn locals(&self) -> Vec<Ident> {
        let positions = 0..self.function.parameters.len();
        positions.map(|position| format_ident!("arg{position}", span = Span::mixed_site())).collect()
    }

    /// An expression that calls the function, and runs its future to the end if it is `async`.
    fn call(&self, arguments: impl Iterator<Item = TokenStream>) -> TokenStream {
        let Self { krate, executor, .. } = self;
        // Then the caller of a `#[track_caller]` function is the function's location, not the
        // attribute.
        let function = &self.function.name;
        let mut arguments: Vec<_> = arguments.collect();
        let variable = Ident::new("state", Span::mixed_site());
        if let Some(state) = &self.function.state {
            arguments.insert(state.position, variable.to_token_stream());
        }
        let call = quote_spanned!(function.span()=> #function(#(#arguments),*));
        let call = match executor {
            _ if !self.function.is_async => call,
            Some(executor) => quote_spanned!(executor.span()=> #executor(#call)),
            None => quote!(#krate::__private::block_on(#call)),
        };
        match &self.function.state {
            Some(State { ty, .. }) => {
                quote!(#krate::__private::with_state(|#variable: &mut #ty| #call))
            }
            None => call,
        }
    }

    fn registration(&self) -> TokenStream {
        let Self { krate, name, .. } = self;
        let quiet = quiet();
        let place = place(self.function.name.span());
        quote! {
            #quiet
            const _: () = {
                #[#krate::__private::linkme::distributed_slice(#krate::__private::FUNCTIONS)]
                #[linkme(crate = #krate::__private::linkme)]
                static REGISTRATION: #krate::__private::Registration =
                    #krate::__private::Registration::of::<#name>(::core::concat!(#place));
            };
        }
    }
}

impl ToTokens for Expansion<'_> {
    fn to_tokens(&self, tokens: &mut TokenStream) {
        tokens.extend(self.facade());
    }
}

/// The parts of a text that says where a function is. They have the location of its name. Otherwise
/// they would report the place of the attribute.
fn place(span: Span) -> TokenStream {
    quote_spanned!(span=> ::core::file!(), ":", ::core::line!(), ":", ::core::column!())
}

/// `()`, `a` or `(a, b, …)`.
fn pack<T: ToTokens>(parts: impl IntoIterator<Item = T>, span: Span) -> TokenStream {
    let parts: Vec<_> = parts.into_iter().collect();
    if let [part] = &parts[..] {
        return part.to_token_stream();
    }
    let mut tuple = Group::new(proc_macro2::Delimiter::Parenthesis, quote!(#(#parts),*));
    tuple.set_span(span);
    TokenTree::Group(tuple).into()
}

/// Allows lints that would report the user's types a second time where they are repeated, and
/// deprecated items.
///
/// The list is short, because each lint in it is an error for a user who forbids that lint. For
/// most lints the hygiene of the output is enough.
pub(crate) fn quiet() -> TokenStream {
    quote! {
        #[allow(
            deprecated,
            unused_parens,
            unused_qualifications,
            clippy::all,
            clippy::pedantic,
            clippy::nursery
        )]
    }
}
