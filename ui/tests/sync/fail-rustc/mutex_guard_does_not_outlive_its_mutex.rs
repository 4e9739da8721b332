use mp_sync::Mutex;

fn main() {
    let guard = {
        let mutex = Mutex::new(0);
        mutex.lock().unwrap()
    };
    drop(guard);
}
