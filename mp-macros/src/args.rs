//! The arguments of the attribute: `name = "…"`, `state = parameter`, `crate = path` and
//! `executor = path`.

use proc_macro2::TokenStream;
use syn::ext::IdentExt;
use syn::parse::{ParseStream, Parser};
use syn::{Error, ExprPath, Ident, LitStr, Path, Token, parse_quote};

use crate::errors::Errors;

/// The arguments in `#[process_fn(…)]`.
pub(crate) struct Args {
    /// The name to register under instead of the function's path.
    pub(crate) name: Option<LitStr>,
    /// The path of the crate `mp_core`.
    pub(crate) krate: Path,
    /// The function that runs the future of an `async` function, instead of our executor.
    pub(crate) executor: Option<Executor>,
    /// The parameter that is the state of the process.
    pub(crate) state: Option<Ident>,
}

/// The argument `executor = path`.
pub(crate) struct Executor {
    key: Ident,
    pub(crate) path: ExprPath,
}

/// The possible arguments, for error messages.
const ARGUMENTS: &str = "`name = \"…\"`, `state = parameter`, `crate = path` or `executor = path`";

impl Args {
    /// Parses the arguments. An error contains all mistakes.
    pub(crate) fn parse(tokens: TokenStream) -> syn::Result<Self> {
        Self::parse_all.parse2(tokens)
    }

    fn parse_all(input: ParseStream) -> syn::Result<Self> {
        let mut errors = Errors::default();
        let mut found = Found::default();

        while !input.is_empty() {
            let argument = found.parse_argument(input);
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

        let Found { name, krate, executor, state } = found;
        let krate = krate.unwrap_or_else(|| parse_quote!(::mp_core));
        errors.finish(Self { name, krate, executor, state })
    }

    /// Reports an executor for a function that is not `async`.
    pub(crate) fn check_executor(&self, is_async: bool, errors: &mut Errors) {
        if let Some(executor) = self.executor.as_ref().filter(|_| !is_async) {
            errors.at(
                &executor.key,
                "an executor runs the future of an `async fn`, which this function is not: remove the argument",
            );
        }
    }
}

/// The arguments found so far.
#[derive(Default)]
struct Found {
    name: Option<LitStr>,
    krate: Option<Path>,
    executor: Option<Executor>,
    state: Option<Ident>,
}

impl Found {
    /// One `key = value`.
    fn parse_argument(&mut self, input: ParseStream) -> syn::Result<()> {
        let Ok(key) = input.call(Ident::parse_any) else {
            return Err(input.error(format!("expected {ARGUMENTS}")));
        };
        if key == "name" {
            let value: LitStr = parse_value(input, &key, "name = \"stable.name\"")?;
            if value.value().is_empty() {
                return Err(Error::new(value.span(), "the name of a process function cannot be empty"));
            }
            set(&mut self.name, value, &key)
        } else if key == "crate" {
            let value = parse_value(input, &key, "crate = path::to::mp_core")?;
            set(&mut self.krate, PathArgument::into_inner(value), &key)
        } else if key == "executor" {
            let path = parse_value(input, &key, "executor = path::to::block_on")?;
            set(&mut self.executor, Executor { key: key.clone(), path }, &key)
        } else if key == "state" {
            let value = parse_value(input, &key, "state = parameter")?;
            set(&mut self.state, value, &key)
        } else {
            Err(Error::new(key.span(), format!("unknown argument `{key}`: expected {ARGUMENTS}")))
        }
    }
}

/// A path without generic arguments, such as `crate` or `::reexporter::mp_core`.
pub(crate) struct PathArgument(Path);

impl PathArgument {
    pub(crate) fn into_inner(self) -> Path {
        self.0
    }
}

impl syn::parse::Parse for PathArgument {
    fn parse(input: ParseStream) -> syn::Result<Self> {
        input.call(Path::parse_mod_style).map(Self)
    }
}

pub(crate) fn parse_value<T: syn::parse::Parse>(input: ParseStream, key: &Ident, usage: &str) -> syn::Result<T> {
    let malformed = |span| Error::new(span, format!("malformed argument: write `{usage}`"));
    if input.parse::<Option<Token![=]>>()?.is_none() {
        return Err(malformed(key.span()));
    }
    // At the end of the arguments there is no token to point at.
    let span = if input.is_empty() { key.span() } else { input.span() };
    input.parse().map_err(|_| malformed(span))
}

pub(crate) fn set<T>(slot: &mut Option<T>, value: T, key: &Ident) -> syn::Result<()> {
    if slot.is_some() {
        return Err(Error::new(key.span(), format!("duplicate argument `{key}`")));
    }
    *slot = Some(value);
    Ok(())
}

/// Skips to the next comma, so that one mistake does not hide the next.
pub(crate) fn skip_argument(input: ParseStream) -> syn::Result<()> {
    while !input.is_empty() && !input.peek(Token![,]) {
        input.parse::<proc_macro2::TokenTree>()?;
    }
    Ok(())
}
