//! What a process does in one round, as data.

use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use serde::{Deserialize, Serialize};

/// What can be held, in the one order in which all take them. The two ways into the lock for
/// readers exclude each other.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub(crate) enum Lock {
    Mutex,
    /// So many times at once.
    Reentrant(u8),
    Read,
    Write,
    Semaphore,
    Robust,
}

impl Lock {
    fn rank(self) -> u32 {
        match self {
            Self::Mutex => 0,
            Self::Reentrant(_) => 1,
            Self::Read | Self::Write => 2,
            Self::Semaphore => 3,
            Self::Robust => 4,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) enum How {
    Try,
    Within(Duration),
    Block,
}

/// What is done with something held, or with nothing.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) enum Work {
    Spin(u16),
    Yield,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Step {
    /// Takes one after another, and goes on without what it does not get.
    Hold(Vec<(Lock, How)>, Work),
    Put(How),
    Take(How),
    NotifyAll,
    Set,
    Clear,
    IsSet,
    WaitForEvent(Duration),
    /// Makes the value of the cell if there is none.
    Init(Work),
    /// Begins to make it, and gives up.
    InitInVain,
    WaitForCell(Duration),
}

pub(crate) type Program = Vec<Step>;

/// At least and at most so many times.
pub(crate) struct Bounds {
    pub(crate) least: u64,
    pub(crate) most: u64,
}

/// How often that is got: whoever waits for as long as it takes gets it.
pub(crate) fn bounds<'p>(programs: impl IntoIterator<Item = &'p Program>, which: impl Fn(Lock) -> bool) -> Bounds {
    let holds = programs.into_iter().flatten().filter_map(|step| match step {
        Step::Hold(locks, _) => locks.iter().find(|(lock, _)| which(*lock)),
        _ => None,
    });
    holds.fold(Bounds { least: 0, most: 0 }, |sum, (_, how)| Bounds {
        least: sum.least + u64::from(*how == How::Block),
        most: sum.most + 1,
    })
}

pub(crate) fn has<'p>(programs: impl IntoIterator<Item = &'p Program>, what: impl Fn(&Step) -> bool) -> bool {
    programs.into_iter().flatten().any(what)
}

/// Programs that are the same whenever the seed is. They are not made simpler when they fail: what
/// failed once in some order of events need not fail the next time, and a hang takes long to
/// notice.
pub(crate) struct Programs {
    runner: TestRunner,
    strategy: BoxedStrategy<[Program; 4]>,
}

impl Programs {
    /// Where somebody dies, nobody waits for a plain permit for as long as it takes.
    pub(crate) fn new(seed: u64, somebody_dies: bool) -> Self {
        let bytes: Vec<u8> = seed.to_le_bytes().into_iter().cycle().take(32).collect();
        let runner = TestRunner::new_with_rng(Config::default(), TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
        let program = vec(step(somebody_dies), 1..40).boxed();
        let strategy = [program.clone(), program.clone(), program.clone(), program].boxed();
        Self { runner, strategy }
    }

    pub(crate) fn next(&mut self) -> [Program; 4] {
        self.strategy.new_tree(&mut self.runner).unwrap().current()
    }
}

fn short() -> impl Strategy<Value = Duration> + Clone {
    (0..200_u64).prop_map(Duration::from_micros)
}

fn how() -> impl Strategy<Value = How> + Clone {
    prop_oneof![2 => Just(How::Try), 2 => short().prop_map(How::Within), 3 => Just(How::Block)]
}

fn work() -> impl Strategy<Value = Work> + Clone {
    prop_oneof![2 => (0..600_u16).prop_map(Work::Spin), 1 => Just(Work::Yield)]
}

fn hold(somebody_dies: bool) -> impl Strategy<Value = Step> {
    let lock = prop_oneof![
        Just(Lock::Mutex),
        (1..4_u8).prop_map(Lock::Reentrant),
        Just(Lock::Read),
        Just(Lock::Write),
        Just(Lock::Semaphore),
        Just(Lock::Robust),
    ];
    (vec((lock, how()), 1..5), work()).prop_map(move |(mut locks, work)| {
        locks.sort_by_key(|(lock, _)| lock.rank());
        locks.dedup_by_key(|(lock, _)| lock.rank());
        for (lock, how) in &mut locks {
            if somebody_dies && *lock == Lock::Semaphore && *how == How::Block {
                *how = How::Within(Duration::from_micros(300));
            }
        }
        Step::Hold(locks, work)
    })
}

fn step(somebody_dies: bool) -> impl Strategy<Value = Step> {
    let shortly = || prop_oneof![Just(How::Try), short().prop_map(How::Within)];
    prop_oneof![
        16 => hold(somebody_dies),
        4 => shortly().prop_map(Step::Put),
        4 => shortly().prop_map(Step::Take),
        1 => Just(Step::NotifyAll),
        1 => Just(Step::Set),
        1 => Just(Step::Clear),
        1 => Just(Step::IsSet),
        2 => short().prop_map(Step::WaitForEvent),
        1 => work().prop_map(Step::Init),
        1 => Just(Step::InitInVain),
        1 => short().prop_map(Step::WaitForCell),
    ]
}
