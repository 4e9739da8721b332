//! The locks: alone, in competition, and how soon a sleeper is awake.

use std::hint::black_box;
use std::io;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use mp_core::{Connection, Process, duplex, process_fn};
use mp_sync::{Mutex, ReentrantMutex};
use rustix::thread::futex;
use serde::{Deserialize, Serialize};

use super::{Row, row};
use crate::locks::{Locks, Pthread, Shared, locks};
use crate::measure::{Contender, Run};
use crate::partner::{Partner, failed};

pub(super) fn rows() -> Vec<Row> {
    let mut rows = vec![
        row("lock/mutex", |_| {
            vec![
                Contender::ours("mp_sync::Mutex in shared memory", alone(|| mutex_pair(&locks()?.mutex))),
                Contender::limit("std::sync::Mutex", 2.0, alone(std_mutex_pair)),
                Contender::limit("pthread_mutex, process-shared", None, alone(|| pthread_pair(false))),
                Contender::limit("pthread_mutex, process-shared and robust", None, alone(|| pthread_pair(true))),
            ]
        }),
        row("lock/mutex-static", |_| {
            static OURS: Mutex<u64> = Mutex::new(0);
            vec![
                Contender::ours("mp_sync::Mutex in a static", alone(|| mutex_pair(&OURS))),
                Contender::limit("std::sync::Mutex", 2.0, alone(std_mutex_pair)),
            ]
        }),
        row("lock/reentrant", |_| {
            vec![
                Contender::ours(
                    "mp_sync::ReentrantMutex in shared memory",
                    alone(|| reentrant_pair(&locks()?.reentrant)),
                ),
                Contender::limit("std::sync::Mutex", 2.0, alone(std_mutex_pair)),
            ]
        }),
        row("lock/semaphore", |_| {
            let ours = || {
                let locks = locks()?;
                Ok(move || drop(black_box(locks).semaphore.acquire()))
            };
            let posix = || {
                let locks = locks()?;
                Ok(move || {
                    black_box(locks).posix.acquire();
                    locks.posix.release();
                })
            };
            vec![
                Contender::ours("mp_sync::Semaphore in shared memory", alone(ours)),
                Contender::limit("sem_t, process-shared", 1.5, alone(posix)),
            ]
        }),
        row("lock/robust-semaphore", |_| {
            let ours = || {
                let locks = locks()?;
                Ok(move || drop(black_box(locks).permits.acquire()))
            };
            let posix = || {
                let locks = locks()?;
                Ok(move || {
                    black_box(locks).posix.acquire();
                    locks.posix.release();
                })
            };
            vec![
                Contender::ours("mp_sync::RobustSemaphore in shared memory", alone(ours)),
                Contender::limit("sem_t, process-shared", None, alone(posix)),
            ]
        }),
        row("lock/rwlock-read", |_| {
            let ours = || {
                let locks = locks()?;
                Ok(move || drop(black_box(locks).rwlock.read().map(|value| *value)))
            };
            let std = || {
                static LOCK: std::sync::RwLock<u64> = std::sync::RwLock::new(0);
                Ok(|| drop(black_box(&LOCK).read().map(|value| *value)))
            };
            vec![
                Contender::ours("mp_sync::RwLock in shared memory, to read", alone(ours)),
                Contender::limit("std::sync::RwLock", 2.0, alone(std)),
            ]
        }),
        row("lock/rwlock-write", |_| {
            let ours = || {
                let locks = locks()?;
                Ok(move || {
                    if let Ok(mut value) = black_box(locks).rwlock.write() {
                        *value += 1;
                    }
                })
            };
            let std = || {
                static LOCK: std::sync::RwLock<u64> = std::sync::RwLock::new(0);
                Ok(|| {
                    if let Ok(mut value) = black_box(&LOCK).write() {
                        *value += 1;
                    }
                })
            };
            vec![
                Contender::ours("mp_sync::RwLock in shared memory, to write", alone(ours)),
                Contender::limit("std::sync::RwLock", 2.0, alone(std)),
            ]
        }),
        row("get/once-lock", |_| {
            let ours = || {
                let locks = locks()?;
                Ok(move || {
                    black_box(black_box(locks).once.get_or_init(|| 1));
                })
            };
            let std = || {
                static CELL: std::sync::OnceLock<u64> = std::sync::OnceLock::new();
                Ok(|| {
                    black_box(black_box(&CELL).get_or_init(|| 1));
                })
            };
            vec![
                Contender::ours("mp_sync::OnceLock in shared memory", alone(ours)),
                Contender::limit("std::sync::OnceLock", 1.5, alone(std)),
            ]
        }),
        row("set/event", |_| {
            let ours = || {
                let locks = locks()?;
                Ok(move || {
                    black_box(locks).event.set();
                    locks.event.wait();
                    locks.event.clear();
                })
            };
            let std = || {
                static EVENT: (std::sync::Mutex<bool>, std::sync::Condvar) =
                    (std::sync::Mutex::new(false), std::sync::Condvar::new());
                let set = |value| {
                    if let Ok(mut is_set) = black_box(&EVENT).0.lock() {
                        *is_set = value;
                    }
                };
                Ok(move || {
                    set(true);
                    EVENT.1.notify_all();
                    if let Ok(is_set) = EVENT.0.lock() {
                        drop(EVENT.1.wait_while(is_set, |is_set| !*is_set));
                    }
                    set(false);
                })
            };
            vec![
                Contender::ours("mp_sync::Event: set, wait, clear", alone(ours)),
                Contender::limit("std's Mutex<bool> and Condvar", 1.5, alone(std)),
            ]
        }),
        row("meet/barrier-1", |_| {
            let ours = || {
                let locks = locks()?;
                Ok(move || {
                    let _ = black_box(locks).barrier.wait();
                })
            };
            let std = || {
                let barrier = std::sync::Barrier::new(1);
                Ok(move || _ = black_box(&barrier).wait())
            };
            vec![
                Contender::ours("mp_sync::Barrier of one", alone(ours)),
                Contender::limit("std::sync::Barrier of one", 1.5, alone(std)),
            ]
        }),
        row("notify/condvar", |_| {
            let condvar = || {
                let condvar = &locks()?.condvar;
                Ok(move || condvar.notify_one())
            };
            let std = || {
                static CONDVAR: std::sync::Condvar = std::sync::Condvar::new();
                Ok(|| black_box(&CONDVAR).notify_one())
            };
            vec![
                Contender::ours("mp_sync::Condvar, nobody waits", alone(condvar)),
                Contender::limit("std::sync::Condvar", 1.5, alone(std)),
            ]
        }),
    ];
    for processes in [2, 8] {
        rows.push(row(&format!("contended/mutex-{processes}"), move |_| {
            vec![
                Contender::ours("mp_sync::Mutex", contended(processes, Kind::Ours)),
                Contender::limit("pthread_mutex, process-shared", 1.0, contended(processes, Kind::Pthread)),
                Contender::limit("pthread_mutex, process-shared and robust", 1.0, contended(processes, Kind::Robust)),
            ]
        }));
    }
    for processes in [2, 8] {
        rows.push(row(&format!("contended/semaphore-{processes}"), move |_| {
            vec![
                Contender::ours("mp_sync::Semaphore", contended(processes, Kind::Semaphore)),
                Contender::limit("sem_t, process-shared", 1.0, contended(processes, Kind::Posix)),
            ]
        }));
    }
    for (name, ours, kind) in
        [("wake/condvar", "mp_sync::Condvar and Mutex", Means::Condvar), ("wake/event", "mp_sync::Event", Means::Event)]
    {
        rows.push(row(name, move |_| {
            vec![
                Contender::ours(ours, ping_pong(kind)),
                Contender::limit("a shared futex", 1.2, ping_pong(Means::Futex)),
            ]
        }));
    }
    rows
}

/// Calls the operation again and again, in this thread alone.
pub(super) fn alone<O: FnMut() + 'static>(operation: impl FnOnce() -> io::Result<O>) -> io::Result<Run> {
    let mut operation = operation()?;
    Ok(Box::new(move |count| {
        let start = Instant::now();
        for _ in 0..count {
            operation();
        }
        Ok(start.elapsed())
    }))
}

pub(super) fn mutex_pair(mutex: &'static Mutex<u64>) -> io::Result<impl FnMut()> {
    Ok(move || {
        if let Ok(mut guard) = black_box(mutex).lock() {
            *guard += 1;
        }
    })
}

fn reentrant_pair(mutex: &'static ReentrantMutex<u64>) -> io::Result<impl FnMut()> {
    Ok(move || {
        if let Ok(guard) = black_box(mutex).lock() {
            black_box(*guard);
        }
    })
}

fn std_mutex_pair() -> io::Result<impl FnMut()> {
    static MUTEX: std::sync::Mutex<u64> = std::sync::Mutex::new(0);
    Ok(|| {
        if let Ok(mut guard) = black_box(&MUTEX).lock() {
            *guard += 1;
        }
    })
}

fn pthread_pair(robust: bool) -> io::Result<impl FnMut()> {
    let mutex: &'static Pthread = Box::leak(Box::new(Pthread::default()));
    mutex.init(robust);
    let mut value = 0_u64;
    Ok(move || {
        black_box(mutex).lock();
        value = black_box(value) + 1;
        mutex.unlock();
    })
}

#[derive(Clone, Copy, Serialize, Deserialize)]
enum Kind {
    Ours,
    Pthread,
    Robust,
    Semaphore,
    Posix,
}

/// How many times each process takes the lock: what it is asked for.
#[process_fn]
fn competes(shared: Shared, kind: Kind, connection: Connection<(), u32>) {
    while let Ok(count) = connection.recv() {
        take_often(&shared, kind, count);
        if connection.send(()).is_err() {
            return;
        }
    }
}

fn take_often(locks: &Locks, kind: Kind, count: u32) {
    for _ in 0..count {
        match kind {
            Kind::Ours => {
                if let Ok(mut guard) = locks.mutex.lock() {
                    *guard += 1;
                }
            }
            Kind::Pthread => {
                locks.pthread.lock();
                locks.turn.store(locks.turn.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
                locks.pthread.unlock();
            }
            Kind::Robust => {
                locks.robust.lock();
                locks.turn.store(locks.turn.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
                locks.robust.unlock();
            }
            Kind::Semaphore => {
                let _permit = locks.semaphore.acquire();
                locks.turn.store(locks.turn.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
            }
            Kind::Posix => {
                locks.posix.acquire();
                locks.turn.store(locks.turn.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
                locks.posix.release();
            }
        }
        // What is done without the lock.
        for _ in 0..20 {
            black_box(count);
        }
    }
}

/// So many processes take the same lock: the time until all have done it, for one turn of each.
fn contended(processes: usize, kind: Kind) -> io::Result<Run> {
    let shared = Shared::new()?;
    let mut partners: Vec<(Connection<u32, ()>, Process<()>)> = Vec::new();
    for _ in 0..processes {
        let (ours, theirs) = duplex::<u32, ()>()?;
        partners.push((ours, competes::spawn(shared.again()?, kind, theirs)?));
    }
    Ok(Box::new(move |count| {
        let start = Instant::now();
        // Enough of them that they meet.
        for (connection, _) in &partners {
            connection.send(count * 20).map_err(failed)?;
        }
        for (connection, _) in &partners {
            connection.recv().map_err(failed)?;
        }
        Ok(start.elapsed() / 20)
    }))
}

/// By what one tells the other that it is its turn.
#[derive(Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) enum Means {
    Condvar,
    Event,
    Futex,
}

/// The turn that ends the game.
const END: u32 = u32::MAX;

/// Answers each odd turn with the next even one.
#[process_fn]
fn answers(shared: Shared, means: Means, alive: Connection<(), ()>) {
    let mut turn = 1;
    while await_turn(&shared, means, turn) {
        pass_turn(&shared, means, turn + 1);
        turn += 2;
    }
    drop(alive);
}

fn await_turn(locks: &Locks, means: Means, wanted: u32) -> bool {
    match means {
        Means::Condvar => {
            let Ok(guard) = locks.mutex.lock() else { return false };
            let is_early = |turn: &mut u64| *turn != u64::from(wanted) && *turn != u64::from(END);
            locks.condvar.wait_while(guard, is_early).is_ok_and(|turn| *turn != u64::from(END))
        }
        Means::Event => {
            let event = if wanted % 2 == 1 { &locks.event } else { &locks.answer };
            event.wait();
            event.clear();
            locks.turn.load(Ordering::Relaxed) != END
        }
        Means::Futex => loop {
            match locks.turn.load(Ordering::Acquire) {
                END => return false,
                turn if turn == wanted => return true,
                turn => {
                    let _ = futex::wait(&locks.turn, futex::Flags::empty(), turn, None);
                }
            }
        },
    }
}

fn pass_turn(locks: &Locks, means: Means, turn: u32) {
    match means {
        Means::Condvar => {
            if let Ok(mut guard) = locks.mutex.lock() {
                *guard = u64::from(turn);
            }
            locks.condvar.notify_one();
        }
        Means::Event => {
            locks.turn.store(turn, Ordering::Relaxed);
            if turn % 2 == 1 { &locks.event } else { &locks.answer }.set();
        }
        Means::Futex => {
            locks.turn.store(turn, Ordering::Release);
            let _ = futex::wake(&locks.turn, futex::Flags::empty(), 1);
        }
    }
}

struct Player {
    shared: Shared,
    means: Means,
    /// Ends the other when this one does.
    partner: Option<Partner<Connection<(), ()>>>,
}

impl Drop for Player {
    fn drop(&mut self) {
        pass_turn(&self.shared, self.means, END);
        self.partner = None;
    }
}

/// There and back: two wake-ups.
pub(super) fn ping_pong(means: Means) -> io::Result<Run> {
    let shared = Shared::new()?;
    let (ours, theirs) = duplex()?;
    let process = answers::spawn(shared.again()?, means, theirs);
    let player = Player { shared, means, partner: Some(Partner::new(ours, process)?) };
    let mut turn = 0;
    Ok(Box::new(move |count| {
        let start = Instant::now();
        for _ in 0..count {
            turn += 2;
            pass_turn(&player.shared, means, turn - 1);
            if !await_turn(&player.shared, means, turn) {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
        }
        Ok::<Duration, io::Error>(start.elapsed())
    }))
}
