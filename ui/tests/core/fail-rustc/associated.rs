//! The attribute cannot know that it is in an `impl`. The only error is rustc's, which quotes the name of a macro of ours.

use mp_core::process_fn;

struct Counter;

impl Counter {
    /// Adds.
    #[process_fn]
    pub fn add(a: u8, b: u8) -> u8 {
        a + b
    }

    #[process_fn(name = "length")]
    fn length(text: &str) -> usize {
        text.len()
    }
}

trait Count {
    #[process_fn]
    fn count() {}
}

fn main() {
    Counter::add(1, 2);
}
