use mp_sync::Semaphore;

static SEMAPHORE: Semaphore = Semaphore::new(1);

fn main() {
    let permit = SEMAPHORE.acquire_permit();
    std::thread::spawn(move || drop(permit));
}
