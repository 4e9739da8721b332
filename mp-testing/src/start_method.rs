//! The same scenarios with processes from a fork server.

use std::env;
use std::sync::OnceLock;

use crate::filters;
use crate::procfs::{self, Entry};
use mp_core::{ForkServer, StartMethod, set_start_method};

/// The variable that lets every scenario of a test program start its processes from a fork server.
/// With the value `old`, on a kernel that does not tell how processes of others end.
const FORK_SERVER: &str = "MP_TEST_FORK_SERVER";

static SERVER: OnceLock<ForkServer> = OnceLock::new();

/// Returns whether the processes of this scenario come from a fork server: `ci/repeat` runs
/// the tests so.
pub fn is_fork_server() -> bool {
    env::var_os(FORK_SERVER).is_some()
}

/// Does the same, for a scenario that does not hold then, and says why.
pub fn is_not_for_fork_server(why: &str) -> bool {
    is_fork_server().then(|| println!("not tested with a fork server: {why}")).is_some()
}

/// The process ID of the fork server of this scenario.
fn server() -> Option<u32> {
    SERVER.get().map(ForkServer::pid)
}

/// Sets the start method of this process, which is a scenario.
pub(crate) fn choose() {
    if is_fork_server() {
        if env::var_os(FORK_SERVER).is_some_and(|kernel| kernel == "old") {
            filters::refuse_pidfd_info();
        }
        let server = SERVER.get_or_init(|| ForkServer::builder().build().unwrap());
        set_start_method(StartMethod::ForkServer(server.clone()));
    }
}

/// The children of this process, and the processes of its fork server, zombies included.
pub fn children() -> Vec<Entry> {
    let parents = [std::process::id()].into_iter().chain(server());
    parents.flat_map(procfs::children).filter(|child| Some(child.pid) != server()).collect()
}

/// What is in the session of this process beside it and its fork server.
pub fn others() -> Vec<Entry> {
    let own = [Some(std::process::id()), server()];
    procfs::session(std::process::id()).into_iter().filter(|process| !own.contains(&Some(process.pid))).collect()
}
