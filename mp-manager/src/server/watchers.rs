//! Who follows the changes of an object.
//!
//! An object with watchers keeps its last changes, each once for all watchers. A watcher asks for
//! what it has not seen, and its call waits if there is nothing.
//!
//! 1. A change is kept until every watcher has seen it, and no longer than [`MOST`] and
//!    [`MOST_BYTES`] allow.
//! 2. A watcher that has missed a change gets a snapshot. So a slow watcher costs no memory, and
//!    keeps no value alive for long.
//! 3. A watcher goes with its client.

use std::collections::{HashMap, VecDeque};

use super::waiting::{Answers, Waiter};
use crate::error::CallError;
use crate::value::Entry;
use crate::wire::{Body, Change};

/// How many changes of an object are kept.
const MOST: usize = 1024;

/// How long the keys and values of the changes that are kept may be in all.
const MOST_BYTES: u64 = 1 << 20;

/// How many watchers an object may have.
const MOST_WATCHERS: usize = 4096;

#[derive(Default)]
pub(super) struct Watchers {
    /// By client, and the number that the client chose.
    all: HashMap<(u64, u64), Watcher>,
    log: VecDeque<Change>,
    /// The length of the keys and values in `log`.
    length: u64,
    /// The number of the next change.
    next: u64,
}

#[derive(Default)]
struct Watcher {
    /// The first change that it has not seen; `None` if it has seen nothing.
    next: Option<u64>,
    /// Its call that waits.
    call: Option<u64>,
}

impl Watchers {
    pub(super) fn are_none(&self) -> bool {
        self.all.is_empty()
    }

    /// Notes a change.
    pub(super) fn note(&mut self, change: Change) {
        self.length += change.length();
        self.log.push_back(change);
        self.next += 1;
        while self.log.len() > MOST || self.length > MOST_BYTES {
            self.drop_first();
        }
    }

    fn drop_first(&mut self) {
        self.length -= self.log.pop_front().map_or(0, |change| change.length());
    }

    fn first(&self) -> u64 {
        self.next - self.log.len() as u64
    }

    /// Notes that a call waits for what its watcher has not seen.
    pub(super) fn ask(&mut self, who: Waiter, number: u64) -> Result<(), CallError> {
        let of = (who.client, number);
        if self.all.len() >= MOST_WATCHERS && !self.all.contains_key(&of) {
            return Err(CallError::Busy("too many watches of the object".to_owned()));
        }
        self.all.entry(of).or_default().call = Some(who.call);
        Ok(())
    }

    /// Answers the calls of watchers for which there is something new.
    pub(super) fn settle(&mut self, entries: impl Fn() -> Vec<Entry>, answers: &mut Answers) {
        if self.all.is_empty() {
            return;
        }
        let (first, end) = (self.first(), self.next);
        let mut needed = end;
        for (&(client, _), watcher) in &mut self.all {
            let next = watcher.next.filter(|next| *next >= first);
            if watcher.call.is_none() || next == Some(end) {
                needed = needed.min(next.unwrap_or(end));
                continue;
            }
            let body = match next {
                Some(next) => Body::Changes(self.log.range((next - first) as usize..).cloned().collect()),
                None => Body::Entries(entries().into()),
            };
            watcher.next = Some(end);
            answers.extend(watcher.call.take().map(|call| (Waiter { client, call }, body)));
        }
        for _ in first..needed {
            self.drop_first();
        }
    }

    /// The time of a call is over.
    pub(super) fn give_up(&mut self, who: Waiter, answers: &mut Answers) {
        let waits = |(of, watcher): &(&(u64, u64), &mut Watcher)| of.0 == who.client && watcher.call == Some(who.call);
        if let Some((_, watcher)) = self.all.iter_mut().find(waits) {
            watcher.call = None;
            answers.push((who, Body::Changes(Vec::new())));
        }
    }

    /// Ends the watchers of a client: one, or all.
    pub(super) fn end(&mut self, client: u64, number: Option<u64>) {
        self.all.retain(|of, _| of.0 != client || number.is_some_and(|number| of.1 != number));
        if self.all.is_empty() {
            self.log.clear();
            self.length = 0;
        }
    }
}
