//! Workers that do not start, initializers, and what is set for workers.

use std::sync::OnceLock;
use std::time::Duration;

use mp_core::{ExitStatus, Resource, Stdio, process_fn};
use mp_pool::{Pool, TaskError};
use mp_testing::{PATIENCE, eventually, scenario};
use rustix::process::{Signal, kill_process};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

#[process_fn]
fn double(number: u32) -> u32 {
    number * 2
}

/// Stands for a library whose constructor ends the process: no licence, no device, no memory.
extern "C" fn constructor() {
    // SAFETY: the name is a C string, and before `main` nobody changes the environment.
    if !unsafe { libc::getenv(c"MP_TEST_BROKEN_LIBRARY".as_ptr()) }.is_null() {
        // SAFETY: it ends the process.
        unsafe { libc::_exit(9) };
    }
}

// SAFETY: the section holds pointers to functions of this kind. It runs before that of mp-core.
#[used]
#[unsafe(link_section = ".init_array.00001")]
static CONSTRUCTOR: extern "C" fn() = constructor;

scenario!(a_pool_has_a_worker_for_each_processor_that_the_process_may_use, {
    let mut one = CpuSet::new();
    let all = sched_getaffinity(None).unwrap();
    one.set((0..CpuSet::MAX_CPU).find(|processor| all.is_set(*processor)).unwrap());
    sched_setaffinity(None, &one).unwrap();
    let pool = Pool::builder().build().unwrap();
    assert_eq!(pool.workers(), 1);
    assert_eq!(pool.map::<double>(0..10).unwrap().len(), 10);
});

scenario!(workers_that_never_start_fail_what_waits_for_them_and_the_pool_ends, {
    if mp_testing::start_method::is_not_for_fork_server("no constructor runs in a copy") {
        return;
    }
    for workers in [1, 2, 4] {
        let pool = Pool::builder().workers(workers).env("MP_TEST_BROKEN_LIBRARY", "1").build().unwrap();
        let mut task = pool.submit(double::call(1));
        let told = task.join_timeout(PATIENCE).unwrap_err();
        assert!(matches!(&told, TaskError::NoWorker(why) if why.contains("code 9")), "{told}");
        let started = pool.stats().started;
        assert!(started <= 10 + 2 * workers as u64, "{started} workers were started");
        assert!(matches!(pool.map::<double>(0..10), Err(TaskError::NoWorker(_))));
        pool.close();
        pool.join();
        assert!(mp_testing::start_method::children().is_empty());
    }
});

scenario!(a_pool_without_workers_starts_none_while_nobody_wants_any, {
    if mp_testing::start_method::is_not_for_fork_server("no constructor runs in a copy") {
        return;
    }
    let pool = Pool::builder().workers(2).env("MP_TEST_BROKEN_LIBRARY", "1").build().unwrap();
    assert!(matches!(pool.submit(double::call(1)).join(), Err(TaskError::NoWorker(_))));
    let started = pool.stats().started;
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(pool.stats().started, started);
});

scenario!(a_failing_initializer_is_an_error_after_bounded_tries, {
    #[process_fn]
    fn fail() -> Result<(), String> {
        Err("there is no model".to_owned())
    }
    #[process_fn]
    fn panics() {
        panic!("there is no device");
    }
    #[process_fn]
    fn aborts() {
        std::process::abort();
    }
    let said = |pool: Pool| {
        let Err(TaskError::Initializer(why)) = pool.submit(double::call(1)).join() else { panic!("it should fail") };
        let started = pool.stats().started;
        assert!(started <= 8, "{started} workers were started");
        // It is for good, and costs no worker any more.
        assert_eq!(pool.submit(double::call(1)).join(), Err(TaskError::Initializer(why.clone())));
        assert!(pool.map::<double>(0..1_000_000_000).is_err());
        assert_eq!(pool.stats().started, started);
        pool.join();
        why
    };
    let pool = || Pool::builder().workers(2);
    assert_eq!(said(pool().initializer(fail::call()).build().unwrap()), "there is no model");
    assert!(said(pool().initializer(panics::call()).build().unwrap()).contains("there is no device"));
    assert!(said(pool().initializer(aborts::call()).build().unwrap()).contains("signal 6"));
});

static STATE: OnceLock<u32> = OnceLock::new();

scenario!(an_initializer_runs_once_in_each_worker_replacements_included, {
    #[process_fn]
    fn set(number: u32) {
        STATE.set(number).unwrap();
    }
    #[process_fn]
    fn get(die: bool) -> u32 {
        if die {
            std::process::abort();
        }
        *STATE.get().unwrap()
    }
    let pool = Pool::builder().workers(2).initializer(set::call(7)).build().unwrap();
    for _ in 0..3 {
        assert_eq!(pool.submit(get::call(false)).join(), Ok(7));
        assert!(pool.submit(get::call(true)).join().is_err());
    }
});

scenario!(workers_have_what_was_set_for_them, {
    #[process_fn]
    fn describe() -> (Option<String>, Option<String>, String, u64, usize, i32) {
        let variable = |name| std::env::var(name).ok();
        let limit = rustix::process::getrlimit(rustix::process::Resource::Core).current.unwrap();
        let cores = sched_getaffinity(None).unwrap().count() as usize;
        let nice = rustix::process::getpriority_process(None).unwrap();
        let directory = std::env::current_dir().unwrap().display().to_string();
        println!("it prints this");
        (variable("LEVEL"), variable("HOME"), directory, limit, cores, nice)
    }
    let before = rustix::process::getpriority_process(None).unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    let pool = Pool::builder()
        .workers(2)
        .env("LEVEL", "3")
        .env_remove("HOME")
        .current_dir("/proc")
        .rlimit(Resource::CoreSize, 0, 0)
        .one_core_each()
        .nice(1)
        .stdout(file.reopen().unwrap())
        .stderr(Stdio::null())
        .build()
        .unwrap();
    for _ in 0..4 {
        let (level, home, directory, core, cores, nice) = pool.submit(describe::call()).join().unwrap();
        assert_eq!((level.as_deref(), home, directory.as_str(), core), (Some("3"), None, "/proc", 0));
        assert_eq!((cores, nice), (1, (before + 1).min(19)));
    }
    drop(pool);
    assert!(std::fs::read_to_string(file.path()).unwrap().starts_with("it prints this\n"));
    assert!(Pool::builder().workers(1).stdout(Stdio::piped()).build().is_err());
});

scenario!(workers_ignore_ctrl_c_unless_told_otherwise, {
    #[process_fn]
    fn interrupt_itself() -> u32 {
        let own = mp_testing::procfs::number_of(std::process::id());
        kill_process(own, Signal::INT).unwrap();
        1
    }
    let pool = Pool::new(1).unwrap();
    assert_eq!(pool.submit(interrupt_itself::call()).join(), Ok(1));
    let pool = Pool::builder().workers(1).ignore_interrupts(false).build().unwrap();
    let error = pool.submit(interrupt_itself::call()).join().unwrap_err();
    assert!(matches!(error, TaskError::Crashed { status: ExitStatus::Signal { signal: 2, .. }, .. }), "{error}");
});

scenario!(sixty_four_workers_start_and_end, {
    let pool = Pool::new(64).unwrap();
    assert_eq!(pool.map::<double>(0..10_000).unwrap().len(), 10_000);
    eventually("all of them are ready", || pool.stats().idle == 64);
    drop(pool);
    assert!(mp_testing::start_method::children().is_empty());
});

scenario!(workers_run_the_program_that_is_named, {
    if mp_testing::start_method::is_not_for_fork_server("there is no other program") {
        return;
    }
    #[process_fn]
    fn program() -> std::path::PathBuf {
        std::env::current_exe().unwrap()
    }
    let copy = tempfile::NamedTempFile::new_in("/var/tmp").unwrap().into_temp_path();
    std::fs::copy(mp_testing::this_executable(), &copy).unwrap();
    let pool = Pool::builder().workers(1).program(&*copy).build().unwrap();
    assert_eq!(pool.submit(program::call()).join().unwrap(), &*copy);
});
