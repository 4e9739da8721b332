//! A program that becomes another user, and processes that are started as one, with other
//! privileges.

use mp_core::{Builder, JoinError, Sender, pipe, process_fn};
use mp_testing::procfs::runs;
use mp_testing::{eventually, nothing, run_for_ever, scenario};

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

/// The user, the group, the number of supplementary groups, the umask, and whether new privileges
/// are given up.
type Who = ([u32; 3], [u32; 3], usize, u32, bool);

#[process_fn]
fn who() -> Who {
    let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
    let line = |name: &str| {
        let found = status.lines().find_map(|line| line.strip_prefix(name));
        found.unwrap().split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    let ids = |name| std::array::from_fn(|at| line(name)[at].parse().unwrap());
    let umask = u32::from_str_radix(&line("Umask:")[0], 8).unwrap();
    (ids("Uid:"), ids("Gid:"), line("Groups:").len(), umask, line("NoNewPrivs:")[0] == "1")
}

#[process_fn]
fn who_below() -> Who {
    who::spawn().unwrap().join().unwrap()
}

scenario!(umask_and_no_new_privileges_are_set_and_inherited, {
    let (users, groups, many, umask, given_up) = who();
    assert!(!given_up);
    let other = umask ^ 0o022;
    let builder = || Builder::new().umask(other).no_new_privs(true);
    let expected = (users, groups, many, other, true);
    assert_eq!(builder().spawn(who::call()).unwrap().join().unwrap(), expected);
    assert_eq!(builder().spawn(who_below::call()).unwrap().join().unwrap(), expected);
});

/// Says which process it has started as another user, and waits to be killed.
#[process_fn]
fn have_one_of_another_user(pids: Sender<u32>) {
    let process = Builder::new().uid(65534).gid(65533).spawn(run_for_ever::call()).unwrap();
    pids.send(process.pid()).unwrap();
    let _ = process.join();
}

scenario!(a_process_becomes_another_user_and_dies_with_its_parent, {
    let builder = || Builder::new().name("p1").uid(65534).gid(65533);
    if !rustix::process::geteuid().is_root() {
        let error = builder().spawn(who::call()).unwrap().join().unwrap_err();
        assert!(matches!(error, JoinError::NotStarted(_)) && error.to_string().contains("become"), "{error}");
        return;
    }
    let expected = |(users, groups, many, ..): Who| assert_eq!((users, groups, many), ([65534; 3], [65533; 3], 0));
    expected(builder().spawn(who::call()).unwrap().join().unwrap());
    expected(builder().spawn(who_below::call()).unwrap().join().unwrap());

    let (sender, pids) = pipe().unwrap();
    let parent = have_one_of_another_user::spawn(sender).unwrap();
    let child = pids.recv().unwrap();
    eventually("it is another user", || {
        let status = std::fs::read_to_string(format!("/proc/{child}/status")).unwrap();
        status.contains("Uid:\t65534\t65534")
    });
    parent.kill().unwrap();
    assert!(parent.join().is_err());
    eventually("its child is gone", || !runs(child));
});

scenario!(what_a_process_may_not_become_is_an_error_and_its_function_does_not_run, {
    let root = rustix::process::geteuid().is_root();
    let nobody = if root { Builder::new().uid(65534).gid(65534) } else { Builder::new() };
    let text = nobody.spawn(try_to_become::call()).unwrap().join().unwrap();
    assert!(
        text.starts_with("process 'p1' did not start `mp_testing::run_for_ever`: it could not become group 7: "),
        "{text}"
    );
    assert!(text.ends_with("(os error 1)"), "{text}");
});

/// Says what comes of becoming somebody whom it may not become.
#[process_fn]
fn try_to_become() -> String {
    let process = Builder::new().name("p1").gid(7).uid(8).spawn(run_for_ever::call()).unwrap();
    process.join().unwrap_err().to_string()
}
