//! Pools of CPython and procspawn.

use super::{peer, python};
use crate::measure::{Contender, Role};

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
    ]
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
    ]
}

pub(crate) fn mebibyte() -> Vec<Contender> {
    vec![peer("CPython, Pool(2).apply", python::script_of(SCRIPT, &["apply", "1048576"]))]
}
