use syn::{ItemFn, parse_quote};

use super::{lines, links, summary};

#[test]
fn the_summary_ends_at_an_empty_line() {
    let function: ItemFn = parse_quote! {
        /// Adds two
        /// [numbers].
        ///
        /// More.
        ///
        /// [numbers]: u64
        fn add() {}
    };
    let lines = lines(&function.attrs);
    assert_eq!(summary(&lines), ["Adds two", "[numbers]."]);
    assert_eq!(links(&lines).collect::<Vec<_>>(), ["[numbers]: u64"]);
}

#[test]
fn a_summary_in_a_block_comment() {
    let function: ItemFn = parse_quote! {
        /**
         * Adds.
         *
         * More.
         */
        fn add() {}
    };
    assert_eq!(summary(&lines(&function.attrs)), ["Adds."]);
}

#[test]
fn an_example_is_no_summary() {
    let function: ItemFn = parse_quote! {
        #[doc = include_str!("x.md")]
        /// Adds:
        /// ```
        /// add();
        /// ```
        fn add() {}
    };
    assert_eq!(summary(&lines(&function.attrs)), ["Adds:"]);
}
