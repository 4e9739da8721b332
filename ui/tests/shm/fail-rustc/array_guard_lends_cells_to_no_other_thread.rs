use std::cell::Cell;

use mp_shm::{Array, Layout, ShmSafe, Zeroable};

struct Count(Cell<u32>);

// SAFETY: a number, which is never used by two threads at once under the lock.
unsafe impl ShmSafe for Count {
    const LAYOUT: Layout = Layout::of::<Self>("Count");
}

// SAFETY: 0 is a number.
unsafe impl Zeroable for Count {}

fn main() {
    let array = Array::<Count>::zeroed(1).unwrap();
    let guard = array.lock().unwrap();
    let counts = &guard;
    std::thread::scope(|scope| {
        scope.spawn(|| counts[0].0.set(1));
    });
}
