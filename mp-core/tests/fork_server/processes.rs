//! The processes of a server.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::thread;

use mp_core::{Builder, ForkServer, Process, StartMethod, current, process_fn, set_start_method};
use mp_testing::start_method::is_not_for_fork_server;
use mp_testing::{nothing, procfs, scenario};

#[process_fn]
fn describe() -> (String, String, String, u32) {
    let title = fs::read_to_string("/proc/self/cmdline").unwrap();
    let title = title.split('\0').next().unwrap_or_default().to_owned();
    let directory = env::current_dir().unwrap().to_str().unwrap().to_owned();
    (current().name().to_owned(), title, directory, std::os::unix::process::parent_id())
}

scenario!(a_process_has_its_own_name_title_and_directory, {
    let server = ForkServer::builder().name("words").build().unwrap();
    assert_eq!(server.name(), "words");
    let method = || StartMethod::ForkServer(server.clone());
    let builder = Builder::new().name("a fairly long name of a process").current_dir("/").start_method(method());
    let (name, title, directory, parent) = builder.spawn(describe::call()).unwrap().join().unwrap();
    assert_eq!((name.as_str(), directory.as_str()), ("a fairly long name of a process", "/"));
    assert!(title.ends_with(": a fairly long name of a process"), "{title}");
    assert_eq!(parent, server.pid());
    // A title that is too long is cut off, and the next process is not concerned.
    let long = "x".repeat(300);
    let builder = Builder::new().name(&*long).start_method(method());
    let (name, title, ..) = builder.spawn(describe::call()).unwrap().join().unwrap();
    assert!(name == long && title.ends_with("xxx") && title.len() < 300, "{title}");
    let (name, title, ..) = server.spawn(describe::call()).unwrap().join().unwrap();
    assert!(title.ends_with(&format!(": {name}")), "{title}");
});

#[process_fn]
fn variable(name: &str) -> Option<String> {
    env::var(name).ok()
}

scenario!(the_environment_and_the_directory_are_those_of_the_caller_at_that_time, {
    let server = ForkServer::builder().build().unwrap();
    // SAFETY: no other thread of this process uses the environment.
    unsafe { env::set_var("MP_TEST_LATER", "yes") };
    env::set_current_dir("/").unwrap();
    assert_eq!(server.spawn(variable::call("MP_TEST_LATER")).unwrap().join().unwrap().as_deref(), Some("yes"));
    assert_eq!(server.spawn(describe::call()).unwrap().join().unwrap().2, "/");
    let builder = Builder::new().env_clear().start_method(StartMethod::ForkServer(server.clone()));
    assert_eq!(builder.spawn(variable::call("MP_TEST_LATER")).unwrap().join().unwrap(), None);
});

#[process_fn]
fn start_two() -> (String, String) {
    let name = |process: Process<()>| {
        let name = process.name().to_owned();
        process.join().unwrap();
        name
    };
    (name(nothing::spawn().unwrap()), name(nothing::spawn().unwrap()))
}

scenario!(a_process_counts_its_own_children, {
    let server = ForkServer::builder().build().unwrap();
    for _ in 0..2 {
        let process = server.spawn(start_two::call()).unwrap();
        let name = process.name().to_owned();
        assert_eq!(process.join().unwrap(), (format!("{name}:1"), format!("{name}:2")));
    }
});

scenario!(the_default_start_method_is_that_of_the_process, {
    if is_not_for_fork_server("it has another default") {
        return;
    }
    let server = ForkServer::builder().build().unwrap();
    set_start_method(StartMethod::ForkServer(server.clone()));
    assert_eq!(describe::spawn().unwrap().join().unwrap().3, server.pid());
    let builder = Builder::new().start_method(StartMethod::Spawn);
    assert_eq!(builder.spawn(describe::call()).unwrap().join().unwrap().3, std::process::id());
    set_start_method(StartMethod::Spawn);
    assert_eq!(describe::spawn().unwrap().join().unwrap().3, std::process::id());
});

scenario!(sixteen_threads_use_one_server, {
    let server = ForkServer::builder().preload(super::preload::load::call("a b c")).build().unwrap();
    thread::scope(|scope| {
        for thread in 0..16 {
            let server = server.clone();
            scope.spawn(move || {
                for _ in 0..20 {
                    let process = server.spawn(super::preload::word::call(thread % 3)).unwrap();
                    assert_eq!(process.join().unwrap().unwrap(), ["a", "b", "c"][thread % 3]);
                }
            });
        }
    });
});

scenario!(processes_leave_nothing_in_the_server, {
    let server = ForkServer::builder().build().unwrap();
    let open = || fs::read_dir(format!("/proc/{}/fd", server.pid())).unwrap().count();
    let before = open();
    let count = env::var("MP_FORKS").ok().map_or(300, |count| count.parse().unwrap());
    let mut pids = BTreeSet::new();
    for round in 0..count {
        let process = server.spawn(nothing::call()).unwrap();
        pids.insert(process.pid());
        if round % 3 == 0 { process.detach() } else { process.join().unwrap() }
    }
    mp_testing::eventually("all have ended", || procfs::children(server.pid()).is_empty());
    mp_testing::eventually("the server has closed what it had for them", || open() == before);
});

scenario!(a_server_ends_with_its_last_process, {
    let server = ForkServer::builder().build().unwrap();
    let pid = server.pid();
    let process = server.spawn(mp_testing::run_for_ever::call()).unwrap();
    drop(server.clone());
    drop(server);
    assert!(procfs::runs(pid) && process.is_alive());
    process.kill().unwrap();
    let error = process.join().unwrap_err();
    assert!(error.to_string().contains("SIGKILL"), "{error}");
    mp_testing::eventually("the server has ended", || !procfs::runs(pid));
});

#[process_fn]
fn build_in_another_namespace() -> String {
    // SAFETY: it concerns the children that are started from now on.
    assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWPID) }, 0);
    ForkServer::builder().build().unwrap_err().to_string()
}

#[process_fn]
fn leave_the_namespace() {
    // SAFETY: as above.
    assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWPID) }, 0);
}

scenario!(a_server_in_another_pid_namespace_is_refused, {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: only root makes namespaces");
        return;
    }
    let error = build_in_another_namespace::spawn().unwrap().join().unwrap();
    assert!(error.contains("another PID namespace"), "{error}");
    let error = ForkServer::builder().preload(leave_the_namespace::call()).build().unwrap_err();
    assert!(matches!(error, mp_core::ForkServerError::Namespace), "{error}");
});
