//! Pools of CPython, loky, mpire and procspawn, and rayon's threads.

use std::io;
use std::process::{Command, Stdio};
use std::time::Duration;

use ::rayon::prelude::*;

use super::{peer, python};
use crate::measure::{Contender, Role, Run};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/peers/pool.py");

/// What the goals say: 1.5 times the rate of chunks that CPython chooses, 30 times that of no
/// chunks.
pub(crate) fn map(items: u64) -> Vec<Contender> {
    let script = |goal: f64, name, action| {
        Contender::new(Role::Limit(Some(1.0 / goal)), name, python::script_of(SCRIPT, &[action, &items.to_string()]))
    };
    vec![
        script(1.5, "CPython, Pool(2).map, its default chunks", "map"),
        script(30.0, "CPython, Pool(2).map, chunksize=1", "map-one"),
        peer(
            "loky, get_reusable_executor(2).map, its default chunks",
            installed("loky", &["loky-map", &items.to_string()]),
        ),
        peer("mpire, WorkerPool(2).map, its default chunks", installed("mpire", &["mpire-map", &items.to_string()])),
    ]
}

/// The script, if Python has this library.
fn installed(library: &str, arguments: &[&str]) -> io::Result<Run> {
    let found = Command::new("python3").args(["-c", &format!("import {library}")]).stderr(Stdio::null()).status()?;
    if found.success() {
        python::script_of(SCRIPT, arguments)
    } else {
        Err(crate::partner::failed(format!("python3 has no {library}; pip installs it")))
    }
}

/// The same tasks on two threads of rayon.
pub(crate) fn rayon(lengths: Vec<Duration>, task: fn(Duration)) -> Contender {
    let pool = ::rayon::ThreadPoolBuilder::new().num_threads(2).build().map_err(crate::partner::failed);
    let run = pool.map(|pool| {
        crate::rows::repeated(move || {
            pool.install(|| lengths.par_iter().with_max_len(1).for_each(|length| task(*length)));
            Ok(())
        })
    });
    peer("rayon, two threads", run)
}

/// A pool of so many workers, from its beginning to its end.
pub(crate) fn start(workers: usize) -> Vec<Contender> {
    let workers = workers.to_string();
    vec![peer("CPython, Pool(64), fork", python::script_of(SCRIPT, &["start", &workers]))]
}

pub(crate) fn submit() -> Vec<Contender> {
    let pool = ::procspawn::Pool::new(2).map_err(crate::partner::failed);
    let procspawn = pool.map(|pool| {
        crate::rows::repeated(move || {
            let value = ::procspawn::spawn!(in pool, (7_u64 => number) || number).join();
            value.map(drop).map_err(crate::partner::failed)
        })
    });
    vec![
        peer("procspawn, Pool", procspawn),
        peer("CPython, Pool(2).apply", python::script_of(SCRIPT, &["apply", "0"])),
        peer("CPython, ProcessPoolExecutor(2).submit", python::script_of(SCRIPT, &["executor", "0"])),
        peer("loky, get_reusable_executor(2).submit", installed("loky", &["loky-submit", "0"])),
        peer("mpire, WorkerPool(2).apply", installed("mpire", &["mpire-apply", "0"])),
    ]
}

pub(crate) fn mebibyte() -> Vec<Contender> {
    vec![peer("CPython, Pool(2).apply", python::script_of(SCRIPT, &["apply", "1048576"]))]
}
