//! Types that cannot be sent to another process, recognised by how they are written.

use std::fmt;

use syn::visit::{self, Visit};
use syn::{
    Expr, GenericArgument, Lifetime, Macro, ParenthesizedGenericArguments, Path, PathArguments, TraitBound, Type,
    TypeFnPtr, TypeImplTrait, TypeInfer, TypeParamBound, TypePtr, TypeReference,
};

use crate::errors::{Errors, display};

/// Whether a type is a parameter or the return type.
#[derive(Clone, Copy)]
pub(crate) enum Position {
    Parameter,
    Return,
}

impl fmt::Display for Position {
    /// The verb for what the user should do.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Parameter => "take",
            Self::Return => "return",
        })
    }
}

/// Reports the parts of `ty` that have no meaning in another process.
pub(crate) fn check(ty: &Type, position: Position, errors: &mut Errors) {
    let mut check = Check { position, errors };
    match bare(ty) {
        Type::Reference(reference) if matches!(position, Position::Parameter) => check.parameter(reference),
        _ => check.visit_type(ty),
    }
}

/// Tells whether a part of `ty` is `_`, which rustc refuses itself.
pub(crate) fn has_placeholder(ty: &Type) -> bool {
    struct Placeholder(bool);
    impl<'ast> Visit<'ast> for Placeholder {
        fn visit_type_infer(&mut self, _: &'ast TypeInfer) {
            self.0 = true;
        }

        /// The length of an array. A longer expression is not part of the signature.
        fn visit_expr(&mut self, expression: &'ast Expr) {
            self.0 |= matches!(expression, Expr::Infer(_));
        }
    }
    let mut placeholder = Placeholder(false);
    placeholder.visit_type(ty);
    placeholder.0
}

/// Returns `ty` without the groups and parentheses around it.
pub(crate) fn bare(ty: &Type) -> &Type {
    match ty {
        Type::Group(group) => bare(&group.elem),
        Type::Paren(paren) => bare(&paren.elem),
        ty => ty,
    }
}

struct Check<'a> {
    position: Position,
    errors: &'a mut Errors,
}

impl Check<'_> {
    /// A reference that is a whole parameter. The other process owns the value, and lends it to the
    /// function.
    fn parameter(&mut self, reference: &TypeReference) {
        let referent = bare(&reference.elem);
        match referent {
            Type::TraitObject(_) | Type::ImplTrait(_) => return self.reference(reference),
            _ if reference.mutability.is_some() => return self.reference(reference),
            Type::Reference(_) => {
                let written = display(reference);
                let mut inner = referent;
                while let Type::Reference(reference) = inner {
                    inner = bare(&reference.elem);
                }
                let enough = format!("&{}", display(inner));
                let message = format!("`{written}` cannot be sent to another process: take `{enough}`");
                return self.errors.at(reference, message);
            }
            _ => {}
        }
        if let Some(lifetime) = reference.lifetime.as_ref().filter(|lifetime| lifetime.ident == "static") {
            let shorter = TypeReference { lifetime: None, ..reference.clone() };
            self.errors.at(
                lifetime,
                format!(
                    "a value that a process function borrows exists in the other process only while the function runs: write `{}`",
                    display(shorter)
                ),
            );
        }
        self.visit_type(referent);
    }

    /// Any other reference.
    fn reference(&mut self, reference: &TypeReference) {
        let position = self.position;
        let written = display(reference);
        let message = match bare(&reference.elem) {
            Type::TraitObject(_) => {
                format!(
                    "`{written}` cannot be sent to another process: {position} a concrete type, such as an \
                     enum of the possible ones"
                )
            }
            Type::ImplTrait(_) => {
                format!("`{written}` borrows from this process: {position} an owned, concrete type")
            }
            elem if reference.mutability.is_some() => {
                let owned = owned(elem);
                match position {
                    Position::Parameter => format!(
                        "`{written}` borrows from this process: take `{owned}` by value and return the \
                         changed one, or, if it is what the process keeps between calls, name the parameter: \
                         `#[process_fn(state = parameter)]`"
                    ),
                    Position::Return => {
                        format!("`{written}` borrows from this process: return `{owned}` by value")
                    }
                }
            }
            elem => {
                let owned = owned(elem);
                match position {
                    Position::Parameter => format!(
                        "a reference inside another type cannot be sent to another process, only one that is the \
                         whole parameter: write `{owned}` instead of `{written}`"
                    ),
                    Position::Return => format!("`{written}` borrows from this process: return `{owned}`"),
                }
            }
        };
        self.errors.at(reference, message);
    }
}

/// The owned form of a `ty`.
fn owned(ty: &Type) -> String {
    match bare(ty) {
        Type::Slice(slice) => match bare(&slice.elem) {
            Type::Reference(inner) => format!("Vec<{}>", owned(&inner.elem)),
            elem => format!("Vec<{}>", display(elem)),
        },
        Type::Reference(inner) => owned(&inner.elem),
        ty => {
            let written = display(ty);
            let last = written.rsplit("::").next().unwrap_or_default();
            match last {
                "str" => "String",
                "Path" => "PathBuf",
                "OsStr" => "OsString",
                "CStr" => "CString",
                _ => &written,
            }
            .to_owned()
        }
    }
}

/// What to do with an error that cannot be sent.
const AN_ERROR: &str = "return a `Result<_, String>`, by `.map_err(|error| error.to_string())`";

/// Says what to use in place of a type of std that people try first, and that cannot be sent or
/// would be copied. `io::Error` is recognised, and `Error` is not, which may be another type.
fn std_type(path: &Path) -> Option<&'static str> {
    let mut segments = path.segments.iter().rev();
    let (last, module) = (segments.next()?, segments.next());
    let is_in = |name: &str| module.is_some_and(|module| module.ident == name);
    match last.ident.to_string().as_str() {
        "Result" | "Error" if is_in("io") || is_in("anyhow") => Some(AN_ERROR),
        "File" if is_in("fs") => Some("send it as an `mp_core::Fd`"),
        "TcpStream" | "TcpListener" | "UdpSocket" | "UnixStream" | "UnixListener" | "UnixDatagram" if is_in("net") => {
            Some("send it as an `mp_core::Fd`")
        }
        "Box" | "Arc" | "Rc" if is_dyn(&last.arguments, &["Error"]) => Some(AN_ERROR),
        "Box" | "Arc" | "Rc" if is_dyn(&last.arguments, &["Fn", "FnMut", "FnOnce"]) => {
            Some("use a value that says what to do, such as an enum")
        }
        "Arc" | "Rc" if shares_a_lock(&last.arguments) => {
            Some("each process would have its own; share memory with an `mp_shm::Value` or an `mp_shm::Shared`")
        }
        _ => None,
    }
}

/// Returns the types in angle brackets.
fn inside(arguments: &PathArguments) -> impl Iterator<Item = &Type> {
    let arguments = match arguments {
        PathArguments::AngleBracketed(arguments) => Some(&arguments.args),
        _ => None,
    };
    arguments.into_iter().flatten().filter_map(|argument| match argument {
        GenericArgument::Type(ty) => Some(bare(ty)),
        _ => None,
    })
}

/// Tells whether a type in angle brackets is an object of a trait of these names.
fn is_dyn(arguments: &PathArguments, names: &[&str]) -> bool {
    inside(arguments).any(|ty| {
        let Type::TraitObject(object) = ty else { return false };
        object.bounds.iter().any(|bound| {
            let TypeParamBound::Trait(bound) = bound else { return false };
            bound.path.segments.last().is_some_and(|last| names.iter().any(|name| last.ident == name))
        })
    })
}

/// Tells whether a type in angle brackets is a lock, a cell or an atomic.
fn shares_a_lock(arguments: &PathArguments) -> bool {
    inside(arguments).any(|ty| {
        let Type::Path(ty) = ty else { return false };
        let last = ty.path.segments.last().map(|last| last.ident.to_string()).unwrap_or_default();
        ["Mutex", "RwLock", "RefCell", "Cell"].contains(&last.as_str()) || last.starts_with("Atomic")
    })
}

impl<'ast> Visit<'ast> for Check<'_> {
    /// Does not check inside the reference, so that there is one error for it.
    fn visit_type_reference(&mut self, reference: &'ast TypeReference) {
        self.reference(reference);
    }

    fn visit_type_ptr(&mut self, pointer: &'ast TypePtr) {
        let position = self.position;
        self.errors.at(
            pointer,
            format!("a raw pointer has no meaning in another process: {position} `{}` by value", owned(&pointer.elem)),
        );
    }

    fn visit_type_fn_ptr(&mut self, pointer: &'ast TypeFnPtr) {
        let position = self.position;
        self.errors.at(
            pointer,
            format!(
                "a function pointer has no meaning in another process: {position} a value that says which \
                 function to call, such as an enum"
            ),
        );
    }

    fn visit_type_impl_trait(&mut self, opaque: &'ast TypeImplTrait) {
        let position = self.position;
        self.errors.at(
            opaque,
            format!("`impl Trait` hides the type that has to be sent to another process: {position} a concrete type"),
        );
    }

    fn visit_lifetime(&mut self, lifetime: &'ast Lifetime) {
        if lifetime.ident != "static" {
            self.errors.at(
                lifetime,
                format!(
                    "nothing can be borrowed from another process: write `'static` instead of `{lifetime}`, \
                     or {} an owned type",
                    self.position
                ),
            );
        }
    }

    fn visit_path(&mut self, path: &'ast Path) {
        if path.segments.last().is_some_and(|last| last.ident == "Fd") {
            // It sends what it is given as a descriptor.
            return;
        }
        if let Some(instead) = std_type(path) {
            self.errors.at(path, format!("`{}` cannot be sent to another process: {instead}", display(path)));
            return;
        }
        if path.is_ident("Self") || path.segments.first().is_some_and(|first| first.ident == "Self") {
            self.errors.at(
                &path.segments[0],
                "a function of an `impl` cannot be a process function: move it out of the `impl`, and name the type",
            );
        }
        visit::visit_path(self, path);
    }

    /// The lifetimes of `for<'a> Trait<'a>` do not borrow from outside.
    fn visit_trait_bound(&mut self, bound: &'ast TraitBound) {
        if bound.lifetimes.is_none() {
            visit::visit_trait_bound(self, bound);
        }
    }

    /// `dyn Fn(&str)` borrows when it is called, not when it is sent.
    fn visit_parenthesized_generic_arguments(&mut self, _: &'ast ParenthesizedGenericArguments) {}

    /// Lengths of arrays and const arguments are not part of the value.
    fn visit_expr(&mut self, _: &'ast Expr) {}

    fn visit_macro(&mut self, _: &'ast Macro) {}
}
