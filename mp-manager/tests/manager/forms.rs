//! Every form that `#[shared]` accepts. The package `mp-ui` tests what it refuses.

use mp_testing::scenario;

mod reexported {
    pub use mp_manager as manager;
}

/// A type.
pub struct Named {
    text: String,
}

#[mp_manager::shared(proxy = Stand, name = "named", crate = crate::forms::reexported::manager)]
impl Named {
    pub const LIMIT: usize = 7;

    pub fn new(text: String) -> Named {
        Self { text }
    }

    pub fn parse((text, _): (String, u8), limit: Option<usize>) -> std::result::Result<Self, String> {
        match limit {
            Some(limit) if text.len() > limit => Err("too long".to_owned()),
            _ => Ok(Self { text }),
        }
    }

    pub(crate) fn text(&self) -> String {
        self.text.clone()
    }

    pub fn r#move(&mut self, mut text: String) -> (String, usize) {
        std::mem::swap(&mut self.text, &mut text);
        (text, Self::LIMIT)
    }

    fn private(self) -> String {
        self.text
    }
}

struct Unit;

#[mp_manager::shared]
impl Unit {
    fn nothing_is_public() {}
}

scenario!(every_form_that_is_accepted_works, {
    assert_eq!(Named { text: String::new() }.private(), "");
    Unit::nothing_is_public();
    let manager = mp_manager::Manager::spawn().unwrap();
    let named = Stand::new(&manager, "a".to_owned()).unwrap();
    assert_eq!(named.r#move("b".to_owned()).unwrap(), ("a".to_owned(), 7));
    assert_eq!(named.later().text().join().unwrap(), "b");
    assert_eq!(Stand::parse(&named, ("long".to_owned(), 1), Some(2)).unwrap().unwrap_err(), "too long");
});
