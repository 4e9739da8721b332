use std::rc::Rc;

use mp_sync::Mutex;

fn main() {
    let mutex = Mutex::new(Rc::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| drop(mutex.lock()));
    });
}
