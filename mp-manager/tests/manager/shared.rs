//! Types of the user's whose values live in a server.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use mp_core::{Call, Sender, process_fn};
use mp_manager::{CallError, Cell, Event, List, Lock, LockError, Manager, Map};
use mp_testing::victims::Held;
use mp_testing::{PROMPTLY, eventually, scenario};
use serde::{Deserialize, Serialize};

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Overdrawn {
    missing: u64,
}

/// An account.
pub(crate) struct Account {
    balance: u64,
    /// How many reads run side by side, and the most that did.
    readers: Mutex<(u32, u32)>,
    changed: Condvar,
    log: Option<List<String>>,
}

static DROPPED: AtomicU64 = AtomicU64::new(0);

impl Drop for Account {
    fn drop(&mut self) {
        DROPPED.fetch_add(1, Ordering::Relaxed);
        assert!(self.balance != 666, "a drop can panic");
        if let Some(list) = &self.log {
            list.push("closed".to_owned()).unwrap();
        }
    }
}

#[mp_manager::shared]
impl Account {
    pub(crate) fn new(balance: u64) -> Self {
        assert!(balance != 13, "unlucky");
        Self { balance, readers: Mutex::default(), changed: Condvar::new(), log: None }
    }

    pub(crate) fn open(balance: u64, least: u64) -> Result<Self, Overdrawn> {
        match least.checked_sub(balance) {
            None | Some(0) => Ok(Self::new(balance)),
            Some(missing) => Err(Overdrawn { missing }),
        }
    }

    pub(crate) fn balance(&self) -> u64 {
        self.balance
    }

    pub(crate) fn pay_in(&mut self, amount: u64) -> u64 {
        self.balance += amount;
        self.balance
    }

    pub(crate) fn pay_out(&mut self, amount: u64) -> Result<u64, Overdrawn> {
        let overdrawn = || Overdrawn { missing: amount - self.balance };
        self.balance = self.balance.checked_sub(amount).ok_or_else(overdrawn)?;
        Ok(self.balance)
    }

    /// Waits until as many read at once.
    pub(crate) fn read_beside(&self, others: u32) -> u32 {
        let mut readers = self.readers.lock().unwrap();
        readers.0 += 1;
        readers.1 = readers.1.max(readers.0);
        self.changed.notify_all();
        while readers.1 < others {
            readers = self.changed.wait(readers).unwrap();
        }
        readers.0 -= 1;
        readers.1
    }

    pub(crate) fn half_change(&mut self) {
        self.balance = 0;
        panic!("in the middle");
    }

    pub(crate) fn look_and_panic(&self) {
        panic!("only looking");
    }

    pub(crate) fn wait(&mut self, milliseconds: u64) {
        thread::sleep(Duration::from_millis(milliseconds));
    }

    pub(crate) fn wait_for(&mut self, go: Event) {
        go.wait().unwrap();
    }

    pub(crate) fn log_to(&mut self, list: List<String>, other: Map<u8, u8>) -> usize {
        list.push(format!("{}", self.balance)).unwrap();
        other.insert(1, 1).unwrap();
        self.log = Some(list);
        self.log.as_ref().unwrap().len().unwrap()
    }

    pub(crate) fn ask_itself(&self, own: AccountProxy) -> u64 {
        own.balance().unwrap()
    }

    pub(crate) fn nothing(&self) {}

    #[expect(dead_code, reason = "what is private is not shared")]
    fn private(self) {}
}

mod elsewhere {
    pub(crate) struct Word(String);

    #[mp_manager::shared(proxy = Remembered, name = "a word")]
    impl Word {
        pub(crate) fn new(text: String) -> Word {
            Word(text)
        }

        pub(crate) fn text(&self) -> String {
            self.0.clone()
        }
    }
}

#[process_fn]
fn pay_often(account: AccountProxy, times: u64) {
    for _ in 0..times {
        account.pay_in(1).unwrap();
    }
}

scenario!(an_own_type_is_made_called_and_dropped_in_the_server, {
    let manager = Manager::spawn().unwrap();
    let account = AccountProxy::new(&manager, 5).unwrap();
    assert_eq!(account.pay_in(10).unwrap(), 15);
    assert_eq!(account.pay_out(20).unwrap(), Err(Overdrawn { missing: 5 }));
    assert_eq!(account.pay_out(5).unwrap(), Ok(10));
    account.nothing().unwrap();
    assert_eq!(AccountProxy::open(&account, 1, 3).unwrap().unwrap_err(), Overdrawn { missing: 2 });
    let other = AccountProxy::open(&account, 3, 3).unwrap().unwrap();
    assert_eq!(other.balance().unwrap(), 3);
    let Err(CallError::Panicked(panic)) = AccountProxy::new(&manager, 13) else { panic!("it panics") };
    assert_eq!((&*panic.message, &*panic.function), ("unlucky", "manager::shared::Account::new"));
    assert_eq!(manager.objects().unwrap().len(), 2);
    assert_eq!(elsewhere::Remembered::new(&manager, "word".into()).unwrap().text().unwrap(), "word");
    manager.publish("account", &other).unwrap();
    assert_eq!(manager.get::<AccountProxy>("account").unwrap().balance().unwrap(), 3);
    drop((account, other));
    eventually("one is left", || manager.objects().unwrap().len() == 1);
});

scenario!(methods_that_change_the_value_are_atomic, {
    let manager = Manager::spawn().unwrap();
    let account = AccountProxy::new(&manager, 0).unwrap();
    let children: Vec<_> = (0..4).map(|_| pay_often::spawn(account.clone(), 100).unwrap()).collect();
    children.into_iter().for_each(|child| child.join().unwrap());
    assert_eq!(account.balance().unwrap(), 400);
});

scenario!(methods_that_only_look_run_side_by_side, {
    let manager = Manager::spawn().unwrap();
    let account = AccountProxy::new(&manager, 0).unwrap();
    let replies: Vec<_> = (0..4).map(|_| account.later().read_beside(4)).collect();
    assert!(replies.into_iter().all(|reply| reply.join().unwrap() == 4));
    assert_eq!(account.ask_itself(account.clone()).unwrap(), 0);
    // What has waited for another call begins together too, though nothing else arrives then.
    let other = AccountProxy::new(&manager, 0).unwrap();
    let changes = other.later().wait(50);
    let replies: Vec<_> = (0..3).map(|_| other.later().read_beside(3)).collect();
    changes.join().unwrap();
    assert!(replies.into_iter().all(|reply| reply.join().unwrap() == 3));
});

scenario!(a_panic_poisons_only_what_may_have_been_changed, {
    let manager = Manager::spawn().unwrap();
    let account = AccountProxy::new(&manager, 7).unwrap();
    let error = account.look_and_panic().unwrap_err().to_string();
    assert!(error.contains("`manager::shared::Account::look_and_panic` in process 'manager' panicked at "), "{error}");
    assert_eq!(account.balance().unwrap(), 7);
    let Err(CallError::Panicked(panic)) = account.half_change() else { panic!("it panics") };
    assert_eq!((&*panic.message, &*panic.function), ("in the middle", "manager::shared::Account::half_change"));
    assert_eq!(account.balance(), Err(CallError::Poisoned));
    assert_eq!(account.pay_in(1), Err(CallError::Poisoned));
    account.clear_poison().unwrap();
    assert_eq!(account.balance().unwrap(), 0);
});

scenario!(calls_are_sent_without_waiting_and_run_in_order, {
    let manager = Manager::spawn().unwrap();
    let account = AccountProxy::new(&manager, 0).unwrap();
    let replies: Vec<_> = (0..3000).map(|_| account.later().pay_in(1)).collect();
    for (reply, expected) in replies.into_iter().zip(1..) {
        assert_eq!(reply.join().unwrap(), expected);
    }
    drop(account.later().pay_in(1));
    assert_eq!(account.balance().unwrap(), 3001);
    // The object lives until the call has run, although its proxy is gone.
    let reply = account.later().pay_in(1);
    drop(account);
    assert_eq!(reply.join().unwrap(), 3002);
    eventually("it goes", || manager.objects().unwrap().is_empty());
});

scenario!(replies_can_be_awaited_while_threads_wait_too, {
    let manager = Manager::spawn().unwrap();
    let account = AccountProxy::new(&manager, 0).unwrap();
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                for _ in 0..100 {
                    pollster::block_on(account.later().pay_in(1)).unwrap();
                    account.pay_in(1).unwrap();
                }
            });
        }
    });
    assert_eq!(pollster::block_on(account.later().balance()).unwrap(), 600);
    // Dropped while it is awaited.
    let mut reply = Box::pin(account.later().wait(20));
    assert!(matches!(reply.as_mut().poll(&mut Context::from_waker(Waker::noop())), Poll::Pending));
    drop(reply);
    assert_eq!(account.balance().unwrap(), 600);
    manager.shutdown(Duration::ZERO).unwrap();
    assert!(matches!(pollster::block_on(account.later().balance()), Err(CallError::Disconnected { .. })));
});

scenario!(a_method_can_use_other_objects_and_keep_their_proxies, {
    let manager = Manager::spawn().unwrap();
    let account = AccountProxy::new(&manager, 9).unwrap();
    let (list, map) = (List::new(&manager).unwrap(), Map::new(&manager).unwrap());
    assert_eq!(account.log_to(list.clone(), map.clone()).unwrap(), 1);
    assert_eq!(map.get(&1).unwrap(), Some(1));
    assert_eq!(list.snapshot().unwrap(), ["9"]);
    assert_eq!(manager.objects().unwrap().len(), 3);
    drop(account);
    // Its drop calls the server.
    eventually("it writes its last line", || list.len().unwrap() == 2);
    drop(list);
    eventually("they have gone", || manager.objects().unwrap().len() == 1);
});

scenario!(a_deadline_is_for_the_caller_only, {
    let manager = Manager::spawn().unwrap();
    let account = AccountProxy::new(&manager, 1).unwrap();
    let go = Event::new(&manager).unwrap();
    let impatient = account.clone().with_limit(Some(Duration::from_millis(10)));
    assert_eq!(impatient.wait_for(go.clone()), Err(CallError::TimedOut));
    go.set().unwrap();
    assert_eq!(account.balance().unwrap(), 1);
});

scenario!(a_drop_that_panics_harms_nobody, {
    let manager = Manager::here().unwrap();
    let before = DROPPED.load(Ordering::Relaxed);
    drop(AccountProxy::new(&manager, 666).unwrap());
    eventually("it was dropped", || DROPPED.load(Ordering::Relaxed) > before);
    assert_eq!(AccountProxy::new(&manager, 1).unwrap().balance().unwrap(), 1);
});

#[derive(Serialize, Deserialize)]
enum Node {
    Inner(Cell<Node>),
    Last(AccountProxy),
}

scenario!(objects_inside_each_other_go_together_though_nobody_calls, {
    let manager = Manager::here().unwrap();
    let before = DROPPED.load(Ordering::Relaxed);
    let mut chain = Cell::new(&manager, Node::Last(AccountProxy::new(&manager, 1).unwrap())).unwrap();
    for _ in 0..300 {
        chain = Cell::new(&manager, Node::Inner(chain)).unwrap();
    }
    assert!(matches!(chain.get().unwrap(), Node::Inner(_)));
    drop(chain);
    eventually("all have gone", || DROPPED.load(Ordering::Relaxed) > before);
});

#[process_fn]
fn call_and_stay(there: Sender<()>, account: AccountProxy, go: Event, lock: Lock) {
    let _guard = lock.lock().unwrap();
    let _reply = account.later().wait_for(go);
    let _other = account.later().pay_in(1);
    account.clone().with_limit(Some(Duration::from_millis(1))).balance().unwrap_err();
    there.send(()).unwrap();
    loop {
        thread::park();
    }
}

scenario!(calls_of_a_dead_process_that_have_not_begun_do_not_run, {
    let manager = Manager::spawn().unwrap();
    let account = AccountProxy::new(&manager, 1).unwrap();
    let (go, lock) = (Event::new(&manager).unwrap(), Lock::new(&manager).unwrap());
    Held::start(|there| Call::<call_and_stay>::new((there, account.clone(), go.clone(), lock.clone()))).kill();
    // The server knows that it is dead before the first call ends.
    assert!(matches!(lock.lock(), Err(LockError::OwnerDied(_))));
    go.set().unwrap();
    assert_eq!(account.balance().unwrap(), 1);
    let threads = || std::fs::read_dir(format!("/proc/{}/task", manager.pid())).unwrap().count();
    assert!(threads() < 6);
});

scenario!(the_death_of_the_server_ends_calls_that_were_sent, {
    let manager = Manager::spawn().unwrap();
    let account = AccountProxy::new(&manager, 1).unwrap();
    let (first, second) = (account.later().wait(60_000), account.later().balance());
    let waits = thread::spawn(move || (first.join(), pollster::block_on(second)));
    rustix::process::kill_process(mp_testing::procfs::number_of(manager.pid()), rustix::process::Signal::KILL).unwrap();
    let killed = std::time::Instant::now();
    let (first, second) = waits.join().unwrap();
    assert_eq!(first, Err(CallError::Disconnected { sent: true }));
    assert_eq!(second, Err(CallError::Disconnected { sent: true }));
    assert!(killed.elapsed() < PROMPTLY);
});

scenario!(calls_of_one_later_are_sent_when_it_is_dropped_or_somebody_waits, {
    let manager = Manager::spawn().unwrap();
    let account = AccountProxy::new(&manager, 0).unwrap();
    let later = account.later();
    let first = later.pay_in(1);
    let second = later.pay_in(2);
    // A call of the same process is sent behind them.
    assert_eq!(account.balance().unwrap(), 3);
    let third = later.pay_in(3);
    assert_eq!(third.join().unwrap(), 6);
    let dropped: Vec<_> = (0..200).map(|_| later.pay_in(1)).collect();
    drop((later, dropped));
    eventually("the calls run", || account.balance().unwrap() == 206);
    assert_eq!((first.join().unwrap(), second.join().unwrap()), (1, 3));
    // Nobody waits, and another process sees it.
    let observer = balance_of::spawn(account.clone(), 207).unwrap();
    drop(account.later().pay_in(1));
    observer.join().unwrap();
});

#[process_fn]
fn balance_of(account: AccountProxy, expected: u64) {
    eventually("the call runs", || account.balance().unwrap() == expected);
}
