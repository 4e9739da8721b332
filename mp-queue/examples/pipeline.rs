//! Finds the duplicate files of a directory, in three stages of processes that queues join.
//!
//! `cargo run --release --example pipeline -- [--hashers N] [--kill] [--list] [DIR]`
//!
//! ```text
//! find ── paths ──▶ hash (N processes) ── events ──▶ collect
//!   └─────────────────── events ─────────────────────▲
//! ```
//!
//! `find` walks through DIR (default: the current directory), `hash` computes the SHA-256 of each
//! file, and `collect` gathers the results. A stage ends when the one before it has ended, whether
//! its processes returned or died, because then its queue has no producer any longer. If a process
//! of `hash` dies, the others go on, and the file that it was reading is hashed again.
//!
//! - `--hashers N`: how many processes hash (default: one for each CPU, and at least two);
//! - `--kill`: kills one of them (SIGKILL) when half of the files are hashed;
//! - `--list`: prints `DIGEST  PATH` for every file instead of the summary, as `sha256sum` does.
//!
//! The exit code is 0 if every file was hashed.

use std::collections::{BTreeSet, HashMap};
use std::error::Error;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};
use std::mem;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use indicatif::{HumanBytes, HumanCount, MultiProgress, ProgressBar, ProgressStyle};
use mp_core::{Builder, Process, process_fn, wait};
use mp_queue::{Consumer, Producer, Queue};
use mp_shm::{Shared, ShmSafe};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use walkdir::WalkDir;

/// What the first two stages tell the third.
#[derive(Serialize, Deserialize)]
enum Event {
    /// A file was found, and its path is about to be put into the queue of paths.
    Found(OsString),
    /// A file was hashed, or something could not be read.
    Done(OsString, Hashed),
}

/// A file, or why it could not be read.
type Hashed = Result<Hash, String>;

#[derive(Serialize, Deserialize)]
struct Hash {
    sha256: [u8; 32],
    size: u64,
}

/// How far each stage is, in memory that all processes share.
#[derive(Default, ShmSafe)]
struct Counters {
    found: AtomicU64,
    hashed: AtomicU64,
    collected: AtomicU64,
}

/// The first stage. Each file is announced to the last stage before it goes to the next one, so
/// that the last stage knows which files were lost.
#[process_fn]
fn find(
    directory: OsString,
    paths: Producer<OsString>,
    events: Producer<Event>,
    counters: Shared<Counters>,
) -> Result<(), String> {
    for entry in WalkDir::new(&directory).sort_by_file_name() {
        match entry {
            Ok(entry) if entry.file_type().is_file() => {
                let path = entry.into_path().into_os_string();
                counters.found.fetch_add(1, Relaxed);
                events.put(Event::Found(path.clone())).map_err(why)?;
                paths.put(path).map_err(why)?;
            }
            Ok(_) => {}
            Err(error) => {
                let path = error.path().map_or(directory.clone(), |path| path.as_os_str().to_owned());
                let reason = error.io_error().map_or_else(|| error.to_string(), ToString::to_string);
                events.put(Event::Done(path, Err(reason))).map_err(why)?;
            }
        }
    }
    Ok(())
}

/// The second stage, in several processes. The iteration ends when the first stage has ended and no
/// path is left.
#[process_fn]
fn hash(paths: Consumer<OsString>, events: Producer<Event>, counters: Shared<Counters>) -> Result<(), String> {
    for path in paths.iter() {
        let path = path.map_err(why)?;
        let hashed = hash_file(&path);
        counters.hashed.fetch_add(1, Relaxed);
        events.put(Event::Done(path, hashed)).map_err(why)?;
    }
    Ok(())
}

/// The same for one file, which was lost with a process.
#[process_fn]
fn hash_again(path: OsString) -> Hashed {
    hash_file(&path)
}

fn hash_file(path: &OsStr) -> Hashed {
    read_and_hash(path).map_err(|error| error.to_string())
}

fn read_and_hash(path: &OsStr) -> io::Result<Hash> {
    let mut file = File::open(path)?;
    let mut buffer = vec![0; 256 << 10];
    let mut hasher = Sha256::new();
    let mut size = 0;
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(Hash { sha256: hasher.finalize().into(), size }),
            Ok(read) => {
                hasher.update(&buffer[..read]);
                size += read as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// The third stage. The iteration ends when no process of the first two is left.
#[process_fn]
fn collect(events: Consumer<Event>, counters: Shared<Counters>) -> Result<Report, String> {
    let mut report = Report::default();
    for event in events.iter() {
        match event.map_err(why)? {
            Event::Found(path) => {
                report.lost.insert(path);
            }
            Event::Done(path, hashed) => {
                report.lost.remove(&path);
                report.add(path, hashed);
                counters.collected.fetch_add(1, Relaxed);
            }
        }
    }
    Ok(report)
}

#[derive(Default, Serialize, Deserialize)]
struct Report {
    files: Vec<(OsString, Hash)>,
    failed: Vec<(OsString, String)>,
    /// What was found and neither hashed nor failed.
    lost: BTreeSet<OsString>,
}

impl Report {
    fn add(&mut self, path: OsString, hashed: Hashed) {
        match hashed {
            Ok(hash) => self.files.push((path, hash)),
            Err(reason) => self.failed.push((path, reason)),
        }
    }

    /// Prints a line for each file, as `sha256sum` does, unless names hold newlines or backslashes.
    fn list(&self, out: &mut impl Write) -> io::Result<()> {
        for (path, hash) in &self.files {
            for byte in hash.sha256 {
                write!(out, "{byte:02x}")?;
            }
            out.write_all(b"  ")?;
            out.write_all(path.as_bytes())?;
            writeln!(out)?;
        }
        Ok(())
    }

    fn summarise(&self, out: &mut impl Write, elapsed: Duration) -> io::Result<()> {
        let bytes: u64 = self.files.iter().map(|(_, hash)| hash.size).sum();
        let mut copies: HashMap<&[u8; 32], u64> = HashMap::new();
        let (mut duplicates, mut wasted) = (0, 0);
        for (_, hash) in &self.files {
            let seen = copies.entry(&hash.sha256).or_default();
            if *seen > 0 {
                duplicates += 1;
                wasted += hash.size;
            }
            *seen += 1;
        }
        let rate = bytes as f64 / elapsed.as_secs_f64().max(1e-9);
        let rows = [
            ("files", HumanCount(self.files.len() as u64).to_string()),
            ("size", HumanBytes(bytes).to_string()),
            ("duplicates", HumanCount(duplicates).to_string()),
            ("their size", HumanBytes(wasted).to_string()),
            ("time", format!("{:.2} s", elapsed.as_secs_f64())),
            ("rate", format!("{}/s", HumanBytes(rate as u64))),
        ];
        for (what, value) in rows {
            writeln!(out, "{what:<12}{value:>16}")?;
        }
        Ok(())
    }
}

/// A bar for each stage on a terminal, a line now and then elsewhere.
struct Progress {
    bars: [ProgressBar; 3],
    last_line: Option<Instant>,
}

impl Progress {
    fn new() -> Self {
        // It draws on a terminal only.
        let all = MultiProgress::new();
        let style = ProgressStyle::with_template("{msg:10} {bar:40} {human_pos}/{human_len} files  {per_sec:0}");
        let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
        let bars = ["found", "hashed", "collected"]
            .map(|stage| all.add(ProgressBar::new(0).with_style(style.clone()).with_message(stage)));
        Self { bars, last_line: (!io::stderr().is_terminal()).then(Instant::now) }
    }

    fn show(&mut self, counters: &Counters) {
        let counts = [&counters.found, &counters.hashed, &counters.collected].map(|count| count.load(Relaxed));
        for (bar, count) in self.bars.iter().zip(counts) {
            bar.set_position(count);
            bar.set_length(counts[0]);
        }
        if self.last_line.is_some_and(|last| last.elapsed() >= Duration::from_secs(1)) {
            self.last_line = Some(Instant::now());
            eprintln!("{} found, {} hashed, {} collected", counts[0], counts[1], counts[2]);
        }
    }

    fn finish(self) {
        self.bars.iter().for_each(ProgressBar::finish_and_clear);
    }
}

/// What the command line says.
struct Options {
    directory: OsString,
    hashers: usize,
    kill: bool,
    list: bool,
}

impl Options {
    fn parse() -> Result<Self, String> {
        let processors = std::thread::available_parallelism().map_or(2, usize::from).max(2);
        let mut options = Self { directory: ".".into(), hashers: processors, kill: false, list: false };
        let mut arguments = std::env::args_os().skip(1);
        while let Some(argument) = arguments.next() {
            match argument.to_str() {
                Some("--hashers") => {
                    let number = arguments.next().and_then(|text| text.to_str()?.parse().ok());
                    options.hashers = number.filter(|&number| number > 0).ok_or("--hashers needs a number above 0")?;
                }
                Some("--kill") => options.kill = true,
                Some("--list") => options.list = true,
                Some(unknown) if unknown.starts_with('-') => return Err(format!("unknown option {unknown}")),
                _ => options.directory = argument,
            }
        }
        Ok(options)
    }
}

/// Prints an error with its causes.
fn why(error: impl Error) -> String {
    error.source().map_or(error.to_string(), |source| format!("{error}: {}", why(source)))
}

const USAGE: &str = "usage: pipeline [--hashers N] [--kill] [--list] [DIR]";

fn main() -> ExitCode {
    let outcome = match Options::parse() {
        Ok(options) => run(&options),
        Err(error) => Err(format!("{error}\n{USAGE}").into()),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("pipeline: {}", why(&*error));
            ExitCode::FAILURE
        }
    }
}

/// Returns whether every file was hashed.
fn run(options: &Options) -> Result<bool, Box<dyn Error>> {
    let mut kill_at = options.kill.then(|| count_files(&options.directory) / 2);
    let started = Instant::now();
    let counters = Shared::new(Counters::default())?;
    // No stage gets further ahead of the next one than this.
    let (paths_in, paths_out) = Queue::bounded(64)?.into_split();
    let (events_in, events_out) = Queue::bounded(64)?.into_split();
    let call = find::call(options.directory.clone(), paths_in, events_in.clone(), counters.clone());
    let finder = Builder::new().name("find").spawn(call)?;
    let mut hashers = Vec::new();
    for number in 1..=options.hashers {
        let call = hash::call(paths_out.clone(), events_in.clone(), counters.clone());
        hashers.push(Builder::new().name(format!("hash-{number}")).spawn(call)?);
    }
    let collector = Builder::new().name("collect").spawn(collect::call(events_out, counters.clone()))?;
    // A queue ends when no process has it, and this one does not use them.
    drop((paths_out, events_in));

    let mut progress = Progress::new();
    while wait(&[&collector], Some(Duration::from_millis(10)))?.is_empty() {
        progress.show(&counters);
        if kill_at.is_some_and(|half| counters.hashed.load(Relaxed) >= half) {
            hashers[0].kill()?;
            kill_at = None;
        }
    }
    progress.finish();
    if kill_at.is_some() {
        eprintln!("the last file was hashed before a process was killed");
    }

    let complete = has_returned(finder);
    for hasher in hashers {
        // What it was reading when it died is among the lost files.
        has_returned(hasher);
    }
    let mut report = collector.join()??;
    for path in mem::take(&mut report.lost) {
        eprintln!("{} was lost, and is hashed again", Path::new(&path).display());
        match hash_again::spawn(path.clone())?.join() {
            Ok(hashed) => report.add(path, hashed),
            Err(error) => report.failed.push((path, why(error))),
        }
    }

    report.files.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    let mut out = io::BufWriter::new(io::stdout().lock());
    match options.list {
        true => report.list(&mut out)?,
        false => report.summarise(&mut out, started.elapsed())?,
    }
    out.flush()?;
    for (path, reason) in &report.failed {
        eprintln!("{}: {reason}", Path::new(path).display());
    }
    Ok(complete && report.failed.is_empty())
}

fn count_files(directory: &OsStr) -> u64 {
    WalkDir::new(directory).into_iter().flatten().filter(|entry| entry.file_type().is_file()).count() as u64
}

/// Waits for a process of the first two stages, and returns whether it did all of its work.
fn has_returned(process: Process<Result<(), String>>) -> bool {
    let name = process.name().to_owned();
    let problem = match process.join() {
        Ok(Ok(())) => return true,
        Ok(Err(problem)) => problem,
        Err(error) => why(error),
    };
    eprintln!("{name}: {problem}");
    false
}
