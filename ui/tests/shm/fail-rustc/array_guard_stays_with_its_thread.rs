use mp_shm::Array;

fn main() {
    let array = Array::<u32>::zeroed(1).unwrap();
    let guard = array.lock().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || drop(guard));
    });
}
