use std::sync::OnceLock;

use mp_core::{ForkServer, process_fn};
use mp_testing::scenario;

static WORDS: OnceLock<Vec<String>> = OnceLock::new();

#[process_fn]
fn load(text: &str) {
    WORDS.get_or_init(|| text.split(' ').map(str::to_owned).collect());
}

#[process_fn]
fn word(index: usize) -> Option<String> {
    WORDS.get().unwrap().get(index).cloned()
}

scenario!(a_process_has_what_the_server_has_loaded, {
    let server = ForkServer::builder().preload(load::call("to be or not")).build().unwrap();
    for index in 0..4 {
        let text = server.spawn(word::call(index)).unwrap().join().unwrap().unwrap();
        assert_eq!(text, ["to", "be", "or", "not"][index]);
    }
});
