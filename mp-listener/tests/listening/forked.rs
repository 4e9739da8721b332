//! A listener in a copy of its process that `fork` made.

use mp_listener::{Client, Listener};
use mp_testing::copies::in_copy;
use mp_testing::scenario;

scenario!(a_copy_that_drops_a_listener_leaves_the_file, {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let mut listener = Some(Listener::bind(&*path).unwrap());
    in_copy(|| drop(listener.take()));
    let client = Client::connect(&*path).unwrap();
    drop((client, listener.take()));
    assert!(!path.exists());
});
