//! Using the library in destructors of thread-locals, while a thread ends.

use std::cell::RefCell;
use std::fs::File;
use std::sync::mpsc;
use std::thread;

use mp_core::{Fd, JoinError, pipe, process_fn};
use mp_testing::scenario;

#[process_fn]
fn pass(file: Fd<File>) -> Fd<File> {
    file
}

/// Uses everything that has a variable of the thread.
fn use_all() -> Result<(), String> {
    let null = || Fd(File::open("/dev/null").unwrap());
    let (sender, receiver) = pipe().map_err(|error| error.to_string())?;
    sender.send((vec![1u8; 300_000], null())).map_err(|error| error.to_string())?;
    receiver.recv().map_err(|error| error.to_string())?;
    pass::spawn(null()).map_err(|error| error.to_string())?.join().map_err(|error| error.to_string())?;
    let outcome = mp_core::Call::<panics>::new(()).encode().map_err(|error| error.to_string())?.run();
    let error = outcome.decode::<()>().unwrap_err();
    if error.to_string().contains("on purpose") { Ok(()) } else { Err(error.to_string()) }
}

#[process_fn]
fn panics() {
    panic!("on purpose");
}

/// Uses the library when it is dropped, and reports.
struct Last(mpsc::Sender<Result<(), String>>);

impl Drop for Last {
    fn drop(&mut self) {
        let _ = self.0.send(use_all());
    }
}

thread_local! {
    static BEFORE: RefCell<Option<Last>> = const { RefCell::new(None) };
    static AFTER: RefCell<Option<Last>> = const { RefCell::new(None) };
}

scenario!(destructors_of_a_thread_can_do_everything, {
    let (report, reports) = mpsc::channel();
    thread::spawn(move || {
        BEFORE.set(Some(Last(report.clone())));
        use_all().unwrap();
        AFTER.set(Some(Last(report)));
    })
    .join()
    .unwrap();
    assert_eq!(reports.iter().collect::<Vec<_>>(), [Ok(()), Ok(())]);
});

extern "C" fn at_exit() {
    // It replaces the exit code if something fails.
    if use_all().is_err() {
        std::process::abort();
    }
}

#[process_fn]
fn exits() -> u8 {
    // SAFETY: the handler may run at any time before the end of the process.
    unsafe { libc::atexit(at_exit) };
    5
}

scenario!(a_handler_of_exit_can_do_everything, {
    assert_eq!(exits::spawn().unwrap().join().unwrap(), 5);
    let mut process = exits::spawn().unwrap();
    assert!(!matches!(process.join_timeout(mp_testing::PATIENCE), Err(JoinError::Exited(_))));
    assert_eq!(process.exit_status(), Some(mp_core::ExitStatus::Code(0)));
});
