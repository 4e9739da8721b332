use mp_sync::RobustSemaphore;

static SEMAPHORE: RobustSemaphore = RobustSemaphore::new(1);

fn main() {
    let permit = SEMAPHORE.acquire();
    std::thread::spawn(move || drop(permit));
}
