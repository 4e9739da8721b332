//! Runs a C library that has bugs over every file of a directory, in processes of its own.
//!
//! `cargo run --release --example isolate -- [--timeout SECONDS] [--memory MIB] [DIR]`
//!
//! The library counts the tokens of a text. It overflows its stack if brackets are nested too deep,
//! never returns from a comment that has no end, and leaks memory with each string. In this process
//! any of that would end all. In a pool, a file costs itself: each that fails is named with what
//! happened, and all others are counted.

use std::error::Error;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use mp_core::process_fn;
use mp_examples::Tokens;
use mp_pool::Pool;
use serde_bytes::ByteBuf;
use walkdir::WalkDir;

/// Counts the tokens of one file. That it cannot be read is a value like any other.
#[process_fn]
fn count(path: ByteBuf) -> Result<Tokens, String> {
    let text = std::fs::read(Path::new(OsStr::from_bytes(&path))).map_err(|error| error.to_string())?;
    Ok(mp_examples::tokens(&text))
}

const USAGE: &str = "usage: isolate [--timeout SECONDS] [--memory MIB] [DIR]";

fn main() -> ExitCode {
    match run() {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::from(2),
        Err(error) => {
            eprintln!("isolate: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Returns how many files failed.
fn run() -> Result<usize, Box<dyn Error>> {
    let (mut timeout, mut memory, mut directory) = (Duration::from_secs(2), 256 << 20, PathBuf::from("."));
    let mut arguments = std::env::args_os().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().and_then(|value| value.to_str()?.parse::<u64>().ok()).ok_or(USAGE);
        match argument.to_str() {
            Some("--timeout") => timeout = Duration::from_secs(value()?),
            Some("--memory") => memory = value()? << 20,
            Some(unknown) if unknown.starts_with('-') => return Err(USAGE.into()),
            _ => directory = PathBuf::from(argument),
        }
    }
    let files: Vec<_> = WalkDir::new(&directory).sort_by_file_name().into_iter().collect::<Result<_, _>>()?;
    let files: Vec<_> = files.into_iter().filter(|file| file.file_type().is_file()).collect();

    let pool = Pool::builder()
        .name("isolate")
        .task_timeout(timeout)
        // A worker that has leaked half as much is replaced between two files.
        .recycle_above(memory / 2)
        .memory_limit(memory)
        .build()?;
    let (mut total, mut failed) = (Tokens::default(), Vec::new());
    let paths = files.iter().map(|file| ByteBuf::from(file.path().as_os_str().as_bytes()));
    for (index, result) in pool.imap_unordered::<count>(paths) {
        match result.map_err(|error| error.to_string()).and_then(|result| result) {
            Ok(tokens) => {
                total.words += tokens.words;
                total.strings += tokens.strings;
                total.comments += tokens.comments;
                total.groups += tokens.groups;
            }
            Err(error) => failed.push((index, error)),
        }
    }
    let Tokens { words, strings, comments, groups } = total;
    println!(
        "{} files: {words} words, {strings} strings, {comments} comments, {groups} groups",
        files.len() - failed.len()
    );
    println!("{} workers were replaced before they had leaked too much", pool.stats().recycled);
    failed.sort_unstable();
    for (index, error) in &failed {
        println!("{}: {error}", files[*index].path().display());
    }
    Ok(failed.len())
}
