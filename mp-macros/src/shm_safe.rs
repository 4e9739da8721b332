//! `#[derive(ShmSafe)]`: an item that passes all checks, and the output for it.

use proc_macro2::TokenStream;
use syn::DeriveInput;

use crate::errors::Errors;

mod args;
mod expand;
mod generics;
mod representation;
mod shape;
mod types;

use args::Args;
use expand::Expansion;
use shape::Shape;

/// Expands the derive. On an error it still makes an implementation if possible, so that uses of
/// the type are not errors as well.
pub(crate) fn derive(item: TokenStream) -> TokenStream {
    let input: DeriveInput = match syn::parse2(item) {
        Ok(input) => input,
        Err(error) => return error.to_compile_error(),
    };
    let mut errors = Errors::default();
    let args = Args::from(&input.attrs, &mut errors);
    let shape = Shape::from(&input, &mut errors);
    generics::check(&input.generics, &mut errors);
    let can_be_implemented = generics::are_static(&input.generics) && shape::is_sized(&input);
    let expansion = Expansion::new(&args, &input);
    match (errors.finish(()), shape) {
        (Ok(()), Some(shape)) => expansion.of(&shape),
        (Ok(()), None) => TokenStream::new(),
        (Err(error), _) => {
            let mut tokens = error.to_compile_error();
            tokens.extend(can_be_implemented.then(|| expansion.placeholder()));
            tokens
        }
    }
}
