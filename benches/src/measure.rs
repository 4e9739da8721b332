//! Rounds in which everybody takes a turn.
//!
//! A figure of this machine at this moment says little; a ratio of two that were taken a few
//! milliseconds apart says a lot. So the contenders of a row take turns, in an order that rotates,
//! for many rounds, and each round gives one ratio.

use std::io;
use std::time::{Duration, Instant};

use crate::raw;

/// Carries out so many operations, and says how long they took.
pub type Run = Box<dyn FnMut(u32) -> io::Result<Duration>>;

/// How often the same number of operations may fill a turn until that is believed.
const TRIES: u32 = 2;

/// What a contender is in its row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Role {
    /// This library: exactly one of each row.
    Ours,
    /// What the kernel allows. The goal is the most that ours may take, in times of this.
    Limit(Option<f64>),
    /// Another library: ours should take less.
    Peer,
}

/// Somebody who can do what the row measures.
pub struct Contender {
    pub role: Role,
    pub name: String,
    /// Or why it could not be started.
    pub run: Result<Run, String>,
}

impl Contender {
    pub fn new(role: Role, name: &str, run: io::Result<Run>) -> Self {
        Self { role, name: name.to_owned(), run: run.map_err(|error| error.to_string()) }
    }

    pub fn ours(name: &str, run: io::Result<Run>) -> Self {
        Self::new(Role::Ours, name, run)
    }

    pub fn limit(name: &str, goal: impl Into<Option<f64>>, run: io::Result<Run>) -> Self {
        Self::new(Role::Limit(goal.into()), name, run)
    }
}

/// How much time there is.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    pub quick: bool,
}

impl Scale {
    /// For one row.
    fn budget(self) -> Duration {
        if self.quick { Duration::from_millis(800) } else { Duration::from_secs(8) }
    }

    /// For one turn: less than the kernel lets somebody else run for, so that on a busy machine
    /// some turns are undisturbed.
    fn turn(self) -> Duration {
        Duration::from_millis(if self.quick { 2 } else { 3 })
    }

    fn rounds(self) -> std::ops::RangeInclusive<u32> {
        if self.quick { 3..=50 } else { 9..=500 }
    }
}

/// One thing that is measured.
pub struct Row {
    pub name: String,
    /// Everybody has to share one core.
    pub pinned: bool,
    /// So many operations are a turn, however long they take. By default as many as fill its time.
    pub operations: Option<u32>,
    /// None, if there is not enough time or memory for it.
    pub contenders: Box<dyn Fn(Scale) -> Vec<Contender>>,
}

/// What one contender took for one operation, in nanoseconds, in each round.
#[derive(Debug)]
pub struct Sample {
    pub role: Role,
    pub name: String,
    pub rounds: Result<Vec<f64>, String>,
}

impl Row {
    /// Measures every contender.
    pub fn measure(&self, scale: Scale) -> io::Result<Vec<Sample>> {
        // Processes inherit it, so it comes before they are started.
        let pinned = if self.pinned { Some(raw::Pinned::to_one_core()?) } else { None };
        let mut contenders = (self.contenders)(scale);
        let mut samples: Vec<_> = contenders
            .iter()
            .map(|contender| Sample { role: contender.role, name: contender.name.clone(), rounds: Ok(Vec::new()) })
            .collect();

        let mut operations = vec![1; contenders.len()];
        let mut round_takes = Duration::ZERO;
        for (place, contender) in contenders.iter_mut().enumerate() {
            match warm_up(&mut contender.run, self.operations, scale.turn()) {
                Ok((count, takes)) => {
                    operations[place] = count;
                    round_takes += takes;
                }
                Err(why) => samples[place].rounds = Err(why),
            }
        }
        let wanted = scale.budget().as_secs_f64() / round_takes.as_secs_f64().max(1e-6);
        let rounds = (wanted as u32).clamp(*scale.rounds().start(), *scale.rounds().end());
        for round in 0..rounds as usize {
            for turn in 0..contenders.len() {
                let place = (round + turn) % contenders.len();
                let (Ok(run), Ok(times)) = (&mut contenders[place].run, &mut samples[place].rounds) else { continue };
                match run(operations[place]) {
                    Ok(time) => times.push(time.as_secs_f64() * 1e9 / f64::from(operations[place])),
                    Err(error) => samples[place].rounds = Err(error.to_string()),
                }
            }
        }
        drop(contenders);
        drop(pinned);
        Ok(samples)
    }
}

/// Runs until a turn's time is filled, or as many operations as are `fixed`, and returns how many
/// that were and what they took on the clock.
fn warm_up(run: &mut Result<Run, String>, fixed: Option<u32>, turn: Duration) -> Result<(u32, Duration), String> {
    let run = run.as_mut().map_err(|why| why.clone())?;
    // The first may have to wait for a process that has just been started.
    run(1).map_err(|error| error.to_string())?;
    let mut count = fixed.unwrap_or(1);
    let mut again = TRIES;
    loop {
        let start = Instant::now();
        run(count).map_err(|error| error.to_string())?;
        let takes = start.elapsed();
        if fixed.is_some() {
            return Ok((count, takes));
        } else if takes < turn / 2 && count < 1 << 20 {
            (count, again) = (count * 2, TRIES);
        } else if takes < turn * 10 && again > 0 {
            // Something else may have run meanwhile. A turn of too few operations would measure how
            // it begins and ends.
            again -= 1;
        } else {
            return Ok((count, takes));
        }
    }
}

/// The least, the middle, and how far apart the quarters are, as a part of the middle.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub struct Summary {
    pub best: f64,
    pub median: f64,
    pub spread: f64,
}

impl Summary {
    /// `None` if there is nothing to sum up.
    pub fn of(values: &[f64]) -> Option<Self> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let at = |part: f64| sorted.get(((sorted.len() as f64 - 1.0) * part).round() as usize).copied();
        let (best, median) = (*sorted.first()?, at(0.5)?);
        let spread = (at(0.75)? - at(0.25)?) / median;
        Some(Self { best, median, spread })
    }
}
