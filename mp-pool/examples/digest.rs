//! Digests every file of a directory in a pool of worker processes.
//!
//! `cargo run --release --example digest -- [OPTIONS] [DIR]`
//!
//! Computes the SHA-256, the lines and the words of every file under DIR (default: the current
//! directory), then prints totals, the largest files, how many files each worker did, and the time.
//!
//! - `--workers N`: how many worker processes (default: one for each CPU);
//! - `--crash PATTERN`: the function aborts on files whose path contains PATTERN, to show that the
//!   rest completes;
//! - `--timeout SECONDS`: kills the worker of a file that takes longer, and goes on;
//! - `--memory MIB`: kills a worker that has more memory while it digests a file, and goes on;
//! - `--report FILE`: writes what the workers did and when, as a page for a browser;
//! - `--list`: prints `DIGEST  PATH` for every file instead, in the format of `sha256sum`;
//! - `--target`: looks into directories named `target` too, where Cargo builds. Without it they are
//!   left out.

use std::collections::BTreeMap;
use std::error::Error;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use indicatif::{HumanBytes, HumanCount, ProgressBar, ProgressStyle};
use mp_core::process_fn;
use mp_pool::{Pool, TaskError};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use walkdir::{DirEntry, WalkDir};

/// What a worker is asked to do.
#[derive(Serialize, Deserialize)]
struct Job {
    /// The path, as bytes: not every file has a name that is text.
    #[serde(with = "serde_bytes")]
    path: Vec<u8>,
    /// Crash on purpose.
    crash: bool,
}

/// What a worker finds out about one file.
#[derive(Serialize, Deserialize)]
struct Summary {
    worker: String,
    sha256: [u8; 32],
    bytes: u64,
    lines: u64,
    words: u64,
}

/// Digests one file. That it cannot be read is a value like any other.
#[process_fn]
fn digest(job: Job) -> Result<Summary, String> {
    if job.crash {
        std::process::abort();
    }
    summarise(Path::new(OsStr::from_bytes(&job.path))).map_err(|error| error.to_string())
}

fn summarise(path: &Path) -> io::Result<Summary> {
    let mut file = File::open(path)?;
    let mut buffer = vec![0; 256 << 10];
    let mut hasher = Sha256::new();
    let (mut bytes, mut lines, mut words) = (0, 0, 0);
    let mut in_word = false;
    loop {
        let read = match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let chunk = &buffer[..read];
        hasher.update(chunk);
        bytes += read as u64;
        for &byte in chunk {
            lines += u64::from(byte == b'\n');
            let space = byte.is_ascii_whitespace();
            words += u64::from(in_word && space);
            in_word = !space;
        }
    }
    words += u64::from(in_word);
    let worker = mp_core::current().name().to_owned();
    Ok(Summary { worker, sha256: hasher.finalize().into(), bytes, lines, words })
}

/// What the command line says.
struct Options {
    directory: PathBuf,
    workers: Option<usize>,
    crash: Option<String>,
    timeout: Option<Duration>,
    memory: Option<u64>,
    report: Option<PathBuf>,
    list: bool,
    target: bool,
    help: bool,
}

fn number<N: std::str::FromStr>(text: &OsStr) -> Result<N, String> {
    text.to_str().and_then(|text| text.parse().ok()).ok_or_else(|| format!("{text:?} is no number"))
}

impl Options {
    fn parse() -> Result<Self, String> {
        let directory = PathBuf::from(".");
        let (workers, crash, timeout, memory, report) = (None, None, None, None, None);
        let (list, target, help) = (false, false, false);
        let mut options = Self { directory, workers, crash, timeout, memory, report, list, target, help };
        let mut named = false;
        let mut arguments = std::env::args_os().skip(1);
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or_else(|| format!("{} needs a value", argument.to_string_lossy()));
            match argument.to_str() {
                Some("--workers") => options.workers = Some(number(&value()?)?),
                Some("--timeout") => options.timeout = Some(Duration::from_secs(number(&value()?)?)),
                Some("--memory") => options.memory = Some(number::<u64>(&value()?)? << 20),
                Some("--crash") => options.crash = Some(value()?.to_string_lossy().into_owned()),
                Some("--report") => options.report = Some(PathBuf::from(value()?)),
                Some("--list") => options.list = true,
                Some("--target") => options.target = true,
                Some("--help" | "-h") => options.help = true,
                Some(unknown) if unknown.starts_with('-') => return Err(format!("unknown option {unknown}")),
                _ if named => return Err("there is more than one directory".to_owned()),
                _ => {
                    options.directory = PathBuf::from(&argument);
                    named = true;
                }
            }
        }
        Ok(options)
    }
}

/// How many of the largest files are shown.
const LARGEST: usize = 5;

/// Everything that was found out.
#[derive(Default)]
struct Totals {
    files: u64,
    bytes: u64,
    lines: u64,
    words: u64,
    largest: Vec<(u64, PathBuf)>,
    by_worker: BTreeMap<String, u64>,
    unreadable: Vec<(PathBuf, String)>,
    failed: Vec<(PathBuf, TaskError)>,
}

impl Totals {
    fn add(&mut self, path: &Path, result: Result<Result<Summary, String>, TaskError>) {
        match result {
            Ok(Ok(summary)) => {
                self.files += 1;
                self.bytes += summary.bytes;
                self.lines += summary.lines;
                self.words += summary.words;
                *self.by_worker.entry(summary.worker).or_default() += 1;
                self.largest.push((summary.bytes, path.to_owned()));
                self.largest.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
                self.largest.truncate(LARGEST);
            }
            Ok(Err(error)) => self.unreadable.push((path.to_owned(), error)),
            Err(error) => self.failed.push((path.to_owned(), error)),
        }
    }

    fn print(&self, out: &mut impl Write, elapsed: Duration) -> io::Result<()> {
        let rate = self.bytes as f64 / elapsed.as_secs_f64().max(1e-9);
        let rows = [
            ("files", HumanCount(self.files).to_string()),
            ("lines", HumanCount(self.lines).to_string()),
            ("words", HumanCount(self.words).to_string()),
            ("size", HumanBytes(self.bytes).to_string()),
            ("time", format!("{:.2} s", elapsed.as_secs_f64())),
            ("rate", format!("{}/s", HumanBytes(rate as u64))),
        ];
        for (what, value) in rows {
            writeln!(out, "{what:<8}{value:>16}")?;
        }
        writeln!(out, "\nlargest files")?;
        for (bytes, path) in &self.largest {
            writeln!(out, "{:>24}  {}", HumanBytes(*bytes).to_string(), path.display())?;
        }
        writeln!(out, "\nfiles per worker")?;
        for (worker, files) in &self.by_worker {
            writeln!(out, "{:>24}  {worker}", HumanCount(*files).to_string())?;
        }
        Ok(())
    }

    fn print_problems(&self, out: &mut impl Write) -> io::Result<()> {
        if !self.unreadable.is_empty() {
            writeln!(out, "\n{} not readable", HumanCount(self.unreadable.len() as u64))?;
        }
        for (path, error) in &self.unreadable {
            writeln!(out, "    {}: {error}", path.display())?;
        }
        if !self.failed.is_empty() {
            writeln!(out, "\n{} failed", HumanCount(self.failed.len() as u64))?;
        }
        for (path, error) in &self.failed {
            writeln!(out, "    {}: {error}", path.display())?;
        }
        Ok(())
    }
}

/// A bar on a terminal, a line now and then elsewhere.
struct Progress {
    bar: Option<ProgressBar>,
    reported: Instant,
    done: u64,
    total: u64,
}

impl Progress {
    fn new(total: u64) -> Self {
        let bar = io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{bar:40} {human_pos}/{human_len} files  {per_sec:0}  {eta} left");
            ProgressBar::new(total).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        });
        Self { bar, reported: Instant::now(), done: 0, total }
    }

    fn advance(&mut self) {
        self.done += 1;
        if let Some(bar) = &self.bar {
            bar.inc(1);
        } else if self.reported.elapsed() >= Duration::from_secs(1) {
            self.reported = Instant::now();
            eprintln!("{} of {} files", HumanCount(self.done), HumanCount(self.total));
        }
    }

    fn finish(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }
}

/// Writes a line as `sha256sum` does: a name with a newline or a backslash is escaped, which a
/// backslash before the line tells.
fn list(out: &mut impl Write, sha256: &[u8], path: &Path) -> io::Result<()> {
    let hex: String = sha256.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut escaped = Vec::new();
    for &byte in path.as_os_str().as_bytes() {
        match byte {
            b'\\' => escaped.extend(br"\\"),
            b'\n' => escaped.extend(br"\n"),
            b'\r' => escaped.extend(br"\r"),
            other => escaped.push(other),
        }
    }
    let mark = if escaped.len() == path.as_os_str().len() { "" } else { "\\" };
    write!(out, "{mark}{hex}  ")?;
    out.write_all(&escaped)?;
    writeln!(out)
}

/// The files under the directory; what cannot be looked into goes to `totals`.
fn walk(Options { directory, target, .. }: &Options, totals: &mut Totals) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let is_built = |entry: &DirEntry| entry.depth() > 0 && entry.file_type().is_dir() && entry.file_name() == "target";
    let entries = WalkDir::new(directory).sort_by_file_name().into_iter();
    for entry in entries.filter_entry(|entry| *target || !is_built(entry)) {
        match entry {
            Ok(entry) if entry.file_type().is_file() => files.push(entry.into_path()),
            Ok(_) => {}
            Err(error) => {
                let path = error.path().unwrap_or(directory).to_owned();
                let why = error.io_error().map_or_else(|| error.to_string(), ToString::to_string);
                totals.unreadable.push((path, why));
            }
        }
    }
    files
}

const USAGE: &str = "usage: digest [--workers N] [--crash PATTERN] [--timeout SECONDS] [--memory MIB] [--report FILE] \
                     [--list] [--target] [DIR]\n\
                     \n\
                     Digests every file under DIR, except in directories named `target`, where Cargo builds: \
                     --target looks into these too.";

fn main() -> ExitCode {
    let outcome = match Options::parse() {
        Ok(options) if options.help => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        Ok(options) => run(&options),
        Err(error) => Err(format!("{error}\n{USAGE}").into()),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        // The files that failed were listed.
        Ok(false) => ExitCode::FAILURE,
        // Whoever read the output has seen enough.
        Err(error) if is_broken_pipe(&*error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("digest: {error}");
            ExitCode::FAILURE
        }
    }
}

fn is_broken_pipe(error: &(dyn Error + 'static)) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// Tells whether every file was digested.
fn run(options: &Options) -> Result<bool, Box<dyn Error>> {
    if let Err(error) = std::fs::metadata(&options.directory) {
        return Err(format!("{}: {error}", options.directory.display()).into());
    }
    let mut totals = Totals::default();
    let files = walk(options, &mut totals);

    let mut builder = Pool::builder().name("digest");
    if let Some(workers) = options.workers {
        builder = builder.workers(workers);
    }
    if let Some(timeout) = options.timeout {
        builder = builder.task_timeout(timeout);
    }
    if let Some(memory) = options.memory {
        builder = builder.memory_limit(memory);
    }
    let pool = builder.build()?;
    eprintln!("{} files, {} workers", HumanCount(files.len() as u64), pool.workers());

    let started = Instant::now();
    let mut progress = Progress::new(files.len() as u64);
    let mut out = io::BufWriter::new(io::stdout().lock());
    let jobs = files.iter().map(|path| {
        let crash = options.crash.as_deref().is_some_and(|pattern| path.to_string_lossy().contains(pattern));
        Job { path: path.as_os_str().as_bytes().to_vec(), crash }
    });
    for (index, result) in pool.imap_unordered::<digest>(jobs) {
        let path = &files[index];
        if let (true, Ok(Ok(summary))) = (options.list, &result) {
            list(&mut out, &summary.sha256, path)?;
        }
        totals.add(path, result);
        progress.advance();
    }
    progress.finish();
    if let Some(path) = &options.report {
        std::fs::write(path, pool.report().html()).map_err(|error| format!("{}: {error}", path.display()))?;
    }

    if options.list {
        out.flush()?;
        totals.print_problems(&mut io::stderr())?;
    } else {
        totals.print(&mut out, started.elapsed())?;
        totals.print_problems(&mut out)?;
        out.flush()?;
    }
    Ok(totals.unreadable.is_empty() && totals.failed.is_empty())
}
