//! Workers to which other code has the links, as mp-mpi does: here they are processes of this host,
//! but the pool cannot know.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use mp_core::raw::{Message, decode_plain};
use mp_core::{ExitStatus, Sender, pipe, process_fn};
use mp_pool::raw::{self, Broken, Claimed, Death, End, Hosts, Link, News, Scheduler, SendFailure, Workers};
use mp_pool::{Pool, PoolBuilder, TaskError};
use mp_testing::scenario;

#[process_fn]
fn square(number: u64) -> u64 {
    number * number
}

#[process_fn]
fn bytes(length: usize) -> Vec<u8> {
    vec![1; length]
}

#[process_fn]
fn sleep(started: Sender<()>) {
    started.send(()).unwrap();
    thread::sleep(Duration::from_secs(60));
}

/// Everything is passed on, but what is taken back is said later, and the worker can be lost.
struct Passing {
    link: Box<dyn Link>,
    name: String,
    took_back: Option<Option<u32>>,
    is_lost: Arc<AtomicBool>,
}

impl Link for Passing {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn pid(&self) -> u32 {
        self.link.pid()
    }

    fn has_news(&self) -> bool {
        // There may be some.
        true
    }

    fn hear(&mut self) -> Result<News, Broken> {
        let news = match self.link.hear()? {
            outcome @ News::Outcome(_) => return Ok(outcome),
            News::Nothing => self.took_back.take().map_or(News::Nothing, News::TookBack),
            news => news,
        };
        // As it arrives from elsewhere.
        let mut bytes = Message::encode(&news).unwrap().to_vec().unwrap();
        Ok(decode_plain(&mut bytes).unwrap())
    }

    fn has_results(&self) -> bool {
        self.link.has_results()
    }

    fn read(&mut self, entries: &mut Vec<u8>) -> Result<(), Broken> {
        let start = entries.len();
        self.link.read(entries)?;
        raw::answers(&entries[start..]).map(drop)
    }

    fn claimed(&self) -> Claimed {
        self.link.claimed()
    }

    fn change_claim(&mut self, from: Claimed, to: Claimed) -> bool {
        self.link.change_claim(from, to)
    }

    fn take_back(&mut self, sent: Range<u32>, fenced: bool, keep: u32) -> Result<Option<u32>, Broken> {
        if self.took_back.is_none() {
            self.took_back = Some(self.link.take_back(sent, fenced, keep)?);
        }
        Ok(None)
    }

    fn is_taking_back(&self) -> bool {
        self.took_back.is_some()
    }

    fn room(&self) -> Result<usize, Broken> {
        self.link.room()
    }

    fn write(&mut self, entries: &[u8]) -> Result<(), Broken> {
        self.link.write(entries)
    }

    fn publish(&mut self) {
        self.link.publish();
    }

    fn send(&self, message: Arc<Message>) -> Result<(), SendFailure> {
        self.link.send(message)
    }

    fn ask_for_wake(&mut self) -> bool {
        self.link.ask_for_wake()
    }

    fn forgo_wake(&mut self) {
        self.link.forgo_wake();
    }

    fn has_ended(&self) -> bool {
        self.is_lost.load(Ordering::SeqCst) || self.link.has_ended()
    }

    fn death(&mut self) -> Option<Death> {
        match self.is_lost.load(Ordering::SeqCst) {
            true => Some(Death { end: End::Lost, panic: None }),
            false => self.link.death(),
        }
    }

    fn resident(&self) -> Option<u64> {
        self.link.resident()
    }

    fn kill(&self) {
        self.link.kill();
    }
}

/// The second of two places is elsewhere.
struct Elsewhere {
    workers: Workers,
    is_lost: Arc<AtomicBool>,
    refuses: Mutex<Option<String>>,
}

impl Hosts for Elsewhere {
    fn start(&self, number: usize, place: usize, name: String) -> Option<Box<dyn Link>> {
        let is_lost = Arc::clone(&self.is_lost);
        let link = |link| Passing { link, name: format!("{name} elsewhere"), took_back: None, is_lost };
        (place % 2 == 1).then(|| Box::new(link(self.workers.start(number, 0).unwrap())) as _)
    }

    fn has(&self, place: usize) -> bool {
        place % 2 == 0 || !self.is_lost.load(Ordering::SeqCst)
    }

    fn accepts(&self, message: &Message) -> Result<(), String> {
        match &*self.refuses.lock().unwrap() {
            Some(why) if message.has_descriptors() => Err(why.clone()),
            _ => Ok(()),
        }
    }
}

/// Runs `test` with a pool that has one worker here and one elsewhere.
fn with_pool(builder: PoolBuilder, test: impl FnOnce(&Pool, &Scheduler, &Elsewhere)) {
    let builder = builder.workers(2);
    let mut setup = raw::setup(&builder).unwrap();
    let workers = Workers::new(&mut setup, ["HIDDEN".into()]).unwrap();
    let hosts = Arc::new(Elsewhere { workers, is_lost: Arc::default(), refuses: Mutex::default() });
    let (pool, scheduler) = raw::start(builder, Arc::clone(&hosts) as _).unwrap();
    let is_over = Arc::new(AtomicBool::new(false));
    thread::scope(|scope| {
        let over = Over(Arc::clone(&is_over));
        let (scheduler, hosts) = (&scheduler, &hosts);
        scope.spawn(move || {
            while !is_over.load(Ordering::SeqCst) {
                mp_core::wait(&[&hosts.workers], Some(Duration::from_millis(1))).unwrap();
                scheduler.wake();
                scheduler.receive();
            }
        });
        test(&pool, scheduler, hosts);
        drop((pool, over));
    });
}

/// When it is dropped, the thread that watches workers elsewhere ends.
struct Over(Arc<AtomicBool>);

impl Drop for Over {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

scenario!(workers_elsewhere_compute_what_those_of_this_host_do, {
    with_pool(Pool::builder(), |pool, _, _| {
        let squares = pool.map::<square>(0..20_000).unwrap();
        assert!(squares.into_iter().eq((0..20_000).map(|number| number * number)));
        let lengths = || (0..200).map(|index| index * 100);
        assert!(pool.map::<bytes>(lengths()).unwrap().iter().map(Vec::len).eq(lengths()));
        let report = pool.report();
        assert!(report.workers.iter().all(|worker| worker.processes == 1), "{report}");
    });
});

scenario!(what_a_worker_elsewhere_does_not_begin_runs_here, {
    with_pool(Pool::builder().prefetch(8), |pool, _, _| {
        let (started, starts) = pipe().unwrap();
        let first = pool.submit(sleep::call(started.try_clone().unwrap()));
        starts.recv().unwrap();
        let second = pool.submit(sleep::call(started));
        starts.recv().unwrap();
        // Both workers sleep, and were sent half of these each.
        let tasks: Vec<_> = (0..10).map(|number| pool.submit(square::call(number))).collect();
        // What was sent ahead to both runs where one of them is free.
        assert!(first.cancel());
        for (number, task) in (0..).zip(tasks) {
            assert_eq!(task.join(), Ok(number * number));
        }
        assert!(second.cancel());
        assert_eq!(pool.stats().cancelled, 2);
    });
});

scenario!(a_worker_elsewhere_is_replaced_when_it_dies_and_not_when_its_host_does, {
    #[process_fn]
    fn abort() {
        std::process::abort();
    }
    with_pool(Pool::builder(), |pool, scheduler, hosts| {
        let here_and_there: Vec<_> = (0..8).map(|_| pool.submit(abort::call()).join().unwrap_err()).collect();
        for error in here_and_there {
            assert!(
                matches!(error, TaskError::Crashed { status: ExitStatus::Signal { signal: 6, .. }, .. }),
                "{error}"
            );
        }
        let (started, starts) = pipe().unwrap();
        let tasks = [(); 2].map(|()| {
            let task = pool.submit(sleep::call(started.try_clone().unwrap()));
            starts.recv().unwrap();
            task
        });
        hosts.is_lost.store(true, Ordering::SeqCst);
        scheduler.lost(2, 1);
        assert!(mp_testing::holds_within(Duration::from_secs(30), || tasks.iter().any(|task| task.is_done())));
        let (lost, left): (Vec<_>, Vec<_>) = tasks.into_iter().partition(|task| task.is_done());
        let [lost, left] = [lost, left].map(|mut of_them| of_them.pop().unwrap());
        match lost.join() {
            Err(TaskError::NodeLost { worker, attempts: 1, .. }) => assert!(worker.ends_with(" elsewhere"), "{worker}"),
            other => panic!("{other:?}"),
        }
        assert_eq!((pool.workers(), pool.stats().lost), (1, 1));
        assert!(left.cancel());
        assert_eq!(pool.submit(square::call(3)).join(), Ok(9));
    });
});

scenario!(what_one_host_cannot_be_sent_is_sent_to_none, {
    with_pool(Pool::builder(), |pool, _, hosts| {
        *hosts.refuses.lock().unwrap() = Some("it has handles".to_owned());
        let (started, _starts) = pipe().unwrap();
        assert_eq!(pool.submit(sleep::call(started)).join(), Err(TaskError::NotSent("it has handles".to_owned())));
        assert_eq!(pool.submit(square::call(3)).join(), Ok(9));
    });
});
