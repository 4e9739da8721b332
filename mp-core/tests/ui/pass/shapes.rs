//! Parameters and return types of every shape, and raw names.

use mp_core::{ProcessFn, process_fn};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Point {
    x: i32,
    y: i32,
}

#[process_fn]
fn none() {}

#[process_fn]
fn unit() -> () {}

#[process_fn]
fn one(a: u64) -> u64 {
    a
}

#[process_fn]
fn takes_unit(unit: ()) -> u8 {
    let () = unit;
    1
}

#[process_fn]
fn takes_tuple(pair: (u8, u8)) -> u8 {
    pair.0 + pair.1
}

#[process_fn]
fn two(a: String, b: Vec<u8>) -> usize {
    a.len() + b.len()
}

#[process_fn]
fn twelve(a: u8, b: u8, c: u8, d: u8, e: u8, f: u8, g: u8, h: u8, i: u8, j: u8, k: u8, l: u8) -> u8 {
    a + b + c + d + e + f + g + h + i + j + k + l
}

#[process_fn]
fn diverges(code: i32) -> ! {
    std::process::exit(code)
}

#[process_fn]
#[allow(unused_parens)]
fn patterns(
    mut a: u8,
    _: u8,
    (b, c): (u8, u8),
    [d, _e]: [u8; 2],
    Point { x, y }: Point,
    ref g: u8,
    _h: u8,
    (i): u8,
) -> i64 {
    a += 1;
    i64::from(a)
        + i64::from(b)
        + i64::from(c)
        + i64::from(d)
        + i64::from(x)
        + i64::from(y)
        + i64::from(*g)
        + i64::from(i)
}

#[process_fn]
fn made_up_names(_: u8, arg0: u8, _: u8) -> u8 {
    arg0
}

#[process_fn]
fn r#type(r#fn: u8, r#match: u8) -> u8 {
    r#fn + r#match
}

/// A parameter with the name of its function.
#[process_fn]
fn value(value: u8) -> u8 {
    value
}

/// Parameters with the names of what is made.
#[process_fn]
fn spawn(call: u8, spawn: u8, invoke: u8, args: u8) -> u8 {
    call + spawn + invoke + args
}

#[process_fn]
fn owned(a: std::borrow::Cow<'static, str>, b: Box<[u8]>, c: Option<Point>) -> Result<String, String> {
    let _ = (b, c);
    Ok(a.into_owned())
}

#[process_fn]
fn projected(a: <Vec<u8> as IntoIterator>::Item) -> <[String] as ToOwned>::Owned {
    vec![a.to_string()]
}

#[process_fn]
const fn constant(a: u8) -> u8 {
    a + 1
}

const CONSTANT: u8 = constant(1);

fn args_are<F: ProcessFn<Args = A>, A>() {}
fn output_is<F: ProcessFn<Output = R>, R>() {}

fn main() {
    args_are::<none, ()>();
    output_is::<none, ()>();
    output_is::<unit, ()>();
    args_are::<one, u64>();
    args_are::<takes_unit, ()>();
    args_are::<takes_tuple, (u8, u8)>();
    args_are::<two, (String, Vec<u8>)>();
    output_is::<two, usize>();
    args_are::<diverges, i32>();
    output_is::<diverges, ()>();
    assert_eq!(r#type::NAME.rsplit("::").next(), Some("type"));
    assert_eq!(one::NAME, concat!(module_path!(), "::one"));

    none::call().run();
    unit::call().run();
    let _ = diverges::call(1);
    assert_eq!(one::call(1).run(), 1);
    assert_eq!(takes_unit::call(()).run(), 1);
    assert_eq!(takes_tuple::call((1, 2)).run(), 3);
    assert_eq!(two::call("ab".to_owned(), vec![1]).run(), 3);
    assert_eq!(twelve::call(1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1).run(), 12);
    assert_eq!(patterns::call(0, 0, (1, 1), [1, 0], Point { x: 1, y: 1 }, 1, 0, 1).run(), 8);
    assert_eq!(made_up_names::call(1, 2, 3).run(), 2);
    assert_eq!(r#type::call(1, 2).run(), 3);
    assert_eq!(value::call(3).run(), 3);
    assert_eq!(spawn::call(1, 2, 3, 4).run(), 10);
    assert_eq!(owned::call("a".into(), Box::new([]), None).run().as_deref(), Ok("a"));
    assert_eq!(projected::call(7).run(), ["7"]);
    assert_eq!(CONSTANT, constant::call(1).run());
}
