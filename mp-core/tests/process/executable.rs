//! The executable may be deleted or replaced while it runs: children are the image that runs.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use mp_core::{process_fn, wait};
use mp_testing::{PATIENCE, is_run_again, run_again, this_executable};

#[process_fn]
fn add(a: u32, b: u32) -> u32 {
    a + b
}

/// Runs a test from a copy of the executable.
fn run_a_copy(test: &str) {
    let directory = tempfile::tempdir().unwrap();
    let copy = directory.path().join("copy");
    // By another program: a file that this process has open for writing is open in every process
    // that other tests start meanwhile, until that executes its own program, and what is open for
    // writing cannot be executed.
    assert!(Command::new("cp").args([&this_executable(), &copy]).status().unwrap().success());
    run_again(&copy, test);
}

/// What the copy does.
fn spawn_after(change: impl FnOnce(&Path)) {
    let before = add::spawn(1, 2).unwrap();
    let path = this_executable();
    assert_eq!(path.file_name().unwrap(), "copy");
    change(&path);
    for _ in 0..3 {
        let mut process = add::spawn(3, 4).unwrap();
        assert_eq!(wait(&[&process], Some(PATIENCE)).unwrap(), [0]);
        assert_eq!(process.join_timeout(PATIENCE).unwrap(), Some(7));
    }
    assert_eq!(before.join().unwrap(), 3);
}

#[test]
fn a_deleted_executable_goes_on_starting_processes() {
    if is_run_again() {
        spawn_after(|path| fs::remove_file(path).unwrap());
    } else {
        run_a_copy("executable::a_deleted_executable_goes_on_starting_processes");
    }
}

#[test]
fn a_replaced_executable_goes_on_starting_itself() {
    if is_run_again() {
        spawn_after(|path| {
            let other = path.with_extension("new");
            fs::write(&other, "#!/bin/sh\nexit 42\n").unwrap();
            fs::set_permissions(&other, fs::Permissions::from_mode(0o755)).unwrap();
            fs::rename(&other, path).unwrap();
        });
    } else {
        run_a_copy("executable::a_replaced_executable_goes_on_starting_itself");
    }
}
