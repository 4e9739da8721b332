use mp_shm::Array;

fn main() {
    let guard = {
        let array = Array::<u32>::zeroed(1).unwrap();
        array.lock().unwrap()
    };
    drop(guard);
}
