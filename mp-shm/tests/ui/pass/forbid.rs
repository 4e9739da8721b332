//! Even the strictest crate may use the derive: that its output is true, the derive has checked.

#![forbid(unsafe_code)]

use mp_shm::{AnyBits, ShmSafe};

#[derive(ShmSafe)]
struct Counters {
    first: u64,
    second: u64,
}

fn is_any_bits<T: AnyBits>(_: &T) {}

#[test]
fn it_works() {
    let counters = Counters { first: 1, second: 2 };
    assert_eq!(counters.first + counters.second, 3);
    is_any_bits(&counters);
}
