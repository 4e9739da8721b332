//! The arguments of the attribute: `name = "…"` and `crate = path`.

use proc_macro2::TokenStream;
use syn::ext::IdentExt;
use syn::parse::{ParseStream, Parser};
use syn::{Error, Ident, LitStr, Path, Token, parse_quote};

use crate::errors::Errors;

/// What stands in the parentheses of `#[process_fn(…)]`.
pub(crate) struct Args {
    /// The name to register under instead of the function's path.
    pub(crate) name: Option<LitStr>,
    /// Where the crate `mp_core` is to be found.
    pub(crate) krate: Path,
}

impl Args {
    /// Parses the arguments; an error holds everything that is wrong with them.
    pub(crate) fn parse(tokens: TokenStream) -> syn::Result<Self> {
        Self::parse_all.parse2(tokens)
    }

    fn parse_all(input: ParseStream) -> syn::Result<Self> {
        let mut errors = Errors::default();
        let mut name = None;
        let mut krate = None;

        while !input.is_empty() {
            let argument = parse_argument(input, &mut name, &mut krate);
            if errors.take(argument).is_none() {
                skip_argument(input)?;
            }
            if input.is_empty() {
                break;
            }
            if !input.peek(Token![,]) {
                errors.push(input.error("expected `,`"));
                skip_argument(input)?;
            }
            input.parse::<Option<Token![,]>>()?;
        }

        let krate = krate.unwrap_or_else(|| parse_quote!(::mp_core));
        errors.finish(Self { name, krate })
    }
}

/// One `key = value`.
fn parse_argument(input: ParseStream, name: &mut Option<LitStr>, krate: &mut Option<Path>) -> syn::Result<()> {
    let Ok(key) = input.call(Ident::parse_any) else {
        return Err(input.error("expected `name = \"…\"` or `crate = path`"));
    };
    if key == "name" {
        let value: LitStr = parse_value(input, &key, "name = \"stable.name\"")?;
        if value.value().is_empty() {
            return Err(Error::new(value.span(), "the name of a process function cannot be empty"));
        }
        set(name, value, &key)
    } else if key == "crate" {
        let value = parse_value(input, &key, "crate = path::to::mp_core")?;
        set(krate, PathArgument::into_inner(value), &key)
    } else {
        let message = format!("unknown argument `{key}`: expected `name = \"…\"` or `crate = path`");
        Err(Error::new(key.span(), message))
    }
}

/// A path without generic arguments, such as `crate` or `::reexporter::mp_core`.
struct PathArgument(Path);

impl PathArgument {
    fn into_inner(self) -> Path {
        self.0
    }
}

impl syn::parse::Parse for PathArgument {
    fn parse(input: ParseStream) -> syn::Result<Self> {
        input.call(Path::parse_mod_style).map(Self)
    }
}

fn parse_value<T: syn::parse::Parse>(input: ParseStream, key: &Ident, usage: &str) -> syn::Result<T> {
    let malformed = |span| Error::new(span, format!("malformed argument: write `{usage}`"));
    if input.parse::<Option<Token![=]>>()?.is_none() {
        return Err(malformed(key.span()));
    }
    // At the end of the arguments there is no token to point at.
    let span = if input.is_empty() { key.span() } else { input.span() };
    input.parse().map_err(|_| malformed(span))
}

fn set<T>(slot: &mut Option<T>, value: T, key: &Ident) -> syn::Result<()> {
    if slot.is_some() {
        return Err(Error::new(key.span(), format!("duplicate argument `{key}`")));
    }
    *slot = Some(value);
    Ok(())
}

/// Goes on to the next comma, so that one mistake does not hide the next.
fn skip_argument(input: ParseStream) -> syn::Result<()> {
    while !input.is_empty() && !input.peek(Token![,]) {
        input.parse::<proc_macro2::TokenTree>()?;
    }
    Ok(())
}
