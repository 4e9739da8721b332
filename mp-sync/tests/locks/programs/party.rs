//! How a process runs its program.

use std::sync::atomic::Ordering::SeqCst;
use std::thread::yield_now;
use std::time::{Duration, Instant};

use mp_core::{Connection, process_fn};
use mp_sync::{BarrierError, Condvar, LockError, MutexGuard};

use super::program::{How, Lock, Program, Step, Work};
use super::world::{PERMITS, ROOM, Report, Said, Stock, World, is_in_order};
use crate::memory::InShared;
use mp_testing::PATIENCE;

/// Runs one program after another, until there are no more.
#[process_fn]
pub(crate) fn run_programs(world: InShared<World>, me: usize, programs: Connection<Said, Program>) {
    world.threads[me].store(rustix::thread::gettid().as_raw_nonzero().get() as u32, SeqCst);
    for program in programs.iter() {
        let mut party = Party { world: &world, me, report: Report::default() };
        program.unwrap().iter().for_each(|step| party.step(step));
        if !world.somebody_dies {
            party.trade();
        }
        programs.send(Said::Done(party.report)).unwrap();
        let met = match world.barrier.wait_timeout(PATIENCE) {
            Ok(number) => Some(number),
            Err(BarrierError::Broken) if world.somebody_dies => None,
            Err(error) => panic!("{error}"),
        };
        world.met.fetch_add(1, SeqCst);
        programs.send(Said::Met(met)).unwrap();
    }
}

fn spend(work: Work) {
    match work {
        Work::Spin(times) => (0..times).for_each(|_| std::hint::spin_loop()),
        Work::Yield => yield_now(),
    }
}

/// One number after the other, so that there is a middle.
fn increment(numbers: &mut [u64], work: Work) {
    let next = numbers[0] + 1;
    for (index, number) in numbers.iter_mut().enumerate() {
        // SAFETY: it is there. Volatile, so that they are not written at once.
        unsafe { (&raw mut *number).write_volatile(next) };
        if index == 0 {
            spend(work);
        }
    }
}

fn bit(party: usize) -> u32 {
    1 << party
}

struct Party<'w> {
    world: &'w World,
    me: usize,
    report: Report,
}

impl Party<'_> {
    fn step(&mut self, step: &Step) {
        let world = self.world;
        match step {
            Step::Hold(locks, work) => self.hold(locks, *work),
            Step::Put(how) => _ = self.put(*how),
            Step::Take(how) => _ = self.take(*how),
            Step::NotifyAll => {
                world.filled.notify_all();
                world.emptied.notify_all();
            }
            Step::Set => {
                world.sets.fetch_add(1, SeqCst);
                world.event.set();
            }
            Step::Clear => world.event.clear(),
            Step::IsSet => assert!(!world.event.is_set() || world.sets.load(SeqCst) > 0),
            Step::WaitForEvent(time) => assert!(!world.event.wait_timeout(*time) || world.sets.load(SeqCst) > 0),
            Step::Init(work) => {
                let make = || {
                    world.makes.fetch_add(1, SeqCst);
                    spend(*work);
                    [self.me as u64 + 1; 4]
                };
                let value = *world.once.get_or_init(make);
                self.found(&value);
                assert_eq!(world.once.set([9; 4]), Err([9; 4]));
            }
            Step::InitInVain => {
                if let Ok(value) = world.once.get_or_try_init(|| Err(())) {
                    self.found(value);
                }
            }
            Step::WaitForCell(time) => {
                if let Some(value) = world.once.wait_timeout(*time) {
                    self.found(value);
                    assert_eq!(world.once.get(), Some(value));
                }
            }
        }
    }

    fn found(&mut self, value: &[u64; 4]) {
        assert!(is_in_order(value));
        assert_eq!(*self.report.once.get_or_insert(value[0]), value[0], "the cell has changed");
    }

    fn hold(&mut self, locks: &[(Lock, How)], work: Work) {
        let Some(((lock, how), rest)) = locks.split_first() else { return spend(work) };
        let got = match lock {
            Lock::Mutex => self.mutex(*how, rest, work),
            Lock::Reentrant(times) => self.reentrant(*how, *times, rest, work),
            Lock::Read => self.read(*how, rest, work),
            Lock::Write => self.write(*how, rest, work),
            Lock::Semaphore => self.semaphore(*how, rest, work),
            Lock::Robust => self.robust(*how, rest, work),
        };
        assert!(got.is_some() || *how != How::Block);
        if got.is_none() {
            self.hold(rest, work);
        }
    }

    fn mutex(&mut self, how: How, rest: &[(Lock, How)], work: Work) -> Option<()> {
        let (world, me) = (self.world, bit(self.me));
        let (mut guard, told) = world.got_mutex(match how {
            How::Try => world.mutex.try_lock(),
            How::Within(time) => world.mutex.lock_timeout(time),
            How::Block => world.mutex.lock().map(Some),
        })?;
        world.alone(&world.inside.mutex, me, told);
        increment(&mut *guard, work);
        self.hold(rest, work);
        assert!(matches!(world.mutex.lock(), Err(LockError::Deadlock)));
        assert_eq!(world.inside.mutex.fetch_and(!me, SeqCst), me);
        self.report.mutex += 1;
        Some(())
    }

    fn reentrant(&mut self, how: How, times: u8, rest: &[(Lock, How)], work: Work) -> Option<()> {
        let (world, me) = (self.world, bit(self.me));
        let (mut guard, told) = world.got(match how {
            How::Try => world.reentrant.try_lock(),
            How::Within(time) => world.reentrant.lock_timeout(time),
            How::Block => world.reentrant.lock().map(Some),
        })?;
        if told {
            guard[1].set(guard[0].get());
            guard.mark_consistent();
        }
        world.alone(&world.inside.reentrant, me, told);
        let again: Vec<_> = (1..times).map(|_| world.reentrant.lock().unwrap()).collect();
        assert_eq!(guard[0], guard[1]);
        guard[0].set(guard[0].get() + 1);
        spend(work);
        self.hold(rest, work);
        drop(again);
        guard[1].set(guard[1].get() + 1);
        assert_eq!(guard[0], guard[1]);
        assert_eq!(world.inside.reentrant.fetch_and(!me, SeqCst), me);
        self.report.reentrant += 1;
        Some(())
    }

    fn read(&mut self, how: How, rest: &[(Lock, How)], work: Work) -> Option<()> {
        let (world, me) = (self.world, bit(self.me));
        let (guard, told) = world.got(match how {
            How::Try => world.value.try_read(),
            How::Within(time) => world.value.read_timeout(time),
            How::Block => world.value.read().map(Some),
        })?;
        let writers = world.inside.value.fetch_or(me, SeqCst) & 0xFF00;
        assert!(writers == 0 || told && world.alive(writers) == 0, "{writers:#x} write");
        let before = *guard;
        assert!(told || is_in_order(&before));
        self.hold(rest, work);
        let (again, _) = world.got(world.value.read().map(Some))?;
        assert_eq!(before, *again);
        drop(guard);
        assert_eq!(before, *again);
        assert!(matches!(world.value.write(), Err(LockError::Deadlock)));
        world.inside.value.fetch_and(!me, SeqCst);
        Some(())
    }

    fn write(&mut self, how: How, rest: &[(Lock, How)], work: Work) -> Option<()> {
        let (world, me) = (self.world, bit(self.me) << 8);
        let (mut guard, told) = world.got(match how {
            How::Try => world.value.try_write(),
            How::Within(time) => world.value.write_timeout(time),
            How::Block => world.value.write().map(Some),
        })?;
        let others = world.inside.value.fetch_or(me, SeqCst);
        if others != 0 {
            assert_eq!(world.alive(others), 0, "{others:#x} were inside");
            assert!(told || others & 0xFF00 == 0, "{others:#x} died inside, and nobody was told");
            world.inside.value.fetch_and(!others, SeqCst);
        }
        if told {
            let first = guard[0];
            guard.fill(first);
            guard.mark_consistent();
        }
        assert!(is_in_order(&*guard));
        increment(&mut *guard, work);
        self.hold(rest, work);
        assert!(is_in_order(&*guard));
        assert_eq!(world.inside.value.fetch_and(!me, SeqCst), me);
        self.report.write += 1;
        Some(())
    }

    /// The permits of the dead are missed here, so they count.
    fn semaphore(&mut self, how: How, rest: &[(Lock, How)], work: Work) -> Option<()> {
        let (world, me) = (self.world, bit(self.me));
        let permit = match how {
            How::Try => world.semaphore.try_acquire(),
            How::Within(time) => world.semaphore.acquire_timeout(time),
            How::Block => Some(world.semaphore.acquire()),
        }?;
        let others = world.inside.semaphore.fetch_or(me, SeqCst);
        assert!(others.count_ones() < PERMITS, "{others:#x} have permits");
        self.hold(rest, work);
        world.inside.semaphore.fetch_and(!me, SeqCst);
        drop(permit);
        Some(())
    }

    /// One permit, and one more if there is one.
    fn robust(&mut self, how: How, rest: &[(Lock, How)], work: Work) -> Option<()> {
        let (world, me) = (self.world, bit(self.me));
        let came_in = |me: u32| {
            let others = world.inside.robust.fetch_or(me, SeqCst);
            let is_room = |bits: u32| bits.count_ones() < PERMITS;
            assert!(is_room(others) || is_room(world.alive(others)), "{others:#x} have permits");
        };
        let permit = match how {
            How::Try => world.robust.try_acquire(),
            How::Within(time) => world.robust.acquire_timeout(time),
            How::Block => Some(world.robust.acquire()),
        }?;
        came_in(me);
        self.hold(rest, work);
        if let Some(second) = world.robust.try_acquire() {
            came_in(me << 8);
            spend(work);
            world.inside.robust.fetch_and(!(me << 8), SeqCst);
            drop(second);
        }
        world.inside.robust.fetch_and(!me, SeqCst);
        drop(permit);
        Some(())
    }

    fn put(&mut self, how: How) -> bool {
        let world = self.world;
        let Some(mut stock) = self.stock(how, &world.emptied, |stock| stock.goods < ROOM) else { return false };
        stock.made += 1;
        yield_now();
        stock.goods += 1;
        drop(stock);
        world.filled.notify_one();
        self.report.made += 1;
        true
    }

    fn take(&mut self, how: How) -> bool {
        let world = self.world;
        let Some(mut stock) = self.stock(how, &world.filled, |stock| stock.goods > 0) else { return false };
        stock.used += 1;
        yield_now();
        stock.goods -= 1;
        drop(stock);
        world.emptied.notify_one();
        self.report.used += 1;
        true
    }

    /// The stock when it is as it has to be. Whoever blocks waits for that for as long as it should
    /// ever take.
    fn stock(&self, how: How, changed: &Condvar, fits: impl Fn(&Stock) -> bool) -> Option<MutexGuard<'_, Stock>> {
        let world = self.world;
        let (time, locked) = match how {
            How::Try => (Duration::ZERO, world.stock.try_lock()),
            How::Within(time) => (time, world.stock.lock().map(Some)),
            How::Block => (PATIENCE, world.stock.lock().map(Some)),
        };
        let begun = Instant::now();
        let mut stock = world.got_stock(locked)?;
        while !fits(&stock) {
            let left = time.saturating_sub(begun.elapsed());
            if left.is_zero() {
                return None;
            }
            let result = changed.wait_timeout(stock, left);
            stock = world.got_stock(match result {
                Ok((stock, _)) => Ok(Some(stock)),
                Err(LockError::OwnerDied((stock, _))) => Err(LockError::OwnerDied(stock)),
                Err(error) => panic!("{error}"),
            })?;
        }
        Some(stock)
    }

    /// Two put two, and the other two take two, while nobody takes from them: there is always one
    /// who can.
    fn trade(&mut self) {
        self.world.barrier.wait_timeout(PATIENCE).unwrap();
        let is_done = if self.me % 2 == 0 { self.put(How::Block) } else { self.take(How::Block) };
        assert!(is_done, "no notification has come");
    }
}
