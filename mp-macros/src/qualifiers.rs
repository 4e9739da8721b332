//! The parts of a signature around the parameters: `unsafe`, generics and the like.

use syn::{GenericParam, Generics, Safety, Signature};

use crate::errors::Errors;

/// Reports the parts that a process function cannot have.
pub(crate) fn check(signature: &Signature, errors: &mut Errors) {
    if let Safety::Unsafe(unsafety) = &signature.safety {
        errors.at(
            unsafety,
            "an unsafe function cannot be a process function, because no caller could guarantee its safety conditions \
             in the other process: wrap it in a safe function that upholds them",
        );
    }
    if let Some(abi) = &signature.abi {
        errors.at(
            abi,
            "a function with a foreign calling convention cannot be a process function: \
             call it from an ordinary Rust function",
        );
    }
    if let Some(variadic) = &signature.variadic {
        errors.at(variadic.dots, "a variadic function cannot be a process function: take a `Vec` of the arguments");
    }
    check_generics(&signature.generics, errors);
}

fn check_generics(generics: &Generics, errors: &mut Errors) {
    for parameter in &generics.params {
        match parameter {
            GenericParam::Type(parameter) => errors.at(
                parameter,
                "a process function cannot be generic, because the other process has to find it by its name: \
                 write a function for each concrete type",
            ),
            GenericParam::Const(parameter) => errors.at(
                parameter,
                "a process function cannot have const parameters, because the other process has to find it by \
                 its name: make the value an ordinary parameter",
            ),
            GenericParam::Lifetime(parameter) => errors.at(
                parameter,
                "a process function cannot have lifetime parameters, because a value that it borrows exists in the other process \
                 only while the function runs: write `&T` instead of `&'a T`, and take and return owned types otherwise",
            ),
        }
    }
    if let Some(clause) = &generics.where_clause {
        errors.at(
            clause,
            "a process function cannot have a where-clause, because it cannot be generic: remove the clause",
        );
    }
}
