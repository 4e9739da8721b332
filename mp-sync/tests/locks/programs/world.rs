//! One of everything in shared memory.

use std::cell::Cell;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

use mp_sync::{
    Barrier, Condvar, Event, LockError, Mutex, MutexGuard, OnceLock, ReentrantMutex, RobustSemaphore, RwLock, Semaphore,
};
use serde::{Deserialize, Serialize};

pub(crate) const PARTIES: usize = 4;
pub(crate) const PERMITS: u32 = 2;
pub(crate) const ROOM: u64 = 2;

/// Each value is in order when all its numbers are equal.
pub(crate) struct World {
    pub(crate) mutex: Mutex<[u64; 2]>,
    pub(crate) reentrant: ReentrantMutex<[Cell<u64>; 2]>,
    pub(crate) value: RwLock<[u64; 4], 4>,
    pub(crate) semaphore: Semaphore,
    pub(crate) robust: RobustSemaphore<4>,
    pub(crate) event: Event,
    pub(crate) stock: Mutex<Stock>,
    pub(crate) filled: Condvar,
    pub(crate) emptied: Condvar,
    pub(crate) barrier: Barrier,
    pub(crate) once: OnceLock<[u64; 4]>,
    pub(crate) somebody_dies: bool,
    /// The thread that runs each program.
    pub(crate) threads: [AtomicU32; PARTIES],
    /// Who is inside: a bit for each party, and another 8 bits higher for who writes or has a
    /// second permit.
    pub(crate) inside: Inside,
    /// How often the event was about to be set, and the value of the cell to be made.
    pub(crate) sets: AtomicU32,
    pub(crate) makes: AtomicU32,
    pub(crate) met: AtomicU32,
}

#[derive(Default)]
pub(crate) struct Inside {
    pub(crate) mutex: AtomicU32,
    pub(crate) reentrant: AtomicU32,
    pub(crate) value: AtomicU32,
    pub(crate) semaphore: AtomicU32,
    pub(crate) robust: AtomicU32,
}

impl Inside {
    pub(crate) fn all(&self) -> [&AtomicU32; 5] {
        [&self.mutex, &self.reentrant, &self.value, &self.semaphore, &self.robust]
    }
}

/// In order, `goods` are those that were made and not used.
#[derive(Default, Debug)]
pub(crate) struct Stock {
    pub(crate) goods: u64,
    pub(crate) made: u64,
    pub(crate) used: u64,
}

/// What a process did.
#[derive(Clone, Copy, Default, Debug, Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) mutex: u64,
    pub(crate) reentrant: u64,
    pub(crate) write: u64,
    pub(crate) made: u64,
    pub(crate) used: u64,
    /// What it found in the cell.
    pub(crate) once: Option<u64>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Said {
    Done(Report),
    /// With its number at the barrier, unless that was broken.
    Met(Option<u32>),
}

pub(crate) fn is_in_order(numbers: &[u64]) -> bool {
    numbers.iter().all(|number| *number == numbers[0])
}

type Locked<'w, T> = Result<Option<MutexGuard<'w, T>>, LockError<MutexGuard<'w, T>>>;

impl World {
    pub(crate) fn new(somebody_dies: bool) -> Self {
        Self {
            mutex: Mutex::default(),
            reentrant: ReentrantMutex::default(),
            value: RwLock::default(),
            semaphore: Semaphore::new(PERMITS),
            robust: RobustSemaphore::with_capacity(PERMITS),
            event: Event::new(),
            stock: Mutex::default(),
            filled: Condvar::new(),
            emptied: Condvar::new(),
            barrier: Barrier::new(PARTIES as u32),
            once: OnceLock::new(),
            somebody_dies,
            threads: Default::default(),
            inside: Inside::default(),
            sets: AtomicU32::new(0),
            makes: AtomicU32::new(0),
            met: AtomicU32::new(0),
        }
    }

    /// The guard, and whether it comes with the news that somebody died, which is none where nobody
    /// does.
    #[track_caller]
    pub(crate) fn got<G>(&self, result: Result<Option<G>, LockError<G>>) -> Option<(G, bool)> {
        match result {
            Ok(guard) => guard.map(|guard| (guard, false)),
            Err(LockError::OwnerDied(guard)) => {
                assert!(self.somebody_dies, "nobody has died");
                Some((guard, true))
            }
            Err(error) => panic!("{error}"),
        }
    }

    #[track_caller]
    pub(crate) fn got_mutex<'w>(&self, result: Locked<'w, [u64; 2]>) -> Option<(MutexGuard<'w, [u64; 2]>, bool)> {
        let (mut guard, told) = self.got(result)?;
        if told {
            guard[1] = guard[0];
            guard.mark_consistent();
        }
        assert!(is_in_order(&*guard));
        Some((guard, told))
    }

    /// The same for the stock, as it was made and used.
    #[track_caller]
    pub(crate) fn got_stock<'w>(&self, result: Locked<'w, Stock>) -> Option<MutexGuard<'w, Stock>> {
        let (mut stock, told) = self.got(result)?;
        if told {
            stock.goods = stock.made - stock.used;
            stock.mark_consistent();
        }
        assert!(stock.goods == stock.made - stock.used && stock.goods <= ROOM, "{stock:?}");
        Some(stock)
    }

    /// The bits of those who are still alive. A thread is exiting before the kernel lets go of what
    /// it holds.
    pub(crate) fn alive(&self, bits: u32) -> u32 {
        let is_gone = |party: &usize| bits & both(*party) != 0 && is_exiting(self.threads[*party].load(SeqCst));
        (0..PARTIES).filter(is_gone).fold(bits, |alive, party| alive & !both(party))
    }

    /// For one who comes in alone: those whom it finds inside died there, of which it was told.
    pub(crate) fn alone(&self, inside: &AtomicU32, me: u32, told: bool) {
        let others = inside.fetch_or(me, SeqCst);
        if others != 0 {
            assert_eq!(self.alive(others), 0, "{others:#x} were inside");
            assert!(told, "{others:#x} died inside, and nobody was told");
            inside.fetch_and(!others, SeqCst);
        }
    }
}

/// The bits of a party.
pub(crate) fn both(party: usize) -> u32 {
    0x101 << party
}

fn is_exiting(thread: u32) -> bool {
    const PF_EXITING: u64 = 4;
    let Ok(status) = std::fs::read_to_string(format!("/proc/{thread}/stat")) else { return true };
    let fields: Vec<_> = status.rsplit(')').next().unwrap().split_whitespace().collect();
    matches!(fields[0], "Z" | "X") || fields[6].parse::<u64>().unwrap() & PF_EXITING != 0
}
