//! What a copy of a process, made by `fork`, can do: nothing to what belongs to its original.

use std::io::Write;
use std::time::Duration;

use mp_core::{Builder, JoinError, Receiver, Sender, Stdio, active_children, pipe, process_fn};
use mp_testing::copies::in_copy;
use mp_testing::{nothing, scenario};

/// What a copy does after the function has forked.
const WAYS: [&str; 5] = ["returns", "panics", "exits", "fails", "aborts"];

/// Forks, waits for the copy, and returns how it ended.
#[process_fn]
fn fork_and(way: String) -> (bool, i32) {
    // SAFETY: this process has one thread.
    let copy = unsafe { libc::fork() };
    if copy == 0 {
        match way.as_str() {
            "returns" => return (true, 0),
            "panics" => panic!("the copy panics"),
            "exits" => std::process::exit(0),
            "fails" => std::process::exit(7),
            _ => std::process::abort(),
        }
    }
    let mut status = 0;
    // SAFETY: the place is valid, and the process is a child of this one.
    unsafe { libc::waitpid(copy, &raw mut status, 0) };
    (false, status)
}

scenario!(only_the_process_that_was_started_reports, {
    for (way, status) in WAYS.into_iter().zip([0, 1 << 8, 0, 7 << 8, libc::SIGABRT]) {
        let builder = Builder::new().stderr(Stdio::null()).rlimit(mp_core::Resource::CoreSize, 0, 0);
        let value = builder.spawn(fork_and::call(way.to_owned())).unwrap().join().unwrap();
        assert_eq!(value, (false, status), "{way}");
    }
});

/// Forks, and ends before its copy does, which returns.
#[process_fn]
fn leave_a_copy(held: Sender<()>) -> u8 {
    // SAFETY: this process has one thread.
    if unsafe { libc::fork() } > 0 {
        std::process::abort();
    }
    std::thread::sleep(Duration::from_millis(50));
    drop(held);
    5
}

scenario!(a_copy_does_not_answer_for_an_original_that_crashed, {
    let (held, end) = pipe::<()>().unwrap();
    let builder = Builder::new().rlimit(mp_core::Resource::CoreSize, 0, 0);
    let error = builder.spawn(leave_a_copy::call(held)).unwrap().join().unwrap_err();
    assert!(matches!(error, JoinError::Exited(_)), "{error:?}");
    // The copy has ended, or is about to.
    assert!(end.recv().is_err());
});

#[process_fn]
fn wait_for_word(word: Receiver<u32>) -> u32 {
    word.recv().unwrap() + 1
}

scenario!(a_copy_cannot_take_what_is_for_its_original, {
    let (say, word) = pipe().unwrap();
    let mut process = Some(wait_for_word::spawn(word).unwrap());
    in_copy(|| {
        let mut process = process.take().unwrap();
        assert!(matches!(process.join_timeout(Duration::from_secs(5)), Err(JoinError::Forked)));
        assert!(process.is_alive());
        assert!(matches!(process.join(), Err(JoinError::Forked)));
        assert!(active_children().is_empty());
    });
    say.send(6).unwrap();
    // It ends now, and its value is there when the copies ask.
    assert!(!mp_core::wait(&[process.as_ref().unwrap()], None).unwrap().is_empty());
    in_copy(|| assert!(matches!(process.take().unwrap().join(), Err(JoinError::Forked))));
    in_copy(|| drop(process.take()));
    assert_eq!(process.unwrap().join().unwrap(), 7);
});

scenario!(a_copy_has_children_of_its_own, {
    let (_say, word) = pipe().unwrap();
    let process = wait_for_word::spawn(word).unwrap();
    in_copy(|| {
        nothing::spawn().unwrap().join().unwrap();
        nothing::spawn().unwrap().detach();
        nothing::spawn().unwrap().join().unwrap();
        assert!(active_children().iter().all(|child| child.pid() != process.pid()));
    });
    assert_eq!(active_children().len(), 1);
    process.kill().unwrap();
    process.join().unwrap_err();
});

/// Forks while another thread starts processes all the time, and so may hold the list of children.
#[process_fn]
fn fork_beside_spawns() {
    let busy = std::thread::spawn(|| (0..40).for_each(|_| nothing::spawn().unwrap().join().unwrap()));
    while !busy.is_finished() {
        in_copy(|| nothing::spawn().unwrap().join().unwrap());
    }
    busy.join().unwrap();
    std::io::stdout().flush().unwrap();
}

scenario!(a_fork_beside_a_spawn_leaves_no_lock_behind, {
    fork_beside_spawns::spawn().unwrap().join().unwrap();
});
