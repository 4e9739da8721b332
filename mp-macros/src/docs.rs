//! The documentation of the output.

use proc_macro2::TokenStream;
use quote::quote;
use syn::ext::IdentExt;
use syn::{Attribute, Expr, Ident, Lit, Meta};

/// The documentation of the type: the function's first paragraph and where to find the rest.
pub(crate) fn of_type(name: &Ident, attributes: &[Attribute]) -> TokenStream {
    let lines = lines(attributes);
    let name = name.unraw();
    let more = format!(
        "The process function [`{name}`](fn@{name}) as a type. \
         `{name}::spawn` runs it in a new process, and `{name}::call` returns it and its arguments as a value."
    );
    let summary = summary(&lines);
    let links = links(&lines);
    let gap = if summary.is_empty() { None } else { Some("") };
    let text: Vec<&str> = summary.into_iter().chain(gap).chain([more.as_str(), ""]).chain(links).collect();
    let text = text.join("\n");
    quote!(#[doc = #text])
}

/// The documentation of `spawn`.
pub(crate) fn of_spawn(name: &Ident) -> TokenStream {
    let name = name.unraw();
    let text = format!(
        "Runs [`{name}`](fn@{name}) with these arguments in a new process.\n\
         \n\
         Returns when the process has started, and does not wait for the function. To change the settings of \
         the process, pass the result of [`call`](Self::call) to a `Builder`.\n\
         \n\
         # Errors\n\
         \n\
         Fails if the arguments cannot be encoded or the process cannot be started."
    );
    quote!(#[doc = #text])
}

/// The documentation of `call`.
pub(crate) fn of_call(name: &Ident) -> TokenStream {
    let name = name.unraw();
    let text =
        format!("Returns [`{name}`](fn@{name}) and these arguments as a value, which a `Builder` or a pool can run.");
    quote!(#[doc = #text])
}

/// The lines of `///` and `/** */` comments.
fn lines(attributes: &[Attribute]) -> Vec<String> {
    let mut lines = Vec::new();
    for attribute in attributes {
        let Meta::NameValue(meta) = &attribute.meta else {
            continue;
        };
        let Expr::Lit(value) = &meta.value else {
            continue;
        };
        let Lit::Str(text) = &value.lit else { continue };
        if meta.path.is_ident("doc") {
            let text = text.value();
            let in_block = text.contains('\n');
            lines.extend(text.split('\n').map(|line| {
                let line = line.trim();
                let bare = line.strip_prefix('*').filter(|_| in_block);
                bare.unwrap_or(line).trim().to_owned()
            }));
        }
    }
    lines
}

/// The first paragraph.
fn summary(lines: &[String]) -> Vec<&str> {
    let lines = lines.iter().map(String::as_str).skip_while(|line| line.is_empty());
    lines.take_while(|line| !line.is_empty() && !line.starts_with("```")).collect()
}

/// The definitions `[text]: target`, which the first paragraph may refer to.
fn links(lines: &[String]) -> impl Iterator<Item = &str> {
    let definition = |line: &&str| line.starts_with('[') && line.contains("]: ");
    lines.iter().map(String::as_str).filter(definition)
}

#[cfg(test)]
mod tests;
