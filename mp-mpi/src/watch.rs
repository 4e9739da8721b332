//! Notices that a rank has been silent for too long.
//!
//! MPI learns that a host was cut off when its network gives up, which takes minutes, or never if
//! nothing is sent. So a rank that is watched says now and then that it is alive. Rank 0 watches
//! the agents, and they watch it.

use std::time::{Duration, Instant};

/// The variable that sets how many seconds a rank may be silent; 0 is no limit.
const VARIABLE: &str = "MP_MPI_SILENCE";

/// How long a rank may be silent, if the variable does not say.
const SILENCE: Duration = Duration::from_secs(60);

/// How often a rank speaks in that time.
const TIMES: u32 = 6;

/// How many times longer a rank may be silent behind a long message.
const PATIENCE: u32 = 10;

/// What one look counts at most. Time in which this process did not run is no silence of others.
const STEP: Duration = Duration::from_secs(1);

/// How long a rank may be silent; `None` is no limit.
pub(crate) fn limit() -> Option<Duration> {
    let seconds = std::env::var(VARIABLE).ok().and_then(|seconds| seconds.trim().parse().ok());
    let limit = seconds.map_or(SILENCE, Duration::from_secs);
    (!limit.is_zero()).then_some(limit)
}

#[derive(Debug)]
pub(crate) struct Watch {
    limit: Option<Duration>,
    /// For how long this process has watched.
    clock: Duration,
    looked: Instant,
    /// When this process last said that it is alive; `None` if it says so no more.
    spoke: Option<Duration>,
    /// The ranks that are watched, and when they were heard.
    heard: Vec<(usize, Duration)>,
}

impl Watch {
    pub(crate) fn new(ranks: impl Iterator<Item = usize>, limit: Option<Duration>, now: Instant) -> Self {
        let heard = ranks.map(|rank| (rank, Duration::ZERO)).collect();
        Self { limit, clock: Duration::ZERO, looked: now, spoke: Some(Duration::ZERO), heard }
    }

    pub(crate) fn set_limit(&mut self, limit: Option<Duration>) {
        self.limit = limit;
    }

    pub(crate) fn limit(&self) -> Option<Duration> {
        self.limit
    }

    /// The ranks that are watched.
    pub(crate) fn ranks(&self) -> Vec<usize> {
        self.heard.iter().map(|(rank, _)| *rank).collect()
    }

    /// Lets time pass. Returns whether it is time to say that this process is alive.
    pub(crate) fn look(&mut self, now: Instant) -> bool {
        self.clock += now.saturating_duration_since(self.looked).min(STEP);
        self.looked = now;
        let (Some(limit), Some(spoke)) = (self.limit, self.spoke) else { return false };
        let is_time = self.clock - spoke >= limit / TIMES;
        if is_time {
            self.spoke = Some(self.clock);
        }
        is_time
    }

    pub(crate) fn hear(&mut self, from: usize) {
        if let Some((_, heard)) = self.heard.iter_mut().find(|(rank, _)| *rank == from) {
            *heard = self.clock;
        }
    }

    /// This process says nothing more.
    pub(crate) fn fall_silent(&mut self) {
        self.spoke = None;
    }

    /// This rank says nothing more.
    pub(crate) fn forget(&mut self, gone: usize) {
        self.heard.retain(|(rank, _)| *rank != gone);
    }

    /// A rank that has been silent for too long.
    pub(crate) fn silent(&self, is_behind: impl Fn(usize) -> bool) -> Option<usize> {
        let limit = self.limit?;
        let is_silent = |(rank, heard): &&(usize, Duration)| {
            let silence = self.clock - *heard;
            silence > limit && (silence > limit * PATIENCE || !is_behind(*rank))
        };
        self.heard.iter().find(is_silent).map(|(rank, _)| *rank)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// Looks every half second, and returns when it was time to speak.
    fn pass(watch: &mut Watch, now: &mut Instant, time: Duration) -> Vec<Duration> {
        let mut spoke = Vec::new();
        for _ in 0..time.as_millis() / 500 {
            *now += Duration::from_millis(500);
            if watch.look(*now) {
                spoke.push(watch.clock);
            }
        }
        spoke
    }

    #[test]
    fn a_rank_that_says_nothing_is_found() {
        let mut now = Instant::now();
        let mut watch = Watch::new(1..4, Some(seconds(60)), now);
        assert_eq!(pass(&mut watch, &mut now, seconds(40)), [10, 20, 30, 40].map(seconds));
        watch.hear(1);
        watch.forget(3);
        pass(&mut watch, &mut now, seconds(20));
        assert_eq!(watch.silent(|_| false), None);
        pass(&mut watch, &mut now, seconds(1));
        assert_eq!(watch.silent(|_| false), Some(2));
        // What it says may be behind a long message.
        assert_eq!(watch.silent(|rank| rank == 2), None);
        watch.hear(1);
        pass(&mut watch, &mut now, seconds(540));
        watch.hear(1);
        assert_eq!(watch.silent(|rank| rank == 2), Some(2));
        watch.fall_silent();
        assert_eq!(pass(&mut watch, &mut now, seconds(40)), []);
    }

    #[test]
    fn time_in_which_a_process_was_stopped_does_not_count() {
        let mut now = Instant::now();
        let mut watch = Watch::new(std::iter::once(0), Some(seconds(60)), now);
        pass(&mut watch, &mut now, seconds(50));
        now += seconds(3600);
        watch.look(now);
        assert_eq!(watch.silent(|_| false), None);
        pass(&mut watch, &mut now, seconds(10));
        assert_eq!(watch.silent(|_| false), Some(0));
    }

    #[test]
    fn without_a_limit_nothing_is_said_and_nothing_found() {
        let mut now = Instant::now();
        let mut watch = Watch::new(1..3, None, now);
        assert_eq!(pass(&mut watch, &mut now, seconds(7200)), []);
        assert_eq!(watch.silent(|_| false), None);
    }
}
