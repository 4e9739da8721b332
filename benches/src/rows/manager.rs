//! Calls of objects in the server of a manager.

use std::io;
use std::time::Instant;

use mp_core::{Connection, duplex, process_fn};
use mp_manager::{Manager, Map, MapChange};

use super::{pinned, round_trip, row};
use crate::measure::{Contender, Row, Run};
use crate::partner::{Partner, failed};

/// How many calls are on their way at once.
const AHEAD: u32 = 16;

/// How many processes use one map.
const CLIENTS: u32 = 4;

/// How many keys a map has.
pub(crate) const KEYS: u64 = 1_000;

pub(super) fn rows() -> Vec<Row> {
    vec![
        row("manager/call", |_| call()),
        pinned("manager/call", |_| call()),
        row("manager/pipelined-16", |_| pipelined()),
        pinned("manager/pipelined-16", |_| pipelined()),
        row("manager/map-get", |_| map(Access::Get)),
        row("manager/map-insert", |_| map(Access::Insert)),
        row("manager/four-clients", |_| clients()),
        Row { operations: Some(1), ..row("manager/watch-100k", |_| watched()) },
    ]
}

pub struct Counter(u64);

#[mp_manager::shared]
impl Counter {
    pub fn new() -> Self {
        Self(0)
    }

    pub fn add(&mut self, by: u64) -> u64 {
        self.0 += by;
        self.0
    }
}

/// The manager lives as long as what uses it.
fn with_counter(mut run: impl FnMut(&CounterProxy, u32) -> io::Result<()> + 'static) -> io::Result<Run> {
    let manager = Manager::spawn()?;
    let counter = CounterProxy::new(&manager).map_err(failed)?;
    Ok(Box::new(move |operations| {
        let _manager = &manager;
        let start = Instant::now();
        run(&counter, operations)?;
        Ok(start.elapsed())
    }))
}

fn one_by_one(counter: &CounterProxy, operations: u32) -> io::Result<()> {
    (0..operations).try_for_each(|_| counter.add(1).map(drop)).map_err(failed)
}

fn sixteen_ahead(counter: &CounterProxy, operations: u32) -> io::Result<()> {
    let mut left = operations;
    while left > 0 {
        let some = left.min(AHEAD);
        let later = counter.later();
        let replies: Vec<_> = (0..some).map(|_| later.add(1)).collect();
        replies.into_iter().try_for_each(|reply| reply.join().map(drop)).map_err(failed)?;
        left -= some;
    }
    Ok(())
}

fn call() -> Vec<Contender> {
    vec![
        Contender::ours("a method", with_counter(one_by_one)),
        Contender::limit("round trip on a duplex", 1.3, round_trip::ours(None)),
    ]
}

fn pipelined() -> Vec<Contender> {
    vec![
        Contender::ours("later(), 16 at a time", with_counter(sixteen_ahead)),
        Contender::limit("one after another", 0.33, with_counter(one_by_one)),
    ]
}

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Access {
    Get,
    Insert,
}

impl Access {
    fn of(self, map: &Map<u64, u64>, number: u64) -> io::Result<()> {
        match self {
            Self::Get => map.get(&(number % KEYS)).map(drop).map_err(failed),
            Self::Insert => map.insert(number % KEYS, number).map(drop).map_err(failed),
        }
    }

    fn of_many(self, map: &Map<u64, u64>, operations: u32) -> io::Result<()> {
        (0..u64::from(operations)).try_for_each(|number| self.of(map, number))
    }
}

fn filled(manager: &Manager) -> io::Result<Map<u64, u64>> {
    let map = Map::new(manager).map_err(failed)?;
    map.extend((0..KEYS).map(|key| (key, key))).map_err(failed)?;
    Ok(map)
}

fn timed(access: Access) -> io::Result<Run> {
    let manager = Manager::spawn()?;
    let map = filled(&manager)?;
    Ok(Box::new(move |operations| {
        let _manager = &manager;
        let start = Instant::now();
        access.of_many(&map, operations)?;
        Ok(start.elapsed())
    }))
}

fn map(access: Access) -> Vec<Contender> {
    let mut contenders = vec![Contender::ours("Map", timed(access)), super::redis::contender(access)];
    #[cfg(feature = "peers")]
    contenders.push(crate::peers::manager(access));
    if contenders.len() == 2 {
        contenders.push(Contender::limit("round trip on a duplex", None, round_trip::ours(None)));
    }
    contenders
}

/// Gets as many values as it is told to.
#[process_fn]
fn get(map: Map<u64, u64>, turns: Connection<(), u32>) {
    while let Ok(operations) = turns.recv() {
        if Access::Get.of_many(&map, operations).is_err() || turns.send(()).is_err() {
            return;
        }
    }
}

fn clients() -> Vec<Contender> {
    vec![
        Contender::ours("four processes, a fourth each", divided(CLIENTS)),
        Contender::limit("one process, all of them", None, divided(1)),
    ]
}

fn divided(among: u32) -> io::Result<Run> {
    let manager = Manager::spawn()?;
    let map = filled(&manager)?;
    let start = |_| {
        let (ours, theirs) = duplex::<u32, ()>()?;
        Partner::new(ours, get::spawn(map.clone(), theirs))
    };
    let mut partners = (0..among).map(start).collect::<io::Result<Vec<_>>>()?;
    Ok(Box::new(move |operations| {
        let _manager = &manager;
        let start = Instant::now();
        for partner in &mut partners {
            partner.channels()?.send(operations.div_ceil(among)).map_err(failed)?;
        }
        for partner in &mut partners {
            partner.channels()?.recv().map_err(failed)?;
        }
        Ok(start.elapsed())
    }))
}

const CHANGES: u32 = 100_000;

fn watched() -> Vec<Contender> {
    vec![
        Contender::ours("100,000 changes, watched by another process", changed(true)),
        Contender::limit("100,000 changes that nobody watches", None, changed(false)),
    ]
}

/// Inserts as often as it is told to, each time with a number that is one greater.
#[process_fn]
fn insert(map: Map<u64, u64>, turns: Connection<u64, u64>) {
    while let Ok(from) = turns.recv() {
        let numbers = from..from + u64::from(CHANGES);
        let done = numbers.clone().try_for_each(|number| map.insert(number % KEYS, number).map(drop));
        if done.is_err() || turns.send(numbers.end).is_err() {
            return;
        }
    }
}

fn changed(watched: bool) -> io::Result<Run> {
    let manager = Manager::spawn()?;
    let map = filled(&manager)?;
    let (ours, theirs) = duplex::<u64, u64>()?;
    let mut partner = Partner::new(ours, insert::spawn(map.clone(), theirs))?;
    let mut watch = if watched { Some(map.watch().map_err(failed)?) } else { None };
    let mut next = KEYS;
    Ok(Box::new(move |operations| {
        let _manager = &manager;
        let start = Instant::now();
        for _ in 0..operations {
            let last = next + u64::from(CHANGES) - 1;
            partner.channels()?.send(next).map_err(failed)?;
            // A snapshot in between is of all keys, and has the newest as well.
            let newest = |change| match change {
                MapChange::Set(_, value) => value,
                MapChange::Snapshot(entries) => entries.into_iter().map(|(_, value)| value).max().unwrap_or(0),
                _ => 0,
            };
            while let Some(watch) = &mut watch {
                let change = watch.next().ok_or_else(|| failed("the watch has ended"))?;
                if newest(change.map_err(failed)?) == last {
                    break;
                }
            }
            next = partner.channels()?.recv().map_err(failed)?;
        }
        Ok(start.elapsed())
    }))
}
