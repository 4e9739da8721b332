//! `Condvar` between processes, with both kinds of mutex, and with processes that are killed.

use std::cell::Cell;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::memory::InShared;
use mp_core::{Process, process_fn};
use mp_sync::{Condvar, LockError, Mutex, MutexGuard, ReentrantMutex};
use mp_testing::faults::{Random, busy, count, limit};
use mp_testing::procfs::sleeps_on_a_futex;
use mp_testing::{PATIENCE, PROMPTLY, eventually, scenario};

/// A stock of goods, and who waits for some.
#[derive(Default)]
struct Shop {
    stock: Mutex<Stock>,
    filled: Condvar,
    emptied: Condvar,
    open: ReentrantMutex<Cell<bool>>,
    opened: Condvar,
    woken: AtomicU32,
}

#[derive(Default)]
struct Stock {
    goods: u64,
    made: u64,
    used: u64,
}

type Shared = InShared<Shop>;

/// How many goods there is room for.
const ROOM: u64 = 3;

impl Shop {
    fn stock(&self) -> MutexGuard<'_, Stock> {
        match self.stock.lock() {
            Ok(stock) => stock,
            Err(LockError::OwnerDied(stock)) => mended(stock),
            Err(error) => panic!("{error}"),
        }
    }

    /// Waits while it is so; `None` if it has been so for too long.
    fn wait_while(&self, condvar: &Condvar, is_so: impl Fn(&Stock) -> bool) -> Option<MutexGuard<'_, Stock>> {
        let mut stock = self.stock();
        loop {
            match condvar.wait_timeout_while(stock, PATIENCE, |stock| is_so(stock)) {
                Ok((stock, result)) => return (!result.timed_out()).then_some(stock),
                Err(LockError::OwnerDied((left_behind, _))) => stock = mended(left_behind),
                Err(error) => panic!("{error}"),
            }
        }
    }

    fn make(&self) -> bool {
        let Some(mut stock) = self.wait_while(&self.emptied, |stock| stock.goods == ROOM) else { return false };
        // In two steps, between which it may be killed.
        stock.made += 1;
        stock.goods += 1;
        drop(stock);
        self.filled.notify_one();
        true
    }

    fn take(&self) -> bool {
        let Some(mut stock) = self.wait_while(&self.filled, |stock| stock.goods == 0) else { return false };
        stock.used += 1;
        stock.goods -= 1;
        drop(stock);
        self.emptied.notify_one();
        true
    }
}

fn mended(mut stock: MutexGuard<'_, Stock>) -> MutexGuard<'_, Stock> {
    stock.goods = stock.made - stock.used;
    stock.mark_consistent();
    stock
}

#[process_fn]
fn makes(shop: Shared, goods: u64) {
    (0..goods).for_each(|_| assert!(shop.make()));
}

#[process_fn]
fn takes(shop: Shared, goods: u64) {
    (0..goods).for_each(|_| assert!(shop.take()));
}

scenario!(goods_go_from_process_to_process, {
    let shop = Shared::new(Shop::default());
    let makers = (0..2).map(|_| makes::spawn(shop.again(), 1_000).unwrap());
    let takers = (0..2).map(|_| takes::spawn(shop.again(), 1_000).unwrap());
    for process in makers.chain(takers).collect::<Vec<_>>() {
        process.join().unwrap();
    }
    let stock = shop.stock();
    assert_eq!((stock.goods, stock.made, stock.used), (0, 2_000, 2_000));
});

#[process_fn]
fn waits(shop: Shared, timeout: Option<Duration>) -> bool {
    let stock = shop.stock.lock().unwrap();
    let timed_out = match timeout {
        None => {
            drop(shop.filled.wait(stock).unwrap());
            false
        }
        Some(timeout) => shop.filled.wait_timeout(stock, timeout).unwrap().1.timed_out(),
    };
    shop.woken.fetch_add(1, Ordering::SeqCst);
    !timed_out
}

fn waiters(shop: &Shared, count: u32) -> Vec<Process<bool>> {
    let timeouts = [None, Some(PATIENCE), Some(Duration::MAX)];
    let waiters: Vec<_> =
        (0..count).map(|place| waits::spawn(shop.again(), timeouts[place as usize % 3]).unwrap()).collect();
    eventually("all sleep", || waiters.iter().all(|waiter| sleeps_on_a_futex(waiter.pid())));
    // A sleeper has let go of the lock.
    drop(shop.stock.lock().unwrap());
    waiters
}

scenario!(as_many_are_woken_as_are_notified, {
    let shop = Shared::new(Shop::default());
    shop.filled.notify_all();
    let sleepers = waiters(&shop, 6);
    let woken = || shop.woken.load(Ordering::SeqCst);
    assert_eq!(woken(), 0, "what was notified before they came is not theirs");
    shop.filled.notify_n(0);
    shop.filled.notify_one();
    eventually("one is woken", || woken() == 1);
    shop.filled.notify_n(2);
    eventually("two are woken", || woken() == 3);
    std::thread::sleep(Duration::from_millis(250));
    assert_eq!(woken(), 3, "the others sleep on, also when they look");
    shop.filled.notify_all();
    assert!(sleepers.into_iter().all(|sleeper| sleeper.join().unwrap()));
    assert_eq!(woken(), 6);
    let alone = waits::spawn(shop.again(), Some(Duration::from_millis(5))).unwrap();
    assert!(!alone.join().unwrap(), "it timed out");
});

scenario!(killed_waiters_hold_nobody_up, {
    let shop = Shared::new(Shop::default());
    for _ in 0..3 {
        let dying = waiters(&shop, 3);
        let living = waiters(&shop, 2);
        for process in dying {
            process.kill().unwrap();
            assert!(process.join().is_err());
        }
        let before = shop.woken.load(Ordering::SeqCst);
        // The dead count for nothing: two notifications reach the two who live.
        shop.filled.notify_n(2);
        assert!(living.into_iter().all(|waiter| waiter.join().unwrap()));
        assert_eq!(shop.woken.load(Ordering::SeqCst), before + 2);
    }
});

#[process_fn]
fn dies_with_the_lock(shop: Shared) {
    let mut stock = shop.stock.lock().unwrap();
    stock.made += 1;
    shop.filled.notify_all();
    shop.woken.store(u32::MAX, Ordering::SeqCst);
    loop {
        std::thread::park();
    }
}

#[process_fn]
fn is_told(shop: Shared) -> bool {
    let stock = shop.stock.lock().unwrap();
    match shop.filled.wait_while(stock, |stock| stock.goods == 0) {
        Err(LockError::OwnerDied(stock)) => stock.made == 1,
        _ => false,
    }
}

scenario!(a_waiter_is_told_of_a_death, {
    let shop = Shared::new(Shop::default());
    let waiter = is_told::spawn(shop.again()).unwrap();
    eventually("it sleeps", || sleeps_on_a_futex(waiter.pid()));
    let dying = dies_with_the_lock::spawn(shop.again()).unwrap();
    eventually("it has the lock", || shop.woken.load(Ordering::SeqCst) == u32::MAX);
    let killed = Instant::now();
    dying.kill().unwrap();
    assert!(waiter.join().unwrap());
    assert!(killed.elapsed() < PROMPTLY);
    assert!(dying.join().is_err());
});

#[process_fn]
fn waits_for_opening(shop: Shared) -> bool {
    let open = shop.open.lock().unwrap();
    let open = shop.opened.wait_while(open, |open| !open.get()).unwrap();
    let again = shop.open.lock().unwrap();
    assert!(matches!(shop.opened.wait(again), Err(LockError::Depth)));
    open.get()
}

scenario!(a_reentrant_mutex_is_let_go_while_one_waits, {
    let shop = Shared::new(Shop::default());
    let waiters: Vec<_> = (0..3).map(|_| waits_for_opening::spawn(shop.again()).unwrap()).collect();
    eventually("all sleep", || waiters.iter().all(|waiter| sleeps_on_a_futex(waiter.pid())));
    {
        let open = shop.open.lock().unwrap();
        shop.open.lock().unwrap().set(true);
        shop.opened.notify_all();
        assert!(open.get());
    }
    assert!(waiters.into_iter().all(|waiter| waiter.join().unwrap()));
});

#[process_fn]
fn makes_for_ever(shop: Shared) {
    while shop.make() {}
}

#[process_fn]
fn takes_for_ever(shop: Shared) {
    while shop.take() {}
}

// Killed with the lock, before a notification, asleep, just woken.
scenario!(makers_and_takers_killed_at_any_instant_stop_nobody, limit(count(40)), {
    let shop = Shared::new(Shop::default());
    let mut random = Random::new();
    let start = |place: u64| {
        let again = shop.again();
        if place % 2 == 0 { makes_for_ever::spawn(again) } else { takes_for_ever::spawn(again) }.unwrap()
    };
    let mut processes: Vec<_> = (0..4).map(start).collect();
    for _ in 0..count(40) {
        busy(random.moment(Duration::from_millis(4)));
        let place = random.below(4);
        let next = start(place);
        let process = std::mem::replace(&mut processes[place as usize], next);
        process.kill().unwrap();
        assert!(process.join().is_err());
        let before = shop.stock().used;
        eventually("the others go on", || shop.stock().used > before);
    }
    for process in processes {
        process.kill().unwrap();
        assert!(process.join().is_err());
    }
    let stock = shop.stock();
    assert!(stock.goods <= ROOM && stock.goods == stock.made - stock.used);
});
