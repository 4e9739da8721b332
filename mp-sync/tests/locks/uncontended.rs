//! Where nobody else is, a lock is taken and let go without a system call.

use std::cell::Cell;
use std::time::Duration;

use crate::memory::InShared;
use mp_core::{ExitStatus, JoinError, process_fn};
use mp_sync::{Barrier, Condvar, Event, Mutex, OnceLock, ReentrantMutex, RobustSemaphore, RwLock, Semaphore};
use mp_testing::scenario;

struct All {
    mutex: Mutex<u64>,
    reentrant: ReentrantMutex<Cell<u64>>,
    rwlock: RwLock<u64>,
    condvar: Condvar,
    semaphore: Semaphore,
    bounded: Semaphore,
    robust: RobustSemaphore,
    event: Event,
    barrier: Barrier,
    once: OnceLock<u64>,
    first: OnceLock<u64>,
}

const LONG: Duration = Duration::from_secs(60);

/// Everything that nobody has to wait for.
fn use_all(all: &All) {
    *all.mutex.lock().unwrap() += 1;
    *all.mutex.try_lock().unwrap().unwrap() += 1;
    *all.mutex.lock_timeout(LONG).unwrap().unwrap() += 1;
    let once = all.reentrant.lock().unwrap();
    let twice = all.reentrant.lock().unwrap();
    twice.set(once.get() + 1);
    drop((once, twice));
    *all.rwlock.write().unwrap() += 1;
    *all.rwlock.try_write().unwrap().unwrap() += 1;
    drop((all.rwlock.read().unwrap(), all.rwlock.try_read().unwrap(), all.rwlock.read_timeout(LONG).unwrap()));
    all.condvar.notify_one();
    all.condvar.notify_n(3);
    all.condvar.notify_all();
    for semaphore in [&all.semaphore, &all.bounded] {
        semaphore.acquire().forget();
        semaphore.release(1).unwrap();
        let permit = semaphore.try_acquire();
        assert!(permit.is_some() && semaphore.try_acquire().is_none());
        drop(permit);
        drop(semaphore.acquire_timeout(LONG));
    }
    drop((all.robust.acquire(), all.robust.try_acquire(), all.robust.acquire_timeout(LONG)));
    all.event.set();
    all.event.wait();
    assert!(all.event.wait_timeout(LONG));
    all.event.clear();
    assert!(!all.event.is_set() && !all.event.wait_timeout(Duration::ZERO));
    assert_eq!(all.barrier.wait(), Ok(0));
    assert_eq!(all.barrier.wait_timeout(LONG), Ok(0));
    assert_eq!(*all.once.get_or_init(|| 7), 7);
    assert_eq!(all.once.get(), Some(&7));
}

/// From here on, any system call but the one that ends it kills the process.
fn forbid_system_calls() {
    let statement = |code: u32, k: u32| libc::sock_filter { code: code as u16, jt: 0, jf: 0, k };
    let is_exit = statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, libc::SYS_exit_group as u32);
    let mut program = [
        // The number of the call.
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0),
        libc::sock_filter { jf: 1, ..is_exit },
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW),
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_KILL_PROCESS),
    ];
    let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: it takes numbers.
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }, 0);
    // SAFETY: the program is there during the call, and has as many statements as it says.
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const filter) }, 0);
}

#[process_fn]
fn uses_all_without_system_calls(waits: bool) {
    let all = InShared::new(All {
        mutex: Mutex::new(0),
        reentrant: ReentrantMutex::new(Cell::new(0)),
        rwlock: RwLock::new(0),
        condvar: Condvar::new(),
        semaphore: Semaphore::new(1),
        bounded: Semaphore::bounded(1),
        robust: RobustSemaphore::new(3),
        event: Event::new(),
        barrier: Barrier::new(1),
        once: OnceLock::new(),
        first: OnceLock::new(),
    });
    // Once before: a thread's first lock finds its list and registers it.
    use_all(&all);
    forbid_system_calls();
    (0..100).for_each(|_| use_all(&all));
    assert_eq!(*all.first.get_or_init(|| 1), 1);
    if waits {
        all.event.wait_timeout(Duration::from_nanos(1));
    }
    // SAFETY: it ends this process, in which nothing is left to do.
    unsafe { libc::_exit(0) };
}

scenario!(nothing_that_is_free_is_a_system_call, {
    uses_all_without_system_calls::spawn(false).unwrap().join().unwrap();
    // A wait is one, so the test can fail.
    let error = uses_all_without_system_calls::spawn(true).unwrap().join().unwrap_err();
    assert!(matches!(error, JoinError::Exited(ExitStatus::Signal { signal: libc::SIGSYS, .. })), "{error}");
});
