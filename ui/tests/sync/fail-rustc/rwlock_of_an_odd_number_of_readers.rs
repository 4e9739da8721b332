use mp_sync::RwLock;

static LOCK: RwLock<u32, 30> = RwLock::with_readers(1);

fn main() {
    drop(LOCK.read());
}
