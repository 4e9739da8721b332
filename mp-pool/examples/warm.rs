//! Loads a dictionary of some 100 MB once, and answers from eight processes that share its memory.
//!
//! ```sh
//! cargo run --release --example warm
//! cargo run --release --example warm -- --spawn    # each process loads its own
//! ```

use std::error::Error;
use std::fs;
use std::sync::OnceLock;
use std::time::Instant;

use mp_core::{ForkServer, active_children, process_fn};
use mp_pool::Pool;

const WORDS: u32 = 2_500_000;
const WORKERS: usize = 8;

static DICTIONARY: OnceLock<Vec<String>> = OnceLock::new();

/// Makes the dictionary: words in the order of their letters.
#[process_fn]
fn load(words: u32) {
    DICTIONARY.get_or_init(|| (0..words).map(|number| format!("word-{number:010}")).collect());
}

/// Returns the place of a word.
#[process_fn]
fn look_up(word: String) -> Option<usize> {
    DICTIONARY.get()?.binary_search(&word).ok()
}

fn main() -> Result<(), Box<dyn Error>> {
    let loads_each = std::env::args().any(|argument| argument == "--spawn");
    let begun = Instant::now();
    let builder = Pool::builder().workers(WORKERS);
    let (server, builder) = if loads_each {
        (None, builder.initializer(load::call(WORDS)))
    } else {
        let server = ForkServer::builder().name("dictionary").preload(load::call(WORDS)).build()?;
        let builder = builder.fork_server(&server);
        (Some(server), builder)
    };
    println!("the server is ready after {:.2} s", begun.elapsed().as_secs_f64());

    let begun = Instant::now();
    let pool = builder.build()?;
    let asked: Vec<_> = (0..WORDS).step_by(5_000).map(|number| format!("word-{number:010}")).collect();
    let found = pool.map::<look_up>(asked.iter().cloned())?;
    let right = found.iter().zip((0..).step_by(5_000)).filter(|(found, place)| **found == Some(*place)).count();
    println!("{right} of {} words found, {:.2} s after that", asked.len(), begun.elapsed().as_secs_f64());

    let workers = active_children();
    let memory: Vec<_> = workers.iter().map(|worker| proportional_memory(worker.pid())).collect::<Result<_, _>>()?;
    let total = memory.iter().sum::<u64>() + server.map_or(Ok(0), |server| proportional_memory(server.pid()))?;
    println!("{} workers and their server take {} MB together", workers.len(), total >> 10);
    Ok(())
}

/// The memory of a process in KiB. Of what it shares, it has a part: `Pss` in
/// [proc(5)](https://man7.org/linux/man-pages/man5/proc_pid_smaps.5.html).
fn proportional_memory(pid: u32) -> Result<u64, Box<dyn Error>> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:")).ok_or("the kernel does not tell")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}
