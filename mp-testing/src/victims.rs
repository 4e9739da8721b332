//! Children that are killed while they use what is shared.

use std::time::Duration;

use mp_core::{Builder, Call, ExitStatus, JoinError, Process, ProcessFn, Receiver, Sender, pipe};

use crate::PATIENCE;
use crate::faults::{Killer, Random};

/// A child that has reported where it is, and stays there until it is killed.
pub struct Held(Process<()>);

impl Held {
    /// Starts a child that reports through the sender that it is there.
    pub fn start<F: ProcessFn<Output = ()>>(call: impl FnOnce(Sender<()>) -> Call<F>) -> Self {
        let (there, come) = pipe().unwrap();
        let process = Builder::new().spawn(call(there)).unwrap();
        come.recv_timeout(PATIENCE).unwrap().expect("the child gets there");
        Self(process)
    }

    /// Returns its number.
    pub fn pid(&self) -> u32 {
        self.0.pid()
    }

    /// Kills it.
    pub fn kill(self) {
        self.0.kill().unwrap();
        was_killed(self.0);
    }
}

/// Asserts that a child was killed, and nothing else has happened to it.
#[track_caller]
pub fn was_killed(process: Process<()>) {
    match process.join() {
        Err(JoinError::Exited(ExitStatus::Signal { signal: libc::SIGKILL, .. })) => {}
        other => panic!("it was to be killed: {other:?}"),
    }
}

/// Receives what a child sends, and panics if nothing comes in time.
#[track_caller]
pub fn soon<T: serde::de::DeserializeOwned>(receiver: &Receiver<T>) -> T {
    receiver.recv_timeout(PATIENCE).unwrap().expect("it comes")
}

/// Keeps `crowd` children alive and kills one after another, `rounds` times, at instants of chance.
/// Calls `doom` with the number of the one that is about to be killed, and `check` after each kill,
/// while the others go on.
pub fn kill_at_random<F: ProcessFn<Output = ()>>(
    crowd: usize,
    rounds: u64,
    start: impl Fn(u64, Sender<()>) -> Call<F>,
    doom: impl Fn(u64),
    mut check: impl FnMut(),
) {
    let mut random = Random::new();
    let killer = Killer::new();
    let mut numbers = 0..;
    let mut new = || {
        let (there, come) = pipe().unwrap();
        let number = numbers.next().unwrap();
        let process = Builder::new().spawn(start(number, there)).unwrap();
        soon(&come);
        (number, process)
    };
    let mut children: Vec<_> = (0..crowd).map(|_| new()).collect();
    for _ in 0..rounds {
        let (number, victim) = children.swap_remove(random.below(crowd as u64) as usize);
        doom(number);
        killer.kill(&victim, random.moment(Duration::from_micros(300)));
        killer.finish();
        check();
        was_killed(victim);
        children.push(new());
    }
    for (number, child) in children {
        doom(number);
        child.kill().unwrap();
        was_killed(child);
    }
    killer.end();
    check();
}
