//! The attribute beside the derive: `#[shm_safe(crate = path)]` and `#[shm_safe(invariants)]`.

use syn::ext::IdentExt;
use syn::parse::ParseStream;
use syn::{Attribute, Error, Ident, Meta, Path, Token, parse_quote};

use crate::args::{PathArgument, parse_value, set, skip_argument};
use crate::errors::Errors;

/// The arguments in all `#[shm_safe(…)]` of a type.
pub(crate) struct Args {
    /// The path of the crate `mp_shm`.
    pub(crate) krate: Path,
    /// Whether the type has invariants that its fields do not express.
    pub(crate) invariants: bool,
}

/// The possible arguments, for error messages.
const ARGUMENTS: &str = "`crate = path` or `invariants`";

impl Args {
    /// Takes the arguments from the attributes of the item.
    pub(crate) fn from(attributes: &[Attribute], errors: &mut Errors) -> Self {
        let mut found = Found::default();
        for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident("shm_safe")) {
            match &attribute.meta {
                Meta::List(list) => {
                    let result = list.parse_args_with(|input: ParseStream| found.parse(input, errors));
                    errors.take(result);
                }
                _ => errors.at(attribute, format!("`#[shm_safe]` takes arguments in parentheses: {ARGUMENTS}")),
            }
        }
        let krate = found.krate.unwrap_or_else(|| parse_quote!(::mp_shm));
        Self { krate, invariants: found.invariants.is_some() }
    }
}

/// Reports the attribute on a variant or a field, where it has no meaning.
pub(crate) fn refuse(attributes: &[Attribute], errors: &mut Errors) {
    for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident("shm_safe")) {
        errors.at(attribute, "`#[shm_safe]` is for a whole type: move it to the struct or enum");
    }
}

/// The arguments found so far.
#[derive(Default)]
struct Found {
    krate: Option<Path>,
    invariants: Option<()>,
}

impl Found {
    fn parse(&mut self, input: ParseStream, errors: &mut Errors) -> syn::Result<()> {
        while !input.is_empty() {
            let argument = self.parse_argument(input);
            if errors.take(argument).is_none() {
                skip_argument(input)?;
            }
            if !input.is_empty() && !input.peek(Token![,]) {
                errors.push(input.error("expected `,`"));
                skip_argument(input)?;
            }
            input.parse::<Option<Token![,]>>()?;
        }
        Ok(())
    }

    fn parse_argument(&mut self, input: ParseStream) -> syn::Result<()> {
        let Ok(key) = input.call(Ident::parse_any) else {
            return Err(input.error(format!("expected {ARGUMENTS}")));
        };
        if key == "crate" {
            let value = parse_value(input, &key, "crate = path::to::mp_shm")?;
            set(&mut self.krate, PathArgument::into_inner(value), &key)
        } else if key == "invariants" {
            set(&mut self.invariants, (), &key)
        } else {
            Err(Error::new(key.span(), format!("unknown argument `{key}`: expected {ARGUMENTS}")))
        }
    }
}
