//! Starts the tests.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use crate::job::{Run, ulfm};
use crate::{cut, kills, lost, scenarios};

pub(crate) fn run(filter: Option<String>) {
    let kills = kills::ALL.iter().map(|(name, test)| (*name, Box::new(test) as Box<dyn Fn()>));
    let runs = scenarios::ALL.iter().map(|(name, ..)| {
        let test: Box<dyn Fn()> = Box::new(move || Run::start(name, 3, &[]).finish());
        (*name, test)
    });
    let lost = lost::ALL.iter().filter_map(|(name, ..)| {
        let arguments = ulfm()?;
        let test: Box<dyn Fn()> = Box::new(move || Run::start_with(&arguments, name, 3, &[]).finish());
        Some((*name, test))
    });
    let leader = ulfm().map(|arguments| {
        let test: Box<dyn Fn()> = Box::new(move || kills::tolerant_leader(&arguments));
        ("nothing_is_left_after_the_leader_is_lost", test)
    });
    let link = std::env::var("MP_MPI_TEST_LINK").ok();
    let cut = cut::ALL.iter().filter_map(|(name, test)| {
        let link = link.clone()?;
        let test: Box<dyn Fn()> = Box::new(move || test(&link));
        Some((*name, test))
    });
    let (mut passed, mut failed) = (0, Vec::new());
    for (name, test) in runs.chain(kills).chain(lost).chain(leader).chain(cut) {
        if filter.as_ref().is_some_and(|filter| !name.contains(&**filter)) {
            continue;
        }
        let start = Instant::now();
        let outcome = catch_unwind(AssertUnwindSafe(test));
        let word = if outcome.is_ok() { "ok" } else { "FAILED" };
        println!("test {name} ... {word} ({} ms)", start.elapsed().as_millis());
        if outcome.is_ok() {
            passed += 1;
        } else {
            failed.push(name);
        }
    }
    let result = if failed.is_empty() { "ok".to_owned() } else { format!("FAILED: {}", failed.join(", ")) };
    println!("\ntest result: {result}. {passed} passed; {} failed", failed.len());
    assert!(passed > 0 || !failed.is_empty(), "no test has that name");
    std::process::exit(i32::from(!failed.is_empty()));
}
