//! What a task holds of which there is only one belongs to its worker, or is given back before the task's error is told.

#[path = "../../mp-core/tests/undelivered/only.rs"]
mod only;

use std::fs::File;
use std::sync::{Arc, Mutex, Weak};

use mp_core::{Sender, fd, pipe, process_fn};
use mp_pool::{Pool, Task, TaskError};
use mp_testing::scenario;
use only::Only;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::{Deserialize, Serialize, Serializer};
use serde_bytes::ByteBuf;

#[process_fn]
fn look(only: &Only) {
    only.check();
}

#[process_fn]
fn double(number: u32) -> u32 {
    number * 2
}

/// Says that it runs, and never ends.
#[process_fn]
fn hang(running: Sender<()>) {
    running.send(()).unwrap();
    loop {
        std::thread::park();
    }
}

scenario!(a_worker_has_what_it_was_sent_also_when_it_dies_over_it, {
    #[process_fn]
    fn die(only: &Only) {
        only.check();
        std::process::abort();
    }
    let pool = Pool::new(2).unwrap();
    for _ in 0..10 {
        let (only, history) = Only::new();
        pool.submit(look::call(&only)).join().unwrap();
        assert_eq!((history.is_sent(), history.counts()), (true, (1, 0)));
    }
    let (only, history) = Only::new();
    assert!(matches!(pool.submit(die::call(&only)).join(), Err(TaskError::Crashed { .. })));
    assert_eq!((history.is_sent(), history.counts()), (true, (1, 0)));
});

scenario!(a_task_that_never_ran_has_given_back_before_it_says_so, {
    for _ in 0..20 {
        let pool = Pool::new(1).unwrap();
        let (running, started) = pipe().unwrap();
        let busy = pool.submit(hang::call(running));
        started.recv().unwrap();
        let many: Vec<_> = (0..10).map(|_| Only::new()).collect();
        let tasks: Vec<_> = many.iter().map(|(only, _)| pool.submit(look::call(only))).collect();
        pool.terminate();
        for ((only, history), task) in many.iter().zip(tasks) {
            assert_eq!(task.join(), Err(TaskError::PoolClosed));
            only.check();
            assert_eq!(history.counts(), (1, 1));
        }
        assert_eq!(busy.join(), Err(TaskError::PoolClosed));
        let (only, history) = Only::new();
        assert_eq!(pool.submit(look::call(&only)).join(), Err(TaskError::PoolClosed));
        only.check();
        assert_eq!(history.counts(), (1, 1));
    }
});

type Tasks = Arc<Mutex<Vec<Task<u32>>>>;

/// Submits a task to the pool when it is given back.
#[derive(Deserialize)]
struct Again {
    only: Only,
    #[serde(skip)]
    to: Option<(Weak<Pool>, Tasks)>,
}

impl Serialize for Again {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if let Some((pool, tasks)) = self.to.clone() {
            fd::if_undelivered(move || {
                let pool = pool.upgrade().expect("the test holds the pool");
                tasks.lock().unwrap().push(pool.submit(double::call(21)));
            });
        }
        self.only.serialize(serializer)
    }
}

scenario!(what_is_done_may_submit_to_the_same_pool_when_no_worker_can_be_sent_the_task, {
    #[process_fn]
    fn never(again: Again, bytes: ByteBuf) {
        drop((again, bytes));
    }
    let before = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: Some(64), ..before }).unwrap();
    let pool = Arc::new(Pool::new(1).unwrap());
    assert_eq!(pool.submit(double::call(1)).join().unwrap(), 2);
    let ((only, history), tasks) = (Only::new(), Tasks::default());
    let again = Again { only, to: Some((Arc::downgrade(&pool), Arc::clone(&tasks))) };
    let mut taken: Vec<_> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
    // One for the task while it waits; none to send it with.
    taken.pop();
    let task = pool.submit(never::call(again, ByteBuf::from(vec![0; 100_000])));
    let error = task.join().unwrap_err();
    assert!(matches!(error, TaskError::NotSent(_)), "{error:?}");
    assert_eq!(history.counts(), (1, 1));
    let submitted = tasks.lock().unwrap().pop().unwrap();
    assert_eq!(submitted.join().unwrap(), 42);
    drop(taken);
});

scenario!(what_is_done_may_submit_to_the_same_pool_when_tasks_are_forgotten, {
    #[process_fn]
    fn return_or_hang(number: u32, again: Again) {
        drop(again);
        if number > 0 {
            loop {
                std::thread::park();
            }
        }
    }
    let pool = Arc::new(Pool::new(1).unwrap());
    let (histories, tasks) = (Mutex::new(Vec::new()), Tasks::default());
    let items = (0..).map(|number| {
        let (only, history) = Only::new();
        histories.lock().unwrap().push(history);
        (number, Again { only, to: Some((Arc::downgrade(&pool), Arc::clone(&tasks))) })
    });
    let mut values = pool.imap_unordered::<return_or_hang>(items);
    assert_eq!(values.next().map(|(index, value)| (index, value.unwrap())), Some((0, ())));
    drop(values);
    let histories = histories.into_inner().unwrap();
    let (sent, undone): (Vec<_>, Vec<_>) = histories.iter().partition(|history| history.is_sent());
    // One ran, one runs, and nobody waits for the others.
    assert_eq!((sent.len(), undone.len()), (2, histories.len() - 2));
    assert!(undone.len() >= 2 && undone.iter().all(|history| history.counts() == (1, 1)));
    assert_eq!(tasks.lock().unwrap().len(), undone.len());
    pool.terminate();
    pool.join();
    for task in std::mem::take(&mut *tasks.lock().unwrap()) {
        assert_eq!(task.join(), Err(TaskError::PoolClosed));
    }
});
