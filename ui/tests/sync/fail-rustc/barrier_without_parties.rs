use mp_sync::Barrier;

static BARRIER: Barrier = Barrier::new(0);

fn main() {
    BARRIER.wait().unwrap();
}
