//! A program that becomes another user.

use mp_core::process_fn;
use mp_testing::{nothing, scenario};

/// Starts a process as root and another as somebody else.
#[process_fn]
fn spawn_then_drop_privileges_then_spawn() {
    nothing::spawn().unwrap().join().unwrap();
    // SAFETY: these only change who this process is.
    let dropped = unsafe { libc::setresgid(65534, 65534, 65534) };
    assert_eq!(dropped, 0);
    // SAFETY: as above.
    let dropped = unsafe { libc::setresuid(65534, 65534, 65534) };
    assert_eq!(dropped, 0);
    nothing::spawn().unwrap().join().unwrap();
}

scenario!(a_parent_that_dropped_its_privileges_goes_on_spawning, {
    if !rustix::process::geteuid().is_root() {
        println!("only root has privileges to drop; not tested");
        return;
    }
    spawn_then_drop_privileges_then_spawn::spawn().unwrap().join().unwrap();
});
