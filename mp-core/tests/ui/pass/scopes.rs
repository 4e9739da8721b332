//! Functions in modules and in function bodies, of every visibility.

use mp_core::{ProcessFn, process_fn};

mod outer {
    use mp_core::process_fn;

    pub mod inner {
        use mp_core::process_fn;

        #[process_fn]
        pub fn public() -> u8 {
            private::call().run() + 1
        }

        #[process_fn]
        fn private() -> u8 {
            1
        }

        #[process_fn]
        pub(super) fn to_parent() -> u8 {
            2
        }

        #[process_fn]
        pub(in crate::pass::scopes::outer) fn to_outer() -> u8 {
            3
        }

        #[process_fn]
        pub(self) fn to_self() -> u8 {
            4
        }

        pub(crate) mod deep {
            #[mp_core::process_fn]
            pub(in super::super) fn far() -> u8 {
                super::to_self::call().run() + super::private::call().run()
            }
        }
    }

    #[process_fn]
    pub(crate) fn to_crate() -> u8 {
        inner::to_parent::call().run() + inner::to_outer::call().run() + inner::deep::far::call().run()
    }
}

/// One `use` imports function and type.
mod imported {
    use crate::pass::scopes::outer::inner::public;

    pub(crate) fn use_both() -> u8 {
        public() + public::call().run()
    }
}

fn with_local_types() -> u8 {
    #[derive(serde::Serialize, serde::Deserialize)]
    struct Local(u8);

    #[process_fn(name = "scopes::local")]
    fn local(a: Local, b: Vec<Local>) -> Option<Local> {
        Some(Local(a.0 + b[0].0))
    }

    if true {
        #[process_fn]
        fn in_a_block() -> u8 {
            1
        }
        assert_eq!(in_a_block::call().run(), 1);
    }
    local::call(Local(1), vec![Local(2)]).run().unwrap().0
}

#[test]
fn it_works() {
    assert_eq!(outer::inner::public::NAME, concat!(module_path!(), "::outer::inner::public"));
    assert_eq!(outer::inner::public::call().run(), 2);
    assert_eq!(outer::to_crate::call().run(), 10);
    assert_eq!(imported::use_both(), 4);
    assert_eq!(with_local_types(), 3);
}
