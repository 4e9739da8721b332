use mp_sync::{Condvar, Mutex};

fn main() {
    let (mutex, condvar) = (Mutex::new(0), Condvar::new());
    let mut guard = mutex.lock().unwrap();
    let value = &mut *guard;
    let guard = condvar.wait(guard).unwrap();
    *value = 1;
    drop(guard);
}
