//! Permits that come back from processes that die.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use crate::memory::InShared;
use mp_core::{Builder, Sender, pipe, process_fn};
use mp_sync::RobustSemaphore;
use mp_testing::faults::{Random, busy, count, limit};
use mp_testing::victims::{Held, kill_at_random, soon};
use mp_testing::{PATIENCE, scenario};

type Semaphore = RobustSemaphore<4>;

#[process_fn]
fn hold_for_ever(memory: InShared<Semaphore>, there: Sender<()>) {
    let semaphore = &*memory;
    let _permits = (semaphore.acquire(), semaphore.acquire());
    there.send(()).unwrap();
    loop {
        thread::park();
    }
}

#[process_fn]
fn wait_for_ever(memory: InShared<Semaphore>, there: Sender<()>) {
    there.send(()).unwrap();
    let semaphore = &*memory;
    let _permit = semaphore.acquire();
    unreachable!("it was killed before");
}

#[process_fn]
fn acquire(memory: InShared<Semaphore>, there: Sender<()>) -> bool {
    there.send(()).unwrap();
    memory.acquire_timeout(PATIENCE).is_some()
}

scenario!(the_permits_of_the_dead_come_back, {
    let memory = InShared::new(Semaphore::with_capacity(3));
    let semaphore = &*memory;
    let own = semaphore.acquire();
    let dies = Held::start(|there| hold_for_ever::call(memory.again(), there));
    assert!(semaphore.available() == 0 && semaphore.try_acquire().is_none());
    let dead = Held::start(|there| wait_for_ever::call(memory.again(), there));
    let waits: Vec<_> = (0..3)
        .map(|_| {
            let (there, come) = pipe().unwrap();
            let process = Builder::new().spawn(acquire::call(memory.again(), there)).unwrap();
            soon(&come);
            process
        })
        .collect();
    dead.kill();
    dies.kill();
    waits.into_iter().for_each(|process| assert!(process.join().unwrap()));
    assert_eq!(semaphore.available(), 2);
    drop(own);
    let permits: Vec<_> = (0..3).map(|_| semaphore.try_acquire().unwrap()).collect();
    assert!(semaphore.try_acquire().is_none());
    drop(permits);
});

/// Two permits, and for each process whether it has one.
#[repr(C)]
struct Shared {
    semaphore: Semaphore,
    users: [User; 64],
}

/// Odd while it has a permit; [`DOOMED`] before it is killed, since its permit may be somebody
/// else's then, which this cannot tell.
#[derive(Default)]
struct User(AtomicU64);

const DOOMED: u64 = 1 << 63;

impl User {
    fn begin(&self) {
        let before = self.0.load(Ordering::SeqCst) & !DOOMED;
        // Even, and none that it ever was.
        self.0.store((before | 1) + 1, Ordering::SeqCst);
    }
}

impl Shared {
    fn new() -> Self {
        Self { semaphore: Semaphore::with_capacity(2), users: std::array::from_fn(|_| User::default()) }
    }

    fn user(&self, number: u64) -> &User {
        &self.users[number as usize]
    }

    fn use_one(&self, number: u64, hold: Duration) {
        let permit = self.semaphore.acquire_timeout(PATIENCE).expect("they come back");
        self.user(number).0.fetch_add(1, Ordering::SeqCst);
        // Whoever has not changed between the two looks, and was not doomed then, has had a permit
        // all the time.
        let look = || self.users.each_ref().map(|user| user.0.load(Ordering::SeqCst));
        let first = look();
        busy(hold);
        let second = look();
        let is_in = |index: &usize| first[*index] == second[*index] && first[*index] & (DOOMED | 1) == 1;
        let inside = (0..self.users.len()).filter(is_in).count();
        assert!(inside <= 2, "{inside} have a permit");
        self.user(number).0.fetch_add(1, Ordering::SeqCst);
        drop(permit);
    }
}

#[process_fn]
fn use_for_ever(memory: InShared<Shared>, number: u64, there: Sender<()>) {
    let shared = &*memory;
    let mut random = Random::seeded(number);
    there.send(()).unwrap();
    loop {
        shared.use_one(number, random.moment(Duration::from_micros(20)));
    }
}

const KILLED: u64 = 60;

scenario!(there_are_never_more_nor_fewer_permits_whoever_is_killed_when, limit(count(KILLED)), {
    let memory = InShared::new(Shared::new());
    let shared = &*memory;
    // This process has number 0. The others use theirs again when those who had them are dead.
    let start = |number, there| {
        shared.user(1 + number % 63).begin();
        use_for_ever::call(memory.again(), 1 + number % 63, there)
    };
    let doom = |number| _ = shared.user(1 + number % 63).0.fetch_or(DOOMED, Ordering::SeqCst);
    kill_at_random(3, count(KILLED), start, doom, || shared.use_one(0, Duration::ZERO));
    assert_eq!(shared.semaphore.available(), 2, "all have come back");
});
