use mp_shm::ShmSafe;

#[derive(ShmSafe)]
struct Opaque(impl Copy);

fn main() {}
