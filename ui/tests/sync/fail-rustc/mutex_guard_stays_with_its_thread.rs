use mp_sync::Mutex;

static MUTEX: Mutex<u32> = Mutex::new(0);

fn main() {
    let guard = MUTEX.lock().unwrap();
    std::thread::spawn(move || drop(guard));
}
