//! `Shared` between processes: a struct of several locks and counters in one piece of memory, sent
//! in every way, and those who use it killed.

use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64};
use std::thread;
use std::time::Duration;

use mp_core::{Receiver, Sender, pipe, process_fn};
use mp_shm::{Shared, ShmSafe};
use mp_sync::{Barrier, Condvar, Event, LockError, Mutex, MutexGuard, OnceLock, ReentrantMutex, RwLock, Semaphore};
use mp_testing::faults::{count, limit};
use mp_testing::victims::{Held, kill_at_random, soon};
use mp_testing::{PATIENCE, scenario};
use serde::{Deserialize, Serialize};

const SHELVES: usize = 8;

/// A shop in which several processes work.
#[derive(ShmSafe)]
struct Shop {
    stock: Mutex<Stock>,
    arrived: Condvar,
    prices: RwLock<[u32; SHELVES]>,
    counters: Semaphore,
    opened: Event,
    begin: Barrier,
    name: OnceLock<[u8; 4]>,
    served: [AtomicU64; SHELVES],
    sum: AtomicU64,
    closing: AtomicBool,
}

#[derive(ShmSafe, Clone, Copy)]
struct Stock {
    on: [u32; SHELVES],
    total: u32,
    last: Option<Article>,
}

#[derive(ShmSafe, Clone, Copy, PartialEq, Debug)]
enum Article {
    Loose { grams: u32 },
    Boxed(u32, bool),
}

impl Shop {
    fn new(workers: u32) -> Self {
        Self {
            stock: Mutex::new(Stock { on: [0; SHELVES], total: 0, last: None }),
            arrived: Condvar::new(),
            prices: RwLock::new([1; SHELVES]),
            counters: Semaphore::bounded(2),
            opened: Event::new(),
            begin: Barrier::new(workers),
            name: OnceLock::new(),
            served: [const { AtomicU64::new(0) }; SHELVES],
            sum: AtomicU64::new(0),
            closing: AtomicBool::new(false),
        }
    }

    fn put(&self, shelf: usize, article: Article) {
        let mut stock = self.stock.lock().unwrap();
        stock.on[shelf] += 1;
        stock.total += 1;
        stock.last = Some(article);
        drop(stock);
        self.arrived.notify_one();
    }

    /// Takes one from a shelf; `None` when there are no more and none to come.
    fn take(&self) -> Option<usize> {
        let mut stock = self.stock.lock().unwrap();
        loop {
            assert_eq!(stock.on.iter().sum::<u32>(), stock.total);
            if let Some(shelf) = stock.on.iter().position(|on| *on > 0) {
                stock.on[shelf] -= 1;
                stock.total -= 1;
                return Some(shelf);
            }
            if self.closing.load(SeqCst) {
                return None;
            }
            stock = self.arrived.wait(stock).unwrap();
        }
    }
}

/// Sells until the shop closes, and returns how much.
#[process_fn]
fn sells(shop: Shared<Shop>) -> u64 {
    shop.begin.wait().unwrap();
    shop.opened.wait();
    assert_eq!(shop.name.get_or_init(|| *b"shop"), b"shop");
    let mut sold = 0;
    while let Some(shelf) = shop.take() {
        let _counter = shop.counters.acquire();
        let price = u64::from(shop.prices.read().unwrap()[shelf]);
        shop.served[shelf].fetch_add(1, Relaxed);
        shop.sum.fetch_add(price, Relaxed);
        sold += 1;
    }
    sold
}

scenario!(several_locks_and_counters_in_one_piece_of_memory_work_together, {
    let shop = Shared::new(Shop::new(4)).unwrap();
    let sellers: Vec<_> = (0..3).map(|_| sells::spawn(shop.clone()).unwrap()).collect();
    shop.begin.wait().unwrap();
    *shop.prices.write().unwrap() = [3; SHELVES];
    shop.opened.set();
    for round in 0..2_000 {
        shop.put(round % SHELVES, Article::Boxed(round as u32, round % 2 == 0));
    }
    shop.put(0, Article::Loose { grams: 5 });
    assert_eq!(shop.stock.lock().unwrap().last, Some(Article::Loose { grams: 5 }));
    {
        // Under the lock, so that nobody is between its look and its wait.
        let _stock = shop.stock.lock().unwrap();
        shop.closing.store(true, SeqCst);
    }
    shop.arrived.notify_all();
    let sold: u64 = sellers.into_iter().map(|seller| seller.join().unwrap()).sum();
    assert_eq!(sold, 2_001);
    assert_eq!(shop.sum.load(SeqCst), 3 * 2_001);
    assert_eq!(shop.served.iter().map(|shelf| shelf.load(SeqCst)).sum::<u64>(), 2_001);
    assert_eq!(shop.name.get(), Some(b"shop"));
    assert_eq!(shop.counters.value(), 2);
});

type Counter = Shared<AtomicU64>;

#[derive(Serialize, Deserialize)]
struct Parcel {
    one: Shared<Mutex<[u16; 2]>>,
    maybe: Option<Counter>,
    many: Vec<Counter>,
    nested: (Result<Counter, String>, [Counter; 1]),
}

impl Parcel {
    fn counters(&self) -> impl Iterator<Item = &Counter> {
        let (one, [other]) = &self.nested;
        self.maybe.iter().chain(&self.many).chain(one).chain([other])
    }
}

#[process_fn]
fn unpacks(parcel: Parcel) -> Parcel {
    parcel.one.lock().unwrap()[1] += 1;
    parcel.counters().for_each(|counter| assert!(counter.fetch_add(5, SeqCst) < 30));
    parcel
}

scenario!(shared_values_are_arguments_and_results_in_whatever_they_stand, {
    let counter = |number| Shared::new(AtomicU64::new(number)).unwrap();
    let parcel = Parcel {
        one: Shared::new(Mutex::new([1, 2])).unwrap(),
        maybe: Some(counter(0)),
        many: (1..20).map(counter).collect(),
        nested: (Ok(counter(20)), [counter(21)]),
    };
    let kept: Vec<_> = parcel.counters().cloned().collect();
    let one = parcel.one.clone();
    let back = unpacks::spawn(parcel).unwrap().join().unwrap();
    assert_eq!(kept.iter().map(|counter| counter.load(SeqCst)).collect::<Vec<_>>(), (5..27).collect::<Vec<_>>());
    for (ours, theirs) in kept.iter().zip(back.counters()) {
        theirs.fetch_add(1, SeqCst);
        assert_eq!(ours.load(SeqCst), theirs.load(SeqCst));
        assert!(!Shared::ptr_eq(ours, theirs), "it is mapped once more");
        assert!(!std::ptr::eq(&**ours, &**theirs));
    }
    for one in [one, back.one] {
        assert_eq!(*one.lock().unwrap(), [1, 3]);
    }
});

scenario!(clones_are_one_mapping, {
    let one = Shared::new(AtomicU32::new(1)).unwrap();
    let other = one.clone();
    assert!(Shared::ptr_eq(&one, &other) && std::ptr::eq(&*one, &*other));
    assert!(!Shared::ptr_eq(&one, &Shared::new(AtomicU32::new(1)).unwrap()));
    assert_eq!(mp_testing::leaks::Resources::of_this_process().mappings.len(), 1);
    thread::spawn(move || one.store(2, SeqCst)).join().unwrap();
    assert_eq!(other.load(SeqCst), 2);
    assert_eq!(format!("{other:?}"), "Shared(2)");
});

#[process_fn]
fn makes(number: u64) -> Counter {
    Shared::new(AtomicU64::new(number)).unwrap()
}

#[process_fn]
fn nests(counter: Counter, depth: u32) {
    counter.fetch_add(1, SeqCst);
    if depth > 0 {
        nests::spawn(counter, depth - 1).unwrap().join().unwrap();
    }
}

#[process_fn]
fn forwards(from: Receiver<Counter>, to: Sender<Counter>) {
    while let Ok(counter) = from.recv() {
        counter.fetch_add(1, SeqCst);
        to.send(counter).unwrap();
    }
}

scenario!(a_shared_value_lives_with_whoever_has_it_and_in_messages, {
    let counter = makes::spawn(7).unwrap().join().unwrap();
    nests::spawn(counter.clone(), 3).unwrap().join().unwrap();
    assert_eq!(counter.load(SeqCst), 11);
    let (first, from) = pipe().unwrap();
    let (to, last) = pipe().unwrap();
    first.send(counter).unwrap();
    drop(first);
    forwards::spawn(from, to).unwrap().join().unwrap();
    // Nobody has it now but the message.
    assert_eq!(soon(&last).load(SeqCst), 12);
});

#[process_fn]
fn has_it_twice(one: Shared<ReentrantMutex<u64>>, other: Shared<ReentrantMutex<u64>>) {
    let guard = one.lock().unwrap();
    // This thread has it, by whichever mapping.
    assert_eq!(*other.lock().unwrap(), *guard);
    thread::scope(|scope| scope.spawn(|| assert!(other.try_lock().unwrap().is_none())).join().unwrap());
}

scenario!(a_shared_value_that_is_received_twice_is_one_value, {
    let shared = Shared::new(ReentrantMutex::new(3)).unwrap();
    has_it_twice::spawn(shared.clone(), shared.clone()).unwrap().join().unwrap();
    assert!(!shared.is_locked());
});

#[derive(ShmSafe)]
#[repr(align(4096))]
struct Page(AtomicU32);

#[process_fn]
fn counts_pages(pages: Shared<[Page; 3]>, large: Shared<[AtomicU64; 1 << 22]>) -> u32 {
    large[(1 << 22) - 1].fetch_add(1, SeqCst);
    pages.iter().map(|page| page.0.fetch_add(1, SeqCst)).sum()
}

scenario!(values_may_be_large_and_have_the_alignment_of_a_page, {
    let pages = Shared::new([1, 2, 3].map(|number| Page(AtomicU32::new(number)))).unwrap();
    // Too large for the stack.
    let large = Shared::<[AtomicU64; 1 << 22]>::zeroed().unwrap();
    assert!(large.iter().step_by(4096).all(|number| number.load(SeqCst) == 0));
    assert_eq!((&raw const *pages).addr() % 4096, 0);
    assert_eq!(counts_pages::spawn(pages.clone(), large.clone()).unwrap().join().unwrap(), 6);
    assert_eq!(large[(1 << 22) - 1].load(SeqCst), 1);
    assert_eq!(pages[2].0.load(SeqCst), 4);
    drop(Shared::new(()).unwrap());
});

/// Two locks that are changed together, and who is at it.
#[derive(ShmSafe)]
struct Pair {
    left: Mutex<u64>,
    right: Mutex<u64>,
    done: AtomicU64,
}

fn pair() -> Shared<Pair> {
    Shared::new(Pair { left: Mutex::new(0), right: Mutex::new(0), done: AtomicU64::new(0) }).unwrap()
}

#[process_fn]
fn holds_both(pair: Shared<Pair>, there: Sender<()>) {
    let mut left = pair.left.lock().unwrap();
    let _right = pair.right.lock().unwrap();
    *left += 1;
    there.send(()).unwrap();
    mp_testing::run_for_ever();
}

scenario!(every_lock_of_the_dead_tells_of_it, {
    let pair = pair();
    let holder = Held::start(|there| holds_both::call(pair.clone(), there));
    let waiter = thread::spawn({
        let pair = pair.clone();
        move || matches!(pair.right.lock(), Err(LockError::OwnerDied(_)))
    });
    assert!(pair.left.try_lock().unwrap().is_none() && pair.right.try_lock().unwrap().is_none());
    holder.kill();
    assert!(matches!(pair.left.lock(), Err(LockError::OwnerDied(guard)) if *guard == 1));
    assert!(matches!(pair.right.lock(), Err(LockError::OwnerDied(guard)) if *guard == 0));
    assert!(waiter.join().unwrap());
    // By a mapping that is made only now, too.
    let (one, other) = pipe().unwrap();
    one.send(pair).unwrap();
    assert!(matches!(soon(&other).left.lock(), Err(LockError::OwnerDied(_))));
});

fn mended<'a>(lock: &'a Mutex<u64>, value: impl FnOnce(u64) -> u64) -> MutexGuard<'a, u64> {
    match lock.lock_timeout(PATIENCE) {
        Ok(guard) => guard.expect("nobody has it for so long"),
        Err(LockError::OwnerDied(mut guard)) => {
            *guard = value(*guard);
            guard.mark_consistent();
            guard
        }
        Err(error) => panic!("{error}"),
    }
}

/// Counts both up, the left one first. Who has the left one mends the right one.
fn add(pair: &Pair) {
    let mut left = mended(&pair.left, |left| left);
    let mut right = mended(&pair.right, |right| right);
    assert!(*left == *right || *left == *right + 1, "{left} {right}");
    *right = *left;
    *left += 1;
    std::hint::black_box(&mut left);
    *right += 1;
    pair.done.fetch_add(1, Relaxed);
}

#[process_fn]
fn adds_until_killed(pair: Shared<Pair>, there: Sender<()>) {
    there.send(()).unwrap();
    loop {
        add(&pair);
    }
}

scenario!(those_who_are_killed_at_any_instant_hold_nobody_up, limit(count(40)), {
    let pair = pair();
    let start = |_, there| adds_until_killed::call(pair.clone(), there);
    kill_at_random(
        3,
        count(40),
        start,
        |_| {},
        || {
            let before = pair.done.load(Relaxed);
            add(&pair);
            assert!(pair.done.load(Relaxed) > before);
        },
    );
});

#[process_fn]
fn makes_and_drops(there: Sender<Counter>) {
    loop {
        let counter = Shared::new(AtomicU64::new(9)).unwrap();
        let again = counter.clone();
        if there.send(counter).is_err() {
            return;
        }
        assert_eq!(again.load(SeqCst), 9);
    }
}

scenario!(makers_that_are_killed_at_any_instant_leave_whole_values_or_nothing, limit(count(40)), {
    let mut random = mp_testing::faults::Random::new();
    for _ in 0..count(40) {
        let (there, come) = pipe().unwrap();
        let maker = makes_and_drops::spawn(there).unwrap();
        let first = soon(&come);
        mp_testing::faults::busy(random.moment(Duration::from_micros(300)));
        maker.kill().unwrap();
        mp_testing::victims::was_killed(maker);
        assert_eq!(first.load(SeqCst), 9);
        while let Ok(counter) = come.recv() {
            assert_eq!(counter.load(SeqCst), 9);
        }
    }
    assert!(mp_testing::leaks::Resources::of_this_process().mappings.is_empty());
});
