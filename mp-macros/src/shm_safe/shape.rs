//! The parts of a type: the fields of a struct, or the variants of an enum.

use syn::{
    Data, DeriveInput, Expr, ExprGroup, ExprLit, ExprParen, ExprUnary, Fields, Ident, Index, Lit, Member, Type, UnOp,
};

use super::representation::Representation;
use super::{args, types};
use crate::errors::Errors;

/// A type whose definition allows it to be in shared memory.
pub(crate) enum Shape<'a> {
    Struct(Vec<Field<'a>>),
    Enum(Representation, Vec<Variant<'a>>),
}

pub(crate) struct Field<'a> {
    pub(crate) member: Member,
    pub(crate) ty: &'a Type,
}

pub(crate) struct Variant<'a> {
    pub(crate) name: &'a Ident,
    pub(crate) discriminant: Option<&'a Expr>,
    pub(crate) fields: Vec<Field<'a>>,
}

impl<'a> Shape<'a> {
    /// Checks each field. A union is an error.
    pub(crate) fn from(input: &'a DeriveInput, errors: &mut Errors) -> Option<Self> {
        match &input.data {
            Data::Struct(data) => Some(Self::Struct(fields(&data.fields, errors))),
            Data::Enum(data) => {
                let variants = data.variants.iter().map(|variant| {
                    args::refuse(&variant.attrs, errors);
                    let discriminant = variant.discriminant.as_ref().map(|(_, value)| value);
                    Variant { name: &variant.ident, discriminant, fields: fields(&variant.fields, errors) }
                });
                Some(Self::Enum(Representation::from(&input.attrs), variants.collect()))
            }
            Data::Union(data) => {
                errors.at(
                    data.union_token,
                    "a union does not say which of its fields is in use, so other processes cannot know it: use an enum",
                );
                None
            }
        }
    }
}

impl Shape<'_> {
    /// The fields of a struct.
    pub(crate) fn structure(&self) -> Option<&[Field<'_>]> {
        match self {
            Self::Struct(fields) => Some(fields),
            Self::Enum(..) => None,
        }
    }

    /// The fields of a value of zero bytes, if the definition says that it is a struct, or a
    /// variant with the discriminant 0. It does not for an expression.
    pub(crate) fn zeroed(&self) -> Option<&[Field<'_>]> {
        let (representation, variants) = match self {
            Self::Struct(fields) => return Some(fields),
            Self::Enum(representation, variants) => (representation, variants),
        };
        let mut next = Some(0);
        let zero = variants.iter().find(|variant| {
            let discriminant = variant.discriminant.map_or(next, literal);
            next = discriminant.and_then(|number| number.checked_add(1));
            discriminant == Some(0)
        });
        zero.filter(|_| representation.is_tagged()).map(|variant| &variant.fields[..])
    }
}

/// The value of a discriminant that is written as a number.
fn literal(expression: &Expr) -> Option<i128> {
    match expression {
        Expr::Lit(ExprLit { lit: Lit::Int(number), .. }) => number.base10_parse().ok(),
        Expr::Unary(ExprUnary { op: UnOp::Neg(_), expr, .. }) => literal(expr)?.checked_neg(),
        Expr::Group(ExprGroup { expr, .. }) | Expr::Paren(ExprParen { expr, .. }) => literal(expr),
        _ => None,
    }
}

/// Tells whether the definition gives values a size. The last field of a struct may be unsized.
pub(crate) fn is_sized(input: &DeriveInput) -> bool {
    let Data::Struct(data) = &input.data else { return true };
    data.fields.iter().next_back().is_none_or(|field| types::is_sized(&field.ty))
}

fn fields<'a>(fields: &'a Fields, errors: &mut Errors) -> Vec<Field<'a>> {
    let fields = fields.iter().enumerate().map(|(index, field)| {
        args::refuse(&field.attrs, errors);
        types::check(&field.ty, errors);
        let member = match &field.ident {
            Some(name) => Member::Named(name.clone()),
            None => Member::Unnamed(Index::from(index)),
        };
        Field { member, ty: &field.ty }
    });
    fields.collect()
}
