//! Two functions of one name. An executable of its own, because nothing in it can be started.

use mp_core::{Builder, SpawnError, process_fn};
use mp_testing::watched;

#[process_fn(name = "the same")]
fn first() -> u8 {
    1
}
const FIRST: u32 = line!() - 4;

mod elsewhere {
    #[mp_core::process_fn(name = "the same")]
    pub(crate) fn second() -> u8 {
        2
    }
    pub(crate) const SECOND: u32 = line!() - 4;
}

#[process_fn]
fn third() {}

#[test]
fn two_functions_of_one_name_are_named_with_their_places() {
    let errors = watched(|| {
        [
            first::spawn().unwrap_err(),
            elsewhere::second::spawn().unwrap_err(),
            // It is told of at once, whatever is started first.
            Builder::new().spawn(third::call()).unwrap_err(),
        ]
    });
    for error in errors {
        let text = error.to_string();
        let SpawnError::Duplicate(duplicate) = error else { panic!("{error:?}") };
        assert_eq!(duplicate.name(), "the same");
        for line in [FIRST, elsewhere::SECOND] {
            // The attribute's place or the function's: both are on the way there.
            let places = [line, line + 1].map(|line| format!("{}:{line}:", file!()));
            assert!(places.iter().any(|place| text.contains(place)), "{text} lacks line {line}");
        }
    }
}
