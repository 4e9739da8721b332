//! What a server loads, and what it refuses.

use std::fs::{File, OpenOptions};
use std::io::Read;
use std::mem::MaybeUninit;
use std::os::fd::IntoRawFd;
use std::os::unix::net::UnixStream;
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock};
use std::thread;
use std::time::Duration;

use mp_core::{ExitStatus, ForkServer, ForkServerError, JoinError, process_fn};
use mp_testing::scenario;

static WORDS: OnceLock<Vec<String>> = OnceLock::new();

#[process_fn]
pub(crate) fn load(text: &str) {
    WORDS.get_or_init(|| text.split(' ').map(str::to_owned).collect());
}

#[process_fn]
pub(crate) fn word(index: usize) -> Option<String> {
    WORDS.get().and_then(|words| words.get(index).cloned())
}

scenario!(a_process_has_what_the_server_has_loaded, {
    let server = ForkServer::builder().preload(load::call("to be or not")).build().unwrap();
    for (index, expected) in ["to", "be", "or", "not"].into_iter().enumerate() {
        assert_eq!(server.spawn(word::call(index)).unwrap().join().unwrap().unwrap(), expected);
    }
    // A process that was executed has not.
    assert_eq!(word::spawn(0).unwrap().join().unwrap(), None);
});

static STEPS: Mutex<Vec<(&str, u32)>> = Mutex::new(Vec::new());

#[process_fn]
fn note(step: &str) {
    STEPS.lock().unwrap().push((step.to_owned().leak(), std::process::id()));
}

#[process_fn]
fn steps() -> Vec<(String, u32)> {
    STEPS.lock().unwrap().iter().map(|(step, pid)| ((*step).to_owned(), *pid)).collect()
}

scenario!(calls_before_and_after_the_fork_run_in_order, {
    let builder = ForkServer::builder().preload(note::call("a")).preload(note::call("b"));
    let server = builder.after_fork(note::call("c")).after_fork(note::call("d")).build().unwrap();
    for _ in 0..2 {
        let process = server.spawn(steps::call()).unwrap();
        let (own, pid) = (server.pid(), process.pid());
        let expected = [("a", own), ("b", own), ("c", pid), ("d", pid)].map(|(step, pid)| (step.to_owned(), pid));
        assert_eq!(process.join().unwrap(), expected);
    }
});

#[process_fn]
fn panic_with(text: &str) {
    panic!("{text}");
}

#[process_fn]
fn exit_with(code: i32) {
    std::process::exit(code);
}

#[process_fn]
fn never_end() {
    loop {
        thread::park();
    }
}

scenario!(a_preload_that_fails_says_how, {
    let preload = |builder: mp_core::ForkServerBuilder| builder.build().unwrap_err();
    let error = preload(ForkServer::builder().preload(panic_with::call("no model")));
    assert!(matches!(&error, ForkServerError::Preload(JoinError::Panicked(panic)) if panic.message == "no model"));
    assert!(error.to_string().contains("no model"), "{error}");
    for code in [0, 3] {
        let error = preload(ForkServer::builder().preload(exit_with::call(code)));
        let expected = ExitStatus::Code(code);
        assert!(matches!(error, ForkServerError::Preload(JoinError::Exited(status)) if status == expected), "{error}");
    }
    let limit = Duration::from_millis(50);
    let error = preload(ForkServer::builder().preload(never_end::call()).preload_timeout(limit));
    assert!(matches!(error, ForkServerError::TimedOut(timeout) if timeout == limit), "{error}");
});

scenario!(a_call_after_the_fork_that_fails_is_what_joining_returns, {
    let server = ForkServer::builder().after_fork(panic_with::call("no seed")).build().unwrap();
    let error = server.spawn(word::call(0)).unwrap().join().unwrap_err();
    assert!(matches!(&error, JoinError::Panicked(panic) if panic.message == "no seed"), "{error}");
    let server = ForkServer::builder().after_fork(exit_with::call(4)).build().unwrap();
    let error = server.spawn(word::call(0)).unwrap().join().unwrap_err();
    assert!(matches!(error, JoinError::Exited(ExitStatus::Code(4))), "{error}");
});

#[process_fn]
fn leave_thread() {
    let (begun, begins) = std::sync::mpsc::channel();
    let body = move || {
        begun.send(()).unwrap();
        thread::park();
    };
    thread::Builder::new().name("left-behind".to_owned()).spawn(body).unwrap();
    // It names itself when it begins.
    begins.recv().unwrap();
}

scenario!(a_preload_that_leaves_threads_is_refused_by_their_names, {
    let error = ForkServer::builder().preload(leave_thread::call()).build().unwrap_err();
    assert!(matches!(&error, ForkServerError::Threads(names) if *names == ["left-behind"]), "{error}");
});

#[process_fn]
fn leave_open(path: &str, how: &str) {
    let mut options = OpenOptions::new();
    let raw = match how {
        "socket" => UnixStream::pair().unwrap().0.into_raw_fd(),
        "write" => options.write(true).open(path).unwrap().into_raw_fd(),
        "append" => options.append(true).open(path).unwrap().into_raw_fd(),
        _ => File::open(path).unwrap().into_raw_fd(),
    };
    OPEN.store(u32::try_from(raw).unwrap(), Ordering::Relaxed);
}

static OPEN: AtomicU32 = AtomicU32::new(0);

#[process_fn]
fn read_open() -> String {
    let path = format!("/proc/self/fd/{}", OPEN.load(Ordering::Relaxed));
    let mut text = String::new();
    File::open(path).unwrap().read_to_string(&mut text).unwrap();
    text
}

scenario!(a_preload_may_leave_files_open_to_be_read_and_nothing_that_copies_would_share, {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&file, "words").unwrap();
    let path = file.path().to_str().unwrap();
    for (how, named) in [("socket", "socket:"), ("write", path)] {
        let error = ForkServer::builder().preload(leave_open::call(path, how)).build().unwrap_err();
        let ForkServerError::Descriptors(names) = &error else { panic!("{how}: {error}") };
        assert!(names.len() == 1 && names[0].starts_with(named), "{how}: {error}");
    }
    for how in ["read", "append"] {
        let server = ForkServer::builder().preload(leave_open::call(path, how)).build().unwrap();
        assert_eq!(server.spawn(read_open::call()).unwrap().join().unwrap(), "words");
    }
});

#[process_fn]
fn print_half(text: &str) {
    print!("{text}");
}

#[process_fn]
fn build_and_print() {
    let server = ForkServer::builder().preload(print_half::call("half ")).build().unwrap();
    for _ in 0..3 {
        server.spawn(print_half::call("x")).unwrap().join().unwrap();
    }
}

scenario!(half_a_line_of_the_preload_is_printed_once, {
    let process = mp_core::Builder::new().stdout(mp_core::Stdio::piped()).spawn(build_and_print::call()).unwrap();
    let (value, output) = process.join_with_output();
    value.unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "half xxx");
});

/// A robust mutex of the C library in memory that processes share.
static MUTEX: AtomicPtr<libc::pthread_mutex_t> = AtomicPtr::new(ptr::null_mut());

#[process_fn]
fn hold_robust_mutex() {
    let (access, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_ANONYMOUS);
    // SAFETY: it is new memory.
    let memory = unsafe { libc::mmap(ptr::null_mut(), size_of::<libc::pthread_mutex_t>(), access, kind, -1, 0) };
    assert_ne!(memory, libc::MAP_FAILED);
    let mutex: *mut libc::pthread_mutex_t = memory.cast();
    let mut place = MaybeUninit::uninit();
    let attributes = place.as_mut_ptr();
    // SAFETY: the place is valid.
    assert_eq!(unsafe { libc::pthread_mutexattr_init(attributes) }, 0);
    // SAFETY: the attributes are initialised.
    assert_eq!(unsafe { libc::pthread_mutexattr_setpshared(attributes, libc::PTHREAD_PROCESS_SHARED) }, 0);
    // SAFETY: as above.
    assert_eq!(unsafe { libc::pthread_mutexattr_setrobust(attributes, libc::PTHREAD_MUTEX_ROBUST) }, 0);
    // SAFETY: the memory is long enough, and stays.
    assert_eq!(unsafe { libc::pthread_mutex_init(mutex, attributes) }, 0);
    // SAFETY: the mutex is initialised.
    assert_eq!(unsafe { libc::pthread_mutex_lock(mutex) }, 0);
    MUTEX.store(mutex, Ordering::Relaxed);
}

#[process_fn]
fn try_robust_mutex() -> i32 {
    // SAFETY: the preload has initialised it.
    unsafe { libc::pthread_mutex_trylock(MUTEX.load(Ordering::Relaxed)) }
}

#[process_fn]
fn wait_for_robust_mutex(begun: mp_core::Sender<()>) -> i32 {
    begun.send(()).unwrap();
    // SAFETY: as above.
    unsafe { libc::pthread_mutex_lock(MUTEX.load(Ordering::Relaxed)) }
}

scenario!(a_robust_mutex_that_the_preload_holds_is_the_servers_alone, {
    let server = ForkServer::builder().preload(hold_robust_mutex::call()).build().unwrap();
    // No copy has it, and none that ends takes it from the server.
    for _ in 0..3 {
        assert_eq!(server.spawn(try_robust_mutex::call()).unwrap().join().unwrap(), libc::EBUSY);
    }
    let (sender, begun) = mp_core::pipe().unwrap();
    let waiting = server.spawn(wait_for_robust_mutex::call(sender)).unwrap();
    begun.recv().unwrap();
    // It is marked when the server dies.
    rustix::process::kill_process(mp_testing::procfs::number_of(server.pid()), rustix::process::Signal::KILL).unwrap();
    assert_eq!(waiting.join().unwrap(), libc::EOWNERDEAD);
});
