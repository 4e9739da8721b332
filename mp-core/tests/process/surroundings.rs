//! Odd surroundings: another loader, other users, refused system calls, a first thread that has
//! ended.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::thread;

use mp_core::{Builder, JoinError, SpawnError, pipe, process_fn};
use mp_testing::filters::refuse_system_call;
use mp_testing::start_method::is_not_for_fork_server;
use mp_testing::{is_run_again, nothing, scenario, this_executable, watched};

#[process_fn]
fn double(number: u32) -> u32 {
    number * 2
}

#[test]
fn a_program_that_was_started_through_the_loader_starts_itself() {
    if is_run_again() {
        assert_eq!(double::spawn(4).unwrap().join().unwrap(), 8);
        return;
    }
    let output = watched(|| {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let loader = maps.lines().find_map(|line| line.split_whitespace().nth(5).filter(|path| path.contains("/ld-")));
        let test = "surroundings::a_program_that_was_started_through_the_loader_starts_itself";
        let mut command = Command::new(loader.expect("there is a loader"));
        command.arg(this_executable()).args(["--exact", test, "--nocapture"]).env("MP_TEST_AGAIN", "").output().unwrap()
    });
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{output:#?}");
}

scenario!(another_program_that_contains_the_function_can_be_named, {
    if is_not_for_fork_server("there is no other program") {
        return;
    }
    let copy = tempfile::NamedTempFile::new_in("/var/tmp").unwrap().into_temp_path();
    std::fs::copy(this_executable(), &copy).unwrap();
    let process = Builder::new().program(&*copy).spawn(double::call(5)).unwrap();
    assert_eq!(process.join().unwrap(), 10);

    let error = Builder::new().program("/bin/true").spawn(double::call(5)).unwrap().join().unwrap_err();
    assert!(matches!(error, JoinError::NotStarted(_)), "{error:?}");
    let error = Builder::new().program("/nowhere").spawn(double::call(5)).unwrap_err();
    assert!(matches!(error, SpawnError::Io { .. }), "{error:?}");
});

scenario!(a_process_of_two_users_says_so, {
    if is_not_for_fork_server("nothing is executed") {
        return;
    }
    if !rustix::process::geteuid().is_root() {
        println!("only root can be two users; not tested");
        return;
    }
    // SAFETY: this only changes who the process is.
    assert_eq!(unsafe { libc::seteuid(65534) }, 0);
    assert!(matches!(nothing::spawn(), Err(SpawnError::MixedUsers)));
    // SAFETY: as above.
    assert_eq!(unsafe { libc::seteuid(0) }, 0);
    nothing::spawn().unwrap().join().unwrap();
});

/// What the kernel stores for `setcap cap_net_bind_service=ep`: see `vfs_cap_data` in
/// linux/capability.h.
const CAPABILITY: [u8; 20] = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

#[test]
fn a_program_with_file_capabilities_says_so() {
    if is_run_again() {
        let error = nothing::spawn().unwrap().join().unwrap_err().to_string();
        assert!(error.contains("file capabilities"), "{error}");
        println!("the error names them");
        return;
    }
    if is_not_for_fork_server("nothing is executed") {
        return;
    }
    let directory = tempfile::tempdir_in("/var/tmp").unwrap();
    let program = directory.path().join("program");
    std::fs::copy(this_executable(), &program).unwrap();
    std::fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).unwrap();
    let flags = rustix::fs::XattrFlags::empty();
    if let Err(error) = rustix::fs::setxattr(&program, "security.capability", &CAPABILITY, flags) {
        println!("files can be given no capabilities: {error}; not tested");
        return;
    }
    let output = watched(|| {
        let test = "surroundings::a_program_with_file_capabilities_says_so";
        let mut command = Command::new(program);
        // Root has all capabilities anyway.
        command.uid(65534).gid(65534).current_dir("/").args(["--exact", test, "--nocapture"]);
        command.env("MP_TEST_AGAIN", "").output().unwrap()
    });
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("the error names them"), "{output:#?}");
}

scenario!(a_refused_pidfd_is_named, {
    if is_not_for_fork_server("another process opens it") {
        return;
    }
    refuse_system_call(libc::SYS_pidfd_open);
    let Err(SpawnError::Io { action, source }) = nothing::spawn() else { panic!("there is no pidfd") };
    assert_eq!((action, source.raw_os_error()), ("pidfd_open", Some(libc::EPERM)));
});

scenario!(limits_that_cannot_be_asked_for_are_none, {
    refuse_system_call(libc::SYS_prlimit64);
    let (sender, receiver) = pipe::<Vec<u8>>().unwrap();
    sender.send(vec![1; 1 << 20]).unwrap();
    assert_eq!(receiver.recv().unwrap().len(), 1 << 20);
    assert_eq!(double::spawn(6).unwrap().join().unwrap(), 12);
});

/// Ends the first thread, and runs `body` on another.
fn without_first_thread(body: fn()) {
    thread::spawn(move || {
        let first = mp_testing::procfs::number_of(std::process::id());
        let state = || mp_testing::procfs::Entry::read(first.as_raw_nonzero().get() as u32).map(|entry| entry.state);
        mp_testing::eventually("the first thread has ended", || state() == Some('Z'));
        let failed = std::panic::catch_unwind(body).is_err();
        std::process::exit(i32::from(failed));
    });
    // SAFETY: it ends this thread alone, whose stack nothing uses.
    unsafe { libc::syscall(libc::SYS_exit, 0) };
}

#[process_fn]
fn work_without_the_first_thread() {
    without_first_thread(|| {
        let (sender, receiver) = pipe::<Vec<u8>>().unwrap();
        sender.send(vec![1; 1 << 20]).unwrap();
        assert_eq!(receiver.recv().unwrap().len(), 1 << 20);
        assert_eq!(double::spawn(7).unwrap().join().unwrap(), 14);
    });
}

scenario!(a_process_whose_first_thread_has_ended_goes_on, {
    work_without_the_first_thread::spawn().unwrap().join().unwrap();
});
