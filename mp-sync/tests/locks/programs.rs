//! Programs of chance in four processes, on one of everything at once: what holds inside, and what
//! is left when all have ended.

mod party;
mod program;
mod world;

use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use crate::memory::InShared;
use mp_core::{Connection, Process, duplex};
use mp_sync::OnceLock;
use mp_testing::faults::{Random, busy, count, limit};
use mp_testing::victims::was_killed;
use mp_testing::{PATIENCE, holds_within, scenario};
use party::run_programs;
use program::{Lock, Program, Programs, Step, bounds, has};
use world::{PARTIES, PERMITS, ROOM, Report, Said, World, both};

struct Child {
    /// Until it is killed.
    process: Option<Process<()>>,
    connection: Connection<Program, Said>,
}

impl Child {
    fn start(world: &InShared<World>, me: usize) -> Self {
        let (connection, theirs) = duplex().unwrap();
        Self { process: Some(run_programs::spawn(world.again(), me, theirs).unwrap()), connection }
    }

    #[track_caller]
    fn said(&self) -> Said {
        self.connection.recv_timeout(PATIENCE).expect("it lives").expect("it comes to an end")
    }

    fn done(&self) -> Report {
        match self.said() {
            Said::Done(report) => report,
            other => panic!("{other:?}"),
        }
    }

    fn met(&self) -> Option<u32> {
        match self.said() {
            Said::Met(number) => number,
            other => panic!("{other:?}"),
        }
    }
}

/// Says what ran when it failed.
struct Told<'p>(u64, &'p [Program; PARTIES], Option<(usize, Duration)>);

impl Drop for Told<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let Self(round, programs, victim) = self;
            eprintln!("round {round}, killed: {victim:?}");
            for (party, program) in programs.iter().enumerate() {
                eprintln!("party {party}:");
                program.iter().for_each(|step| eprintln!("    {step:?}"));
            }
        }
    }
}

/// What the world has counted at the end of a round.
struct Counts {
    mutex: u64,
    reentrant: u64,
    write: u64,
    made: u64,
    used: u64,
}

/// Looks at everything, while nobody else does: nothing is held, and nothing in disorder unless
/// somebody died, after which it is mended.
fn counts(world: &World) -> Counts {
    assert!(!world.mutex.is_locked() && !world.reentrant.is_locked() && !world.stock.is_locked());
    let (mutex, _) = world.got_mutex(world.mutex.try_lock()).expect("nobody holds it");
    let (mut reentrant, told) = world.got(world.reentrant.try_lock()).expect("nobody holds it");
    if told {
        reentrant[1].set(reentrant[0].get());
        reentrant.mark_consistent();
    }
    let (mut value, told) = world.got(world.value.try_write()).expect("nobody holds it");
    if told {
        let first = value[0];
        value.fill(first);
        value.mark_consistent();
    }
    assert!(reentrant[0] == reentrant[1] && value.iter().all(|number| *number == value[0]));
    let stock = world.got_stock(world.stock.try_lock()).expect("nobody holds it");
    assert!(stock.goods <= ROOM);
    assert_eq!(world.robust.available(), PERMITS as usize);
    Counts { mutex: mutex[0], reentrant: reentrant[0].get(), write: value[0], made: stock.made, used: stock.used }
}

/// That what the world has counted since is what the survivors did, and perhaps some of what the
/// dead was about to.
#[track_caller]
fn adds_up(before: u64, now: u64, reports: &[Report], of: impl Fn(&Report) -> u64, dead: u64) {
    let done = reports.iter().map(of).sum::<u64>();
    let range = before + done..=before + done + dead;
    assert!(range.contains(&now), "{now} is not in {range:?}");
}

struct Crew {
    world: InShared<World>,
    children: Vec<Child>,
    last: Counts,
}

impl Crew {
    fn new(somebody_dies: bool) -> Self {
        let world = InShared::new(World::new(somebody_dies));
        let children = (0..PARTIES).map(|me| Child::start(&world, me)).collect();
        let last = counts(&world);
        Self { world, children, last }
    }

    fn round(&mut self, programs: &[Program; PARTIES], victim: Option<(usize, Duration)>) {
        for (child, program) in self.children.iter().zip(programs) {
            child.connection.send_ref(program).unwrap();
        }
        let dead = victim.map(|(victim, after)| {
            busy(after);
            let process = self.children[victim].process.take().expect("it was started");
            process.kill().unwrap();
            was_killed(process);
            victim
        });
        let world = &*self.world;
        let survivors = || (0..PARTIES).filter(|party| Some(*party) != dead);
        let reports: Vec<_> = survivors().map(|party| self.children[party].done()).collect();
        if dead.is_some() {
            // All come to the barrier in time if the dead had come there.
            holds_within(Duration::from_millis(3), || world.met.load(SeqCst) as usize == PARTIES - 1);
            world.barrier.abort();
        }
        let mut numbers: Vec<_> = survivors().map(|party| self.children[party].met()).collect();
        numbers.sort();
        // All who survive meet, or none does.
        match dead {
            None => assert_eq!(numbers, [0, 1, 2, 3].map(Some)),
            Some(_) if numbers[0].is_none() => assert_eq!(numbers, [None; 3]),
            Some(_) => assert!(numbers.windows(2).all(|two| two[0] < two[1]) && numbers[2] < Some(4)),
        }
        self.check(programs, dead, &reports);
        self.clean_up(dead);
    }

    fn check(&mut self, programs: &[Program; PARTIES], dead: Option<usize>, reports: &[Report]) {
        let world = &*self.world;
        let living = || (0..PARTIES).filter(|party| Some(*party) != dead).map(|party| &programs[party]);
        let its = || dead.map(|dead| &programs[dead]);
        let (last, now) = (&self.last, counts(world));
        let locks = [
            (
                last.mutex,
                now.mutex,
                (|report| report.mutex) as fn(&Report) -> u64,
                (|lock| lock == Lock::Mutex) as fn(Lock) -> bool,
            ),
            (last.reentrant, now.reentrant, |report| report.reentrant, |lock| matches!(lock, Lock::Reentrant(_))),
            (last.write, now.write, |report| report.write, |lock| lock == Lock::Write),
        ];
        for (before, now, of, which) in locks {
            adds_up(before, now, reports, of, bounds(its(), which).most);
            let said = bounds(living(), which);
            assert!((said.least..=said.most).contains(&reports.iter().map(of).sum()));
        }
        let steps =
            |what: fn(&Step) -> bool| its().map_or(0, |program| program.iter().filter(|step| what(step)).count());
        adds_up(last.made, now.made, reports, |report| report.made, steps(|step| matches!(step, Step::Put(_))) as u64);
        adds_up(last.used, now.used, reports, |report| report.used, steps(|step| matches!(step, Step::Take(_))) as u64);

        let holds_a_permit = |step: &Step| match step {
            Step::Hold(locks, _) => locks.iter().any(|(lock, _)| *lock == Lock::Semaphore),
            _ => false,
        };
        let lost = PERMITS.checked_sub(world.semaphore.value()).expect("not more than at first");
        let held = world.inside.semaphore.load(SeqCst).count_ones();
        assert!((held..=u32::from(has(its(), holds_a_permit))).contains(&lost), "{lost} are lost, {held} were held");

        let sets = |step: &Step| matches!(step, Step::Set);
        if world.event.is_set() {
            assert!(has(programs, sets));
        } else {
            assert!(!has(living(), sets) || has(programs, |step| matches!(step, Step::Clear)));
        }

        let makes = |step: &Step| matches!(step, Step::Init(_));
        let value = world.once.get().map(|value| value[0]);
        assert!(reports.iter().all(|report| report.once.is_none() || report.once == value));
        assert!(value.is_some() || !has(living(), makes));
        assert!(value.is_none_or(|value| has([&programs[value as usize - 1]], makes)));
        let (least, most) = (u32::from(value.is_some()), u32::from(value.is_some()) + u32::from(has(its(), makes)));
        assert!((least..=most).contains(&world.makes.load(SeqCst)), "the value was made more than once");
        for inside in world.inside.all() {
            let bits = inside.load(SeqCst);
            assert_eq!(bits & !dead.map_or(0, both), 0, "some survivor is inside");
        }
        self.last = now;
    }

    /// Takes back what lasts: nobody else is there until the next round.
    fn clean_up(&mut self, dead: Option<usize>) {
        let world = &*self.world;
        let lost = PERMITS - world.semaphore.value();
        world.semaphore.release(lost).unwrap();
        world.event.clear();
        world.inside.all().iter().for_each(|inside| inside.store(0, SeqCst));
        [&world.sets, &world.makes, &world.met].iter().for_each(|count| count.store(0, SeqCst));
        if dead.is_some() {
            world.barrier.reset();
        }
        assert!(!world.barrier.is_broken() && world.barrier.waiting() == 0);
        // SAFETY: the place is in the world, which lasts.
        let cell = unsafe { &raw mut (*self.world.place()).once };
        // SAFETY: all processes wait for their next program, and nobody has a reference to the
        // cell.
        unsafe { cell.write(OnceLock::new()) };
        if let Some(dead) = dead {
            self.children[dead] = Child::start(&self.world, dead);
        }
    }

    fn end(self) {
        for child in self.children {
            drop(child.connection);
            child.process.expect("it is alive").join().unwrap();
        }
    }
}

const ROUNDS: u64 = 100;

scenario!(programs_of_chance_keep_to_the_rules, limit(count(ROUNDS)), {
    let mut programs = Programs::new(Random::new().next(), false);
    let mut crew = Crew::new(false);
    for round in 0..count(ROUNDS) {
        let programs = programs.next();
        let _told = Told(round, &programs, None);
        crew.round(&programs, None);
    }
    crew.end();
});

const KILLED: u64 = 40;

scenario!(programs_of_chance_survive_the_death_of_one_at_any_instant, limit(count(KILLED)), {
    let mut random = Random::new();
    let mut programs = Programs::new(random.next(), true);
    let mut crew = Crew::new(true);
    for round in 0..count(KILLED) {
        let programs = programs.next();
        let victim = (random.below(PARTIES as u64) as usize, random.moment(Duration::from_millis(4)));
        let _told = Told(round, &programs, Some(victim));
        crew.round(&programs, Some(victim));
    }
    crew.end();
});
