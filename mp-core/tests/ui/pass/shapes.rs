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

type Text = str;

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Failure;

#[process_fn]
#[allow(unused_parens, clippy::ptr_arg)]
fn borrowed(
    a: &str,
    b: &'_ [u8],
    c: &Point,
    d: u8,
    e: &std::path::Path,
    f: (&std::ffi::OsStr),
    g: &std::ffi::CStr,
    h: &String,
    i: &Text,
    j: &[Point],
    k: &[u8; 2],
    l: &(),
) -> usize {
    let () = l;
    let numbers = usize::from(d) + c.x as usize + c.y as usize;
    let texts = a.len() + b.len() + e.as_os_str().len() + f.len() + g.count_bytes() + h.len() + i.len();
    numbers + texts + j.len() + k.len()
}

#[process_fn]
fn borrowed_patterns(
    &a: &u8,
    (b, c): &(u8, String),
    [d, ..]: &[u8; 2],
    _: &str,
    Point { x, .. }: &Point,
    mut e: &[u8],
) -> u8 {
    e = &e[1..];
    a + b + c.len() as u8 + d + *x as u8 + e[0]
}

#[process_fn]
fn longer_names(arg0: &str, _: &str, value: &str, call: &str, arguments: &str) -> usize {
    arg0.len() + value.len() + call.len() + arguments.len()
}

/// A parameter with the name of its function, borrowed.
#[process_fn]
fn lent(lent: &u8) -> u8 {
    *lent
}

/// Its own lifetimes are not ours.
#[process_fn]
fn with_lifetimes_inside(a: &std::marker::PhantomData<dyn for<'a> Fn(&'a u8) -> &'a u8>) -> bool {
    let _ = a;
    true
}

#[process_fn]
async fn later() {}

#[process_fn]
async fn later_unit() -> () {}

#[process_fn]
async fn later_never(code: i32) -> ! {
    std::process::exit(code)
}

#[process_fn]
async fn later_borrowed(a: &str, mut b: Vec<u8>, (c, _): &(u8, u8)) -> Result<Vec<u8>, String> {
    b.push(*c);
    later().await;
    if a.is_empty() { Err("empty".to_owned()) } else { Ok(b) }
}

#[process_fn]
fn fallible(ok: bool) -> Result<(), Failure> {
    if ok { Ok(()) } else { Err(Failure) }
}

fn args_are<F: ProcessFn<Args = A>, A>() {}
fn output_is<F: ProcessFn<Output = R>, R>() {}

#[test]
fn it_works() {
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

    args_are::<
        borrowed,
        (
            String,
            Vec<u8>,
            Point,
            u8,
            std::path::PathBuf,
            std::ffi::OsString,
            std::ffi::CString,
            String,
            String,
            Vec<Point>,
            [u8; 2],
            (),
        ),
    >();
    args_are::<lent, u8>();
    args_are::<later, ()>();
    output_is::<later, ()>();
    output_is::<later_unit, ()>();
    output_is::<later_never, ()>();
    args_are::<later_borrowed, (String, Vec<u8>, (u8, u8))>();
    output_is::<later_borrowed, Result<Vec<u8>, String>>();
    output_is::<fallible, Result<(), Failure>>();

    let point = Point { x: 1, y: 1 };
    let path = std::path::Path::new("a");
    let owned = "a".to_owned();
    let call = borrowed::call("a", b"a", &point, 1, path, path.as_ref(), c"a", &owned, "a", &[], &[0; 2], &());
    assert_eq!(call.clone().run(), 12);
    assert_eq!(call.encode().unwrap().run().decode::<usize>().unwrap(), 12);
    assert_eq!(borrowed_patterns::call(&1, &(1, "a".to_owned()), &[1, 0], "", &point, &[0, 1]).run(), 6);
    assert_eq!(longer_names::call("a", "b", "c", "d", "e").run(), 4);
    assert_eq!(lent::call(&3).run(), 3);
    assert!(with_lifetimes_inside::call(&std::marker::PhantomData).run());
    later::call().run();
    later_unit::call().run();
    let _ = later_never::call(1);
    assert_eq!(later_borrowed::call("a", vec![1], &(2, 3)).run(), Ok(vec![1, 2]));
    assert_eq!(fallible::call(false).run(), Err(Failure));

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
    states::check();
}

mod states {
    use super::*;

    #[process_fn(state = counts)]
    fn first(counts: &mut Vec<u64>, number: u64) -> usize {
        counts.push(number);
        counts.len()
    }

    #[process_fn(state = last)]
    fn last(text: &str, (a, b): (u8, u8), last: &mut Option<String>) -> u8 {
        *last = Some(text.to_owned());
        a + b
    }

    #[process_fn(state = only)]
    async fn only(only: &mut u64) -> u64 {
        *only += 1;
        *only
    }

    pub(super) fn check() {
        let _: fn((String, (u8, u8))) -> u8 = last::invoke;
        assert_eq!(first(&mut Vec::new(), 1), 1);
        assert_eq!([first::call(1).run(), first::call(2).run()], [1, 2]);
        assert_eq!([only::call().run(), only::call().run()], [1, 2]);
        assert_eq!(last::call("a", (1, 2)).run(), 3);
    }
}
