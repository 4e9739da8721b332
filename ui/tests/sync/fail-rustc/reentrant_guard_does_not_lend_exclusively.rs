use mp_sync::ReentrantMutex;

fn main() {
    let mutex = ReentrantMutex::new(0);
    let mut guard = mutex.lock().unwrap();
    *guard = 1;
}
