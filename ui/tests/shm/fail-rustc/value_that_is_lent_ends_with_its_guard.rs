use mp_shm::Value;

fn main() {
    let value = Value::new(1).unwrap();
    let kept = value.update(|number| number).unwrap();
    *kept = 2;
}
