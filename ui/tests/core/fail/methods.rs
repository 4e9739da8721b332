#![allow(unused)]

use mp_core::process_fn;

struct Counter;

impl Counter {
    #[process_fn]
    fn shared(&self) {}

    #[process_fn]
    fn changed(&mut self, by: u8) {}

    #[process_fn]
    fn moved(self) {}

    #[process_fn]
    fn typed(self: Box<Self>) {}

    #[process_fn]
    fn new() -> Self {
        Self
    }

    #[process_fn]
    fn several(all: Vec<Self>) {}
}

fn main() {}
