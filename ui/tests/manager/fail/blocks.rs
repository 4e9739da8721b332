//! What is no block of a type that can be shared.

struct Plain;
struct Generic<T>(T);

#[mp_manager::shared]
impl Clone for Plain {
    fn clone(&self) -> Self {
        Plain
    }
}

#[mp_manager::shared]
impl<T> Generic<T> {
    pub fn take(&self) {}
}

#[mp_manager::shared]
impl Generic<u8> {
    pub fn get(&self) {}
}

#[mp_manager::shared]
fn function() {}

#[mp_manager::shared(name = "", proxy = 7, colour = "red")]
impl Plain {}

fn main() {}
