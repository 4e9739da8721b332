//! Counts the words of the text files of a directory: workers fill one map and one list that live
//! in a server, and count in it.
//!
//! `cargo run --release --example manager -- [--workers N] [--kill] [DIR]`
//!
//! - `--workers N`: how many processes count (default 4);
//! - `--kill`: kills the first of them when a quarter of the files is done.
//!
//! The display of the progress is told by the list whenever a file is done (`watch`), so it does
//! not ask again and again.
//!
//! The map holds how often each word occurs. Two workers may count the same word at once, and
//! nothing is lost, because each addition runs in the server. The list holds the files that were
//! read, in the order in which they were finished. The cell holds the number of the next file, so
//! a worker that is killed costs the file that it was reading, and the others go on.

use std::collections::HashMap;
use std::error::Error;
use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::time::Duration;

use mp_core::{Process, process_fn, wait};
use mp_manager::{Cell, List, ListChange, Manager, Map};
use walkdir::WalkDir;

/// Adds one to the number of the next file.
#[process_fn]
fn next(old: Option<u64>, _: ()) -> (Option<u64>, u64) {
    let this = old.unwrap_or(0);
    (Some(this + 1), this)
}

/// Adds to how often a word occurs.
#[process_fn]
fn add(old: Option<u64>, times: u64) -> (Option<u64>, ()) {
    (Some(old.unwrap_or(0) + times), ())
}

/// Counts the words of one file after another, until there is none left.
#[process_fn]
fn count(files: List<PathBuf>, turn: Cell<u64>, words: Map<String, u64>, done: List<PathBuf>) -> Result<u64, String> {
    let failed = |error: &dyn Error| error.to_string();
    let mut read = 0;
    loop {
        let number = turn.modify::<next>(()).map_err(|error| failed(&error))?;
        let Some(file) = files.get(number as usize).map_err(|error| failed(&error))? else { return Ok(read) };
        let text = std::fs::read(&file).unwrap_or_default();
        let mut counts = HashMap::<String, u64>::new();
        for word in String::from_utf8_lossy(&text).split(|letter: char| !letter.is_alphanumeric()) {
            if word.len() > 3 {
                *counts.entry(word.to_lowercase()).or_default() += 1;
            }
        }
        for (word, times) in counts {
            words.modify::<add>(&word, times).map_err(|error| failed(&error))?;
        }
        done.push(file).map_err(|error| failed(&error))?;
        read += 1;
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let (mut workers, mut kill, mut directory) = (4, false, PathBuf::from("."));
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--workers" => workers = arguments.next().ok_or("--workers takes a number")?.parse()?,
            "--kill" => kill = true,
            other => directory = PathBuf::from(other),
        }
    }
    let found = WalkDir::new(directory).into_iter().flatten().filter(|entry| entry.file_type().is_file());
    let endings = ["rs", "md", "txt", "toml", "py"];
    let is_text = |path: &PathBuf| path.extension().is_some_and(|ending| endings.iter().any(|text| ending == *text));
    let paths: Vec<PathBuf> = found.map(|entry| entry.into_path()).filter(is_text).take(2000).collect();
    let total = paths.len();

    let manager = Manager::spawn()?;
    let (files, turn) = (List::new(&manager)?, Cell::new(&manager, 0)?);
    let (words, done) = (Map::new(&manager)?, List::new(&manager)?);
    files.extend(paths)?;
    let start = |_| count::spawn(files.clone(), turn.clone(), words.clone(), done.clone());
    let mut running = (0..workers).map(start).collect::<Result<Vec<Process<Result<u64, String>>>, _>>()?;

    let terminal = std::io::stderr().is_terminal();
    let (mut finished, mut read) = (done.watch()?, 0);
    while !running.is_empty() {
        match finished.next_timeout(Duration::from_millis(10))? {
            Some(ListChange::Snapshot(files)) => read = files.len(),
            Some(ListChange::Inserted(..)) => read += 1,
            _ => {}
        }
        if terminal {
            eprint!("\r{read} of {total} files ");
            std::io::stderr().flush()?;
        }
        let ended = wait(&running.iter().map(|process| process as _).collect::<Vec<_>>(), Some(Duration::ZERO))?;
        if kill && 4 * read >= total {
            running[0].kill()?;
            kill = false;
        }
        for place in ended.into_iter().rev() {
            let process = running.remove(place);
            let name = process.name().to_owned();
            match process.join() {
                Ok(Ok(read)) => println!("{name} read {read} files"),
                Ok(Err(error)) => println!("{name} failed: {error}"),
                Err(error) => println!("{name} is lost: {error}"),
            }
        }
    }
    if terminal {
        eprintln!();
    }
    let mut counts = words.snapshot()?;
    counts.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    println!("{} of {total} files, {} words; the most frequent:", done.len()?, counts.len());
    for (word, times) in counts.iter().take(5) {
        println!("{times:8} {word}");
    }
    Ok(())
}
