use std::cell::Cell;

use mp_sync::OnceLock;

static VALUE: OnceLock<Cell<u32>> = OnceLock::new();

fn main() {
    VALUE.get();
}
