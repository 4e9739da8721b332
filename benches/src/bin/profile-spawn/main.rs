//! `profile-spawn [ROUNDS] [ours|plain]`: where the time of a spawn goes.
//!
//! It starts and joins a function that does nothing but look at the clock, and in turn this same
//! program with posix_spawn and waitpid, which looks at the clock in `main`; and prints the phases
//! of both beside each other. What ours takes longer is ours. With `ours` or `plain` it starts
//! those only, for `strace -f -c` and the like.

#![deny(unsafe_code)]

#[allow(unsafe_code, reason = "constructors, a destructor, shared memory, and a function of the C library")]
mod stamps;

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::process::ExitCode;
use std::sync::atomic::Ordering::Relaxed;

use mp_bench::measure::Summary;
use mp_bench::partner::{Handle, failed};
use mp_bench::raw::{self, now};
use mp_bench::report::in_words;
use mp_core::process_fn;

/// The argument that makes this program the plain child.
const PLAIN: &str = "--plain";

const PHASES: [&str; 9] = [
    "before posix_spawn",
    "posix_spawn",
    "after posix_spawn (the child runs already)",
    "posix_spawn returned -> first constructor",
    "first constructor -> function, or main",
    "function",
    "function -> last destructor",
    "last destructor -> joined",
    "all",
];

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let first = arguments.next();
    if first.as_deref() == Some(PLAIN) {
        let number = arguments.next().and_then(|number| number.parse().ok());
        return match number.map(|number| stamps::begin(stamps::inherited(number))) {
            Some(Ok(page)) => {
                page.end.store(now(), Relaxed);
                ExitCode::SUCCESS
            }
            _ => ExitCode::FAILURE,
        };
    }
    let rounds = first.and_then(|rounds| rounds.parse().ok()).unwrap_or(500);
    match profile(rounds, arguments.next().as_deref()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("profile-spawn: {error}");
            ExitCode::FAILURE
        }
    }
}

#[process_fn]
fn look(page: Handle) {
    if let Ok(page) = stamps::begin(page.as_fd()) {
        page.end.store(now(), Relaxed);
    }
}

fn profile(rounds: u32, only: Option<&str>) -> io::Result<()> {
    let (file, page) = stamps::create()?;
    let mut ours: [Vec<f64>; PHASES.len()] = Default::default();
    let mut plain = ours.clone();
    for round in 0..=rounds {
        if only != Some("plain") {
            let handle = Handle(file.try_clone()?);
            let times = measure(page, || Ok(look::spawn(handle)?), |process| process.join().map_err(failed))?;
            record(&mut ours, round, &times);
        }
        if only != Some("ours") {
            let times = measure(page, || start_plain(&file), raw::wait)?;
            record(&mut plain, round, &times);
        }
    }
    println!("{:<44} {:>21} {:>21} {:>12}", "", "ours: best, middle", "plain: best, middle", "difference");
    for (place, phase) in PHASES.iter().enumerate() {
        let (ours, plain) = (Summary::of(&ours[place]), Summary::of(&plain[place]));
        let words = |summary: Option<Summary>| match summary {
            Some(summary) => format!("{:>10} {:>10}", in_words(summary.best), in_words(summary.median)),
            None => String::new(),
        };
        let difference = match (ours, plain) {
            (Some(ours), Some(plain)) => format!("{:+.1} µs", (ours.median - plain.median) / 1e3),
            _ => String::new(),
        };
        println!("{phase:<44} {:>21} {:>21} {difference:>12}", words(ours), words(plain));
    }
    Ok(())
}

fn start_plain(file: &OwnedFd) -> io::Result<rustix::process::Pid> {
    let arguments = ["profile-spawn", PLAIN, &file.as_raw_fd().to_string()].map(CString::new);
    let arguments = arguments.into_iter().collect::<Result<Vec<_>, _>>()?;
    raw::spawn(c"/proc/self/exe", &arguments)
}

/// Starts and joins a process, and returns how long each phase took, in nanoseconds.
fn measure<P>(
    page: &stamps::Page,
    start: impl FnOnce() -> io::Result<P>,
    join: impl FnOnce(P) -> io::Result<()>,
) -> io::Result<[f64; PHASES.len()]> {
    let began = now();
    let process = start()?;
    let started = now();
    join(process)?;
    let joined = now();
    let (called, returned) = (stamps::CALLED.load(Relaxed), stamps::RETURNED.load(Relaxed));
    let [constructor, begin, end, destructor] =
        [&page.constructor, &page.begin, &page.end, &page.destructor].map(|stamp| stamp.load(Relaxed));
    // In the order of `PHASES`. The child may be ahead of the parent's return, so a phase can be
    // negative.
    let phases = [
        (began, called),
        (called, returned),
        (returned, started),
        (returned, constructor),
        (constructor, begin),
        (begin, end),
        (end, destructor),
        (destructor, joined),
        (began, joined),
    ];
    Ok(phases.map(|(from, to)| to as f64 - from as f64))
}

/// The first round opens what stays open, and does not count.
fn record(phases: &mut [Vec<f64>; PHASES.len()], round: u32, times: &[f64; PHASES.len()]) {
    if round > 0 {
        phases.iter_mut().zip(times).for_each(|(phase, &time)| phase.push(time));
    }
}
