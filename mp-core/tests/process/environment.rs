//! What a process is started with: variables, arguments, directory, name.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use mp_core::{Builder, Process, Sender, SpawnError, pipe, process_fn};
use mp_testing::start_method::is_not_for_fork_server;
use mp_testing::{PATIENCE, error_chain, nothing, scenario};

#[process_fn]
fn variables() -> BTreeMap<OsString, OsString> {
    std::env::vars_os().collect()
}

#[process_fn]
fn arguments() -> Vec<OsString> {
    std::env::args_os().collect()
}

#[process_fn]
fn directory() -> PathBuf {
    std::env::current_dir().unwrap()
}

#[process_fn]
fn names() -> (String, u32, bool) {
    let me = mp_core::current();
    (me.name().to_owned(), me.pid(), me.is_child())
}

scenario!(the_environment_is_inherited, {
    assert_eq!(variables::spawn().unwrap().join().unwrap(), variables());
});

scenario!(variables_are_set_changed_and_removed, {
    let builder = Builder::new()
        .env("MP_TEST_A", "1")
        .env("MP_TEST_A", "2")
        .env("MP_TEST_B", "")
        .env("MP_TEST_C", "gone")
        .env_remove("MP_TEST_C")
        .env_remove("MP_TEST_D")
        .env("MP_TEST_D", "back")
        .env_remove("PATH")
        .envs([("MP_TEST_E", OsString::from_vec(vec![0xFF, b'=']))])
        .env("=MP_TEST", "as a shell makes them");
    let mut expected = variables();
    expected.remove(&OsString::from("PATH"));
    for (name, value) in [("A", "2"), ("B", ""), ("D", "back")] {
        expected.insert(format!("MP_TEST_{name}").into(), value.into());
    }
    expected.insert("MP_TEST_E".into(), OsString::from_vec(vec![0xFF, b'=']));
    expected.insert("=MP_TEST".into(), "as a shell makes them".into());
    assert_eq!(builder.spawn(variables::call()).unwrap().join().unwrap(), expected);
});

scenario!(a_cleared_environment_is_empty_but_for_what_is_set_after, {
    let spawn = |builder: Builder| builder.spawn(variables::call()).unwrap().join().unwrap();
    assert_eq!(spawn(Builder::new().env("A", "1").env_clear()), BTreeMap::new());
    assert_eq!(spawn(Builder::new().env_clear().env("A", "1")), BTreeMap::from([("A".into(), "1".into())]));
});

scenario!(the_arguments_are_the_parents, {
    let own = arguments();
    assert!(!own.is_empty());
    assert_eq!(Builder::new().name("other").spawn(arguments::call()).unwrap().join().unwrap(), own);
});

scenario!(the_working_directory_can_be_set, {
    let temporary = tempfile::tempdir().unwrap();
    let path = temporary.path().canonicalize().unwrap();
    std::fs::create_dir(path.join("below")).unwrap();
    assert_eq!(directory::spawn().unwrap().join().unwrap(), directory());
    let there = Builder::new().current_dir(path.join("below")).spawn(directory::call()).unwrap();
    assert_eq!(there.join().unwrap(), path.join("below"));
    std::env::set_current_dir(&path).unwrap();
    let relative = Builder::new().current_dir("below").spawn(directory::call()).unwrap();
    assert_eq!(relative.join().unwrap(), path.join("below"));
    std::env::set_current_dir("/").unwrap();
});

#[track_caller]
fn refused<T>(result: Result<Process<T>, SpawnError>) -> SpawnError {
    match result {
        Ok(process) => panic!("it has started as {}", process.pid()),
        Err(error) => error,
    }
}

scenario!(a_directory_that_does_not_exist_is_named_in_the_error, {
    let error = refused(Builder::new().current_dir("/no/such/directory").spawn(directory::call()));
    assert!(matches!(&error, SpawnError::Setting { source, .. } if source.kind() == std::io::ErrorKind::NotFound));
    let text = error_chain(&error);
    assert!(text.contains("working directory \"/no/such/directory\"") && text.contains("os error 2"), "{text}");
    let error = refused(Builder::new().current_dir("/dev/null").spawn(directory::call()));
    assert!(error.to_string().contains("working directory \"/dev/null\""), "{error:?}");
});

scenario!(what_cannot_be_passed_to_a_process_is_refused, {
    let cases = [
        Builder::new().name("nul\0"),
        Builder::new().env("NUL\0", "1"),
        Builder::new().env("A", "nul\0"),
        Builder::new().env("A=B", "1"),
        Builder::new().env("", "1"),
        Builder::new().current_dir("/\0"),
    ];
    for builder in cases {
        let described = format!("{builder:?}");
        let error = refused(builder.spawn(nothing::call()));
        assert!(matches!(error, SpawnError::InvalidInput { .. }), "{described}: {error:?}");
        assert_eq!(std::io::Error::from(error).kind(), std::io::ErrorKind::InvalidInput);
    }
    // What is removed, or overruled by what is valid, does not matter.
    Builder::new().env("A", "nul\0").env("A", "1").spawn(nothing::call()).unwrap().join().unwrap();
});

scenario!(what_is_too_long_for_the_kernel_is_an_error, {
    if is_not_for_fork_server("nothing is executed") {
        return;
    }
    for builder in [Builder::new().name("n".repeat(1 << 20)), Builder::new().env("A", "v".repeat(1 << 20))] {
        let error = refused(builder.spawn(nothing::call()));
        assert!(
            matches!(&error, SpawnError::Io { source, .. } if source.raw_os_error() == Some(libc::E2BIG)),
            "{error:?}"
        );
    }
});

#[process_fn]
fn named_grandchildren() -> Vec<String> {
    let mut names = vec![mp_core::current().name().to_owned()];
    for builder in [Builder::new(), Builder::new(), Builder::new().name("own name"), Builder::new()] {
        let grandchild = builder.spawn(names_below::call()).unwrap();
        names.push(grandchild.name().to_owned());
        names.extend(grandchild.join().unwrap());
    }
    names
}

#[process_fn]
fn names_below() -> Vec<String> {
    vec![names_here::spawn().unwrap().join().unwrap()]
}

#[process_fn]
fn names_here() -> String {
    mp_core::current().name().to_owned()
}

scenario!(default_names_are_paths_from_the_root, {
    let process = named_grandchildren::spawn().unwrap();
    let own = process.name().to_owned();
    let names = process.join().unwrap();
    let below = |suffix: &str| format!("{own}:{suffix}");
    assert!(own.starts_with("Process-"), "{own}");
    let expected = [
        own.clone(),
        below("1"),
        below("1:1"),
        below("2"),
        below("2:1"),
        "own name".to_owned(),
        below("3:1"),
        below("4"),
        below("4:1"),
    ];
    assert_eq!(names, expected);
});

scenario!(a_child_knows_what_it_is, {
    let process = Builder::new().name("ünï & \"x\"").spawn(names::call()).unwrap();
    let (name, pid) = (process.name().to_owned(), process.pid());
    assert_eq!(process.join().unwrap(), (name, pid, true));
});

#[test]
fn a_program_of_its_own_is_the_main_process() {
    assert_eq!(names(), ("MainProcess".to_owned(), std::process::id(), false));
}

#[process_fn]
fn wait_for_a_look(ready: Sender<()>) {
    ready.send(()).unwrap();
    loop {
        std::thread::park();
    }
}

scenario!(ps_shows_the_name, {
    let (sender, ready) = pipe().unwrap();
    let process = Builder::new().name("a name that is long").spawn(wait_for_a_look::call(sender)).unwrap();
    ready.recv_timeout(PATIENCE).unwrap().unwrap();
    let pid = process.pid();
    let read = |file| std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap();
    assert_eq!(read("comm"), "a name that is \n");
    let program = mp_testing::this_executable().file_name().unwrap().to_str().unwrap().to_owned();
    let command = read("cmdline");
    let title = command.split('\0').next().unwrap();
    assert_eq!(title, format!("{program}: a name that is long"));
    process.kill().unwrap();
    process.join().unwrap_err();
});
