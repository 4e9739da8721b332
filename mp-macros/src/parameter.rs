//! A parameter of a process function, and its name in `spawn` and `call`.

use proc_macro2::{Span, TokenStream};
use quote::{ToTokens, quote_spanned};
use syn::ext::IdentExt;
use syn::spanned::Spanned;
use syn::{Attribute, FnArg, Ident, Lifetime, Pat, PatType, Path, Signature, Type, TypeReference};

use crate::errors::Errors;
use crate::types::{self, Position};

/// The longest tuple for which std implements its traits, such as the `Debug` that a call needs.
pub(crate) const MOST: usize = 12;

/// A parameter of `spawn` and `call`.
pub(crate) struct Parameter {
    pub(crate) name: Ident,
    pub(crate) ty: Type,
    /// The type as well, if it is a reference.
    pub(crate) reference: Option<TypeReference>,
}

/// The parameter that is not sent: the process has it.
pub(crate) struct State {
    /// Its place among the parameters.
    pub(crate) position: usize,
    /// The type behind the reference.
    pub(crate) ty: Type,
}

impl Parameter {
    fn new(name: Ident, ty: &Type) -> Self {
        let reference = match types::bare(ty) {
            Type::Reference(reference) => Some(TypeReference { lifetime: None, ..reference.clone() }),
            _ => None,
        };
        Self { name, ty: ty.clone(), reference }
    }

    /// The owned type.
    pub(crate) fn owned(&self, krate: &Path) -> TokenStream {
        match &self.reference {
            Some(TypeReference { elem, .. }) => {
                quote_spanned!(place(elem)=> <#elem as #krate::__private::Referent>::Owned)
            }
            None => self.ty.to_token_stream(),
        }
    }

    /// The type with a named lifetime, which `call` needs because its result holds the reference.
    pub(crate) fn with_lifetime(&self, lifetime: &Lifetime) -> TokenStream {
        match &self.reference {
            Some(reference) => {
                TypeReference { lifetime: Some(lifetime.clone()), ..reference.clone() }.into_token_stream()
            }
            None => self.ty.to_token_stream(),
        }
    }

    /// Checks and names all parameters of `signature`, and takes the one out whose name is `state`.
    pub(crate) fn all(signature: &Signature, state: Option<&Ident>, errors: &mut Errors) -> (Vec<Self>, Option<State>) {
        let mut typed = Vec::new();
        for input in &signature.inputs {
            match input {
                FnArg::Receiver(receiver) => errors.at(
                    receiver,
                    "a method cannot be a process function: \
                     move it out of the `impl`, and take `self` as an ordinary parameter",
                ),
                FnArg::Typed(parameter) => typed.push(parameter),
            }
        }
        let state = state.and_then(|name| take_state(&mut typed, name, errors));
        for parameter in &typed {
            check_attributes(&parameter.attrs, errors);
            types::check(&parameter.ty, Position::Parameter, errors);
        }
        if let Some(surplus) = typed.get(MOST) {
            errors.at(
                surplus,
                format!("a process function takes at most {MOST} parameters: put them in a struct or a tuple"),
            );
        }
        (name_all(&typed), state)
    }
}

/// Takes the parameter of this name out, which has to be a `&mut` reference.
fn take_state(typed: &mut Vec<&PatType>, name: &Ident, errors: &mut Errors) -> Option<State> {
    let is_it = |parameter: &&PatType| own_name(&parameter.pat).is_some_and(|own| own.unraw() == name.unraw());
    let Some(position) = typed.iter().position(is_it) else {
        errors.at(name, format!("there is no parameter `{name}` that could be the state"));
        return None;
    };
    let parameter = typed.remove(position);
    check_attributes(&parameter.attrs, errors);
    match types::bare(&parameter.ty) {
        Type::Reference(TypeReference { mutability: Some(_), elem, .. }) => {
            Some(State { position, ty: (**elem).clone() })
        }
        _ => {
            errors.at(&parameter.ty, "the state is lent to the function: take it as `&mut State`");
            None
        }
    }
}

/// The location of a type, with the hygiene of the attribute. Errors of the type point there.
pub(crate) fn place(ty: &Type) -> Span {
    Span::call_site().located_at(ty.span())
}

fn check_attributes(attributes: &[Attribute], errors: &mut Errors) {
    for attribute in attributes {
        for conditional in ["cfg", "cfg_attr"] {
            if attribute.path().is_ident(conditional) {
                errors.at(
                    attribute,
                    format!(
                        "`#[{conditional}]` on a parameter of a process function is not supported: \
                         write a function for each case, with the condition on the function"
                    ),
                );
            }
        }
    }
}

/// Keeps plain names and chooses the others, so that all are different.
fn name_all(parameters: &[&PatType]) -> Vec<Parameter> {
    let own: Vec<_> = parameters.iter().map(|parameter| own_name(&parameter.pat)).collect();
    let mut taken: Vec<String> = Vec::new();
    let mut names: Vec<Option<Ident>> = Vec::new();
    for name in own {
        // Names from a macro may be equal and still be different by hygiene.
        let name = name.filter(|name| !taken.contains(&name.unraw().to_string()));
        taken.extend(name.iter().map(|name| name.unraw().to_string()));
        names.push(name);
    }
    let mut named = Vec::new();
    for (position, (name, parameter)) in names.into_iter().zip(parameters).enumerate() {
        let name = name.unwrap_or_else(|| make_up(position, &mut taken));
        named.push(Parameter::new(name, &parameter.ty));
    }
    named
}

/// Returns the name if the pattern is one, with its location.
fn own_name(pattern: &Pat) -> Option<Ident> {
    match pattern {
        Pat::Ident(pattern) => {
            let mut name = pattern.ident.clone();
            name.set_span(Span::call_site().located_at(name.span()));
            Some(name)
        }
        Pat::Paren(pattern) => own_name(&pattern.pat),
        _ => None,
    }
}

fn make_up(position: usize, taken: &mut Vec<String>) -> Ident {
    let mut name = format!("arg{position}");
    while taken.contains(&name) {
        name.push('_');
    }
    taken.push(name.clone());
    Ident::new(&name, Span::call_site())
}

#[cfg(test)]
mod tests;
