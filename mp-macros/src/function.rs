//! The annotated item: a function that passes all checks, with everything that the output needs.

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use syn::ext::IdentExt;
use syn::parse::{Parse, ParseStream};
use syn::{Attribute, Error, Ident, LitStr, ReturnType, Signature, Token, Type, Visibility, token};

use crate::errors::Errors;
use crate::parameter::{Parameter, State};
use crate::qualifiers;
use crate::types::{self, Position};

/// A function that can be a process function.
pub(crate) struct Function {
    pub(crate) attributes: Vec<Attribute>,
    pub(crate) visibility: Visibility,
    pub(crate) is_async: bool,
    pub(crate) name: Ident,
    /// Those that are sent.
    pub(crate) parameters: Vec<Parameter>,
    pub(crate) state: Option<State>,
    /// None for `()`, written or not, and for `!`.
    pub(crate) output: Option<Type>,
}

impl Function {
    /// Parses and checks an item, of which a parameter of the name `state` is the state of the
    /// process. An error contains all mistakes.
    pub(crate) fn parse(item: TokenStream, state: Option<&Ident>) -> syn::Result<Self> {
        let Item { attributes, visibility, signature } = syn::parse2(ungroup(item))?;

        let mut errors = Errors::default();
        for attribute in &attributes {
            if attribute.path().segments.last().is_some_and(|last| last.ident == "process_fn") {
                errors.at(attribute, "`#[process_fn]` is given twice: remove one");
            }
        }
        qualifiers::check(&signature, &mut errors);
        let (parameters, state) = Parameter::all(&signature, state, &mut errors);
        let output = output(signature.output);
        if let Some(output) = &output {
            types::check(output, Position::Return, &mut errors);
        }
        let is_async = signature.asyncness.is_some();
        let name = signature.ident;
        errors.finish(Self { attributes, visibility, is_async, name, parameters, state, output })
    }

    /// Tells whether a parameter is a reference.
    pub(crate) fn borrows(&self) -> bool {
        self.parameters.iter().any(|parameter| parameter.reference.is_some())
    }

    /// Tells whether rustc will refuse the function because a type in it is `_`.
    pub(crate) fn has_placeholder(&self) -> bool {
        let parameters = self.parameters.iter().map(|parameter| &parameter.ty);
        let state = self.state.iter().map(|state| &state.ty);
        parameters.chain(state).chain(&self.output).any(types::has_placeholder)
    }
}

fn output(output: ReturnType) -> Option<Type> {
    match output {
        ReturnType::Default => None,
        ReturnType::Type(_, ty) => match types::bare(&ty) {
            Type::Never(_) => None,
            _ => Some(*ty),
        },
    }
}

/// The function as written. The body is not parsed, because the attribute does not need it.
struct Item {
    attributes: Vec<Attribute>,
    visibility: Visibility,
    signature: Signature,
}

impl Parse for Item {
    fn parse(input: ParseStream) -> syn::Result<Self> {
        let attributes = input.call(Attribute::parse_outer)?;
        let visibility = input.parse()?;
        if !is_function(input) {
            let message = "`#[process_fn]` goes on a function";
            return Err(Error::new(input.span(), message));
        }
        let signature: Signature = input.parse()?;
        if input.peek(Token![;]) {
            let message = "a process function needs a body: it cannot be a declaration";
            return Err(Error::new(signature.ident.span(), message));
        }
        input.parse::<TokenStream>()?;
        Ok(Self { attributes, visibility, signature })
    }
}

/// Tells whether `fn` follows, possibly after its qualifiers.
fn is_function(input: ParseStream) -> bool {
    let ahead = input.fork();
    while !ahead.is_empty() {
        if ahead.peek(Token![fn]) {
            return true;
        }
        let qualifier = ahead.call(Ident::parse_any);
        let known = ["const", "async", "unsafe", "safe", "extern", "default"];
        if !qualifier.is_ok_and(|word| known.iter().any(|known| word == known)) {
            return false;
        }
        if ahead.peek(LitStr) && ahead.parse::<LitStr>().is_err() {
            return false;
        }
        if ahead.peek(token::Brace) {
            return false;
        }
    }
    false
}

/// Removes the invisible group around an item that a macro passed as `$item:item`.
fn ungroup(item: TokenStream) -> TokenStream {
    let mut tokens = item.clone().into_iter();
    match (tokens.next(), tokens.next()) {
        (Some(TokenTree::Group(group)), None) if group.delimiter() == Delimiter::None => ungroup(group.stream()),
        _ => item,
    }
}
