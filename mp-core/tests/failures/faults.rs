//! Processes are killed at instants of chance. Whatever they were doing, joining gives the value or
//! names the signal, and nothing is left.
//!
//! How often and when is said by `MP_FAULTS` and `MP_FAULTS_SEED`: see `mp-testing/src/faults.rs`.

use std::time::{Duration, Instant};

use mp_core::{Builder, ExitStatus, JoinError, Process, Receiver, Sender, Stdio, pipe, process_fn};
use mp_testing::faults::{Killer, Random, busy, count, limit};
use mp_testing::leaks::{Resources, status_kib};
use mp_testing::procfs::{self, number_of};
use mp_testing::start_method::is_not_for_fork_server;
use mp_testing::{PROMPTLY, run_for_ever, scenario};
use rustix::process::{Signal, WaitId, WaitIdOptions, kill_process, set_child_subreaper, waitid};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

/// How many children are killed if nobody says otherwise, and how many processes a killed parent is
/// counted as, with what it has started.
const CHILDREN: u64 = 400;
const FAMILY: u64 = 4;

/// What may grow: by how much memory differs from one moment to another.
const TOLERANCE_KIB: u64 = 8_192;

/// What an argument or a result is, by the way in which it travels.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
enum Kind {
    Nothing,
    Small,
    /// In a memory file of its own.
    Long,
    /// In one from the start.
    Large,
    Handles(u32),
}

const KINDS: [Kind; 6] = [Kind::Nothing, Kind::Small, Kind::Long, Kind::Large, Kind::Handles(3), Kind::Handles(300)];

impl Kind {
    fn length(self) -> usize {
        match self {
            Self::Nothing => 0,
            Self::Small | Self::Handles(_) => 40,
            Self::Long => 100 << 10,
            Self::Large => 3 << 20,
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Load {
    bytes: ByteBuf,
    /// Each holds its number, and has come to its end.
    handles: Vec<Receiver<u32>>,
}

impl Load {
    fn new(kind: Kind, salt: u8) -> Self {
        let count = if let Kind::Handles(count) = kind { count } else { 0 };
        let handle = |number| {
            let (sender, receiver) = pipe().unwrap();
            sender.send(number).unwrap();
            receiver
        };
        Self { bytes: ByteBuf::from(vec![salt; kind.length()]), handles: (0..count).map(handle).collect() }
    }

    #[track_caller]
    fn check(&self, kind: Kind, salt: u8) {
        assert!(self.bytes == vec![salt; kind.length()], "{kind:?}");
        for (expected, handle) in (0..).zip(&self.handles) {
            assert_eq!(handle.iter().map(Result::unwrap).collect::<Vec<u32>>(), [expected], "{kind:?}");
        }
    }
}

#[process_fn]
fn work(stages: Sender<()>, argument: (Kind, Load), salt: u8, duration: Duration, result: Kind) -> Load {
    stages.send(()).unwrap();
    argument.1.check(argument.0, salt);
    busy(duration);
    Load::new(result, salt.wrapping_add(1))
}

/// How far the children had come.
#[derive(Debug, Default)]
struct Tally {
    /// Among those that follow: killed before the call that started it had returned.
    while_it_was_started: u64,
    before_the_function: u64,
    after_it_had_begun: u64,
    with_a_value: u64,
}

scenario!(
    a_child_that_is_killed_at_any_instant_gives_its_value_or_the_signal_and_leaves_nothing,
    limit(count(CHILDREN)),
    {
        let mut random = Random::new();
        let killer = Killer::new();
        // How long each kind takes when nobody disturbs it, which says what to aim at.
        let mut spans = [[None; KINDS.len()]; KINDS.len()];
        let mut last = std::process::id();
        let mut tally = Tally::default();
        let mut first = None;
        let before = Resources::of_this_process();
        let rounds = count(CHILDREN);
        for round in 1..=rounds {
            let (argument, result) = (random.below(6) as usize, random.below(6) as usize);
            let span = &mut spans[argument][result];
            let (salt, duration) = (round as u8, random.moment(Duration::from_micros(300)));
            let (stages, staged) = pipe().unwrap();
            let load = (KINDS[argument], Load::new(KINDS[argument], salt));
            let call = work::call(stages, load, salt, duration, KINDS[result]);
            let hunted = span.is_some() && random.below(4) == 0;
            if hunted {
                killer.kill_next(last, random.moment(Duration::from_micros(500)));
            }
            let started = Instant::now();
            let process = Builder::new().spawn(call).unwrap();
            let returned = Instant::now();
            last = process.pid();
            let delay = span.map(|span: Duration| random.moment(span + span / 4));
            if let Some(delay) = delay.filter(|_| !hunted) {
                killer.kill(&process, delay);
            }
            let has_value = match process.join() {
                Ok(value) => {
                    value.check(KINDS[result], salt.wrapping_add(1));
                    true
                }
                Err(JoinError::Exited(ExitStatus::Signal { signal: libc::SIGKILL, core_dumped: false })) => false,
                Err(other) => panic!("round {round}, {:?} to {:?}: {other:?}", KINDS[argument], KINDS[result]),
            };
            // It ends, so nobody holds the child's end any more.
            let stages = staged.iter().map(Result::unwrap).count();
            match (stages, has_value) {
                (0, false) => tally.before_the_function += 1,
                (1, false) => tally.after_it_had_begun += 1,
                (1, true) => tally.with_a_value += 1,
                other => panic!("round {round}: {other:?}"),
            }
            if delay.is_some() {
                let killed = killer.finish();
                tally.while_it_was_started += u64::from(killed.is_some_and(|killed| killed < returned));
            } else {
                assert!(has_value, "nobody killed it");
                *span = Some(started.elapsed());
            }
            drop(staged);
            if round % 100 == 0 || round == rounds {
                assert_eq!(Resources::of_this_process(), before, "after {round} rounds");
                first.get_or_insert_with(|| status_kib("VmRSS"));
            }
        }
        println!("{tally:?}");
        let (first, now) = (first.unwrap_or(0), status_kib("VmRSS"));
        assert!(now <= first + TOLERANCE_KIB, "resident: {first} KiB, then {now}");
        if rounds >= CHILDREN {
            assert!(
                tally.before_the_function > 0 && tally.after_it_had_begun > 0 && tally.with_a_value > 0,
                "{tally:?}"
            );
        }
        killer.end();
    }
);

/// Starts processes of every kind, which start some in turn, until it is killed.
#[process_fn]
fn start_for_ever(seed: u64, levels: u32) {
    let mut random = Random::seeded(seed);
    let mut held: Vec<Process<Load>> = Vec::new();
    // Not more, or a slow machine would be full of them before the first is killed.
    for _ in 0..12 {
        match random.below(8) {
            0 => drop(run_for_ever::spawn()),
            1 => drop(stop::spawn()),
            2 => drop(block_signals::spawn()),
            3 | 4 if levels > 0 => drop(start_for_ever::spawn(random.next(), levels - 1)),
            _ => {
                let (argument, result) = (random.of(&KINDS[..5]), random.of(&KINDS[..5]));
                let (stages, _staged) = pipe().unwrap();
                let load = (argument, Load::new(argument, 1));
                held.push(work::spawn(stages, load, 1, random.moment(Duration::from_micros(300)), result).unwrap());
            }
        }
        if random.below(3) == 0 {
            if let Some(process) = held.pop() {
                // Its stage has no receiver.
                let _ = process.join();
            }
        }
    }
    loop {
        std::thread::park();
    }
}

#[process_fn]
fn stop() {
    kill_process(number_of(std::process::id()), Signal::STOP).unwrap();
}

#[process_fn]
fn block_signals() {
    let mut all = std::mem::MaybeUninit::uninit();
    // SAFETY: the call initialises the set that it is given.
    unsafe { libc::sigfillset(all.as_mut_ptr()) };
    // SAFETY: the set is initialised.
    unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, all.as_ptr(), std::ptr::null_mut()) };
    loop {
        std::hint::spin_loop();
    }
}

/// Reaps orphans until there is none, for a second at most, and returns how many there were.
fn reap_orphans() -> u64 {
    let mut reaped = 0;
    let gone = mp_testing::holds_within(PROMPTLY, || {
        loop {
            match waitid(WaitId::All, WaitIdOptions::EXITED | WaitIdOptions::NOHANG) {
                Ok(Some(_)) => reaped += 1,
                Ok(None) => return false,
                Err(rustix::io::Errno::CHILD) => return true,
                Err(error) => panic!("{error}"),
            }
        }
    });
    assert!(gone, "they live on:\n{}", procfs::describe(&procfs::children(std::process::id())));
    reaped
}

scenario!(what_a_parent_that_is_killed_at_any_instant_had_started_is_gone_within_a_second, limit(count(CHILDREN)), {
    if is_not_for_fork_server("the server is no orphan") {
        return;
    }
    let mut random = Random::new();
    // Orphans become children of this process, so none can hide, and each has to be reaped.
    set_child_subreaper(Some(number_of(std::process::id()))).unwrap();
    let before = Resources::of_this_process();
    let mut orphans = 0;
    let rounds = count(CHILDREN) / FAMILY;
    for round in 1..=rounds {
        let call = start_for_ever::call(random.next(), random.below(3) as u32);
        let streams = || Stdio::null();
        let parent = Builder::new().stdout(streams()).stderr(streams()).spawn(call).unwrap();
        busy(random.moment(Duration::from_millis(25)));
        parent.kill().unwrap();
        match parent.join() {
            Err(JoinError::Exited(ExitStatus::Signal { signal: libc::SIGKILL, .. })) => {}
            other => panic!("round {round}: {other:?}"),
        }
        orphans += reap_orphans();
        if round % 50 == 0 || round == rounds {
            assert_eq!(Resources::of_this_process(), before, "after {round} rounds");
        }
    }
    println!("{orphans} descendants were left behind, for a moment");
    assert!(orphans > rounds / 2, "the parents were killed before they had started anything: {orphans}");
});
