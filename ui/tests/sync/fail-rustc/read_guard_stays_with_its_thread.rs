use mp_sync::RwLock;

static LOCK: RwLock<u32> = RwLock::new(1);

fn main() {
    let guard = LOCK.read().unwrap();
    std::thread::spawn(move || drop(guard));
}
