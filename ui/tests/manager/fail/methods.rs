//! Methods that cannot be called from another process.

struct Plain;

#[mp_manager::shared]
impl Plain {
    pub fn consume(self) {}

    pub fn boxed(self: Box<Self>) {}

    pub fn borrowed(&self, _text: &str) {}

    pub fn lends(&self) -> &str {
        ""
    }

    pub fn inside(&self, _text: Option<&str>) {}

    pub fn same(&self, _other: Self) {}

    pub fn several(&self) -> Vec<Self> {
        Vec::new()
    }

    pub fn number() -> u32 {
        7
    }

    pub fn generic<T>(&self, _value: T) {}

    pub async fn wait(&self) {}

    pub unsafe fn risky(&self) {}

    pub fn later(&self) {}

    #[cfg(unix)]
    pub fn sometimes(&self) {}

    fn private(self, text: &str) -> &str {
        text
    }
}

fn main() {}
