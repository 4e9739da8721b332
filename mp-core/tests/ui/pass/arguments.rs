//! The arguments of the attribute.

use mp_core::ProcessFn;

mod reexporter {
    pub use mp_core;
    pub use mp_core as renamed;
    pub use mp_core::*;
}

#[mp_core::process_fn(name = "stable.name")]
fn named() {}

#[mp_core::process_fn()]
fn nothing() {}

#[reexporter::mp_core::process_fn(crate = reexporter::mp_core)]
fn elsewhere(a: u8) -> u8 {
    a
}

#[reexporter::process_fn(crate = crate::pass::arguments::reexporter, name = r#"raw "name""#,)]
fn both(a: u8) -> u8 {
    a
}

#[mp_core::process_fn(name = "absolute", crate = ::mp_core)]
fn absolute() {}

mod nested {
    #[mp_core::process_fn(crate = super::reexporter::renamed)]
    pub(crate) fn relative(a: u8, b: u8) -> u8 {
        a + b
    }
}

mod executors {
    use std::future::Future;

    pub(crate) fn plain<F: Future>(future: F) -> F::Output {
        mp_core::__private::block_on(future)
    }

    pub(crate) fn boxed<R>(future: impl Future<Output = R>) -> R {
        plain(Box::pin(future))
    }

    pub(crate) struct Runtime<const N: usize>;

    impl<const N: usize> Runtime<N> {
        pub(crate) fn numbered(future: impl Future<Output = usize>) -> usize {
            plain(future) + N
        }
    }

    pub(crate) trait Executor {
        fn run<F: Future>(future: F) -> F::Output {
            plain(future)
        }
    }
    impl<const N: usize> Executor for Runtime<N> {}
}

#[mp_core::process_fn(executor = executors::plain)]
async fn on_plain(a: &str) -> usize {
    a.len()
}

#[mp_core::process_fn(name = "on boxed", executor = crate::pass::arguments::executors::boxed, crate = reexporter::mp_core)]
async fn on_boxed() {}

#[mp_core::process_fn(executor = executors::Runtime::<7>::numbered)]
async fn on_numbered() -> usize {
    1
}

#[mp_core::process_fn(executor = <executors::Runtime<0> as executors::Executor>::run)]
async fn on_trait(a: u8) -> u8 {
    a
}

#[reexporter::process_fn(crate = crate::pass::arguments::reexporter)]
async fn elsewhere_later(a: &[u8], b: u8) -> usize {
    a.len() + usize::from(b)
}

#[test]
fn it_works() {
    assert_eq!(on_plain::call("abc").run(), 3);
    on_boxed::call().run();
    assert_eq!(on_numbered::call().run(), 8);
    assert_eq!(on_trait::call(3).run(), 3);
    assert_eq!(elsewhere_later::call(&[0, 0], 1).run(), 3);
    assert_eq!(named::NAME, "stable.name");
    assert_eq!(both::NAME, r#"raw "name""#);
    assert_eq!(elsewhere::call(1).run(), 1);
    assert_eq!(both::call(1).run(), 1);
    assert_eq!(nested::relative::call(1, 1).run(), 2);
    nothing::call().run();
    absolute::call().run();
}
