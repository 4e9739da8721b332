//! An object in the server, and the calls that take turns in it.

use std::collections::VecDeque;
use std::sync::Arc;

use super::content::{Content, Turn};
use crate::value::Anchor;
use crate::wire::Request;

pub(super) struct Object {
    pub(super) anchor: Arc<Anchor>,
    pub(super) interface: String,
    pub(super) content: Content,
    pub(super) running: Running,
    /// It may have become unused while something ran.
    pub(super) suspected: bool,
    /// What arrived meanwhile.
    pub(super) waiting: VecDeque<(u64, Request)>,
}

/// What runs on threads and uses an object.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Running {
    Nothing,
    /// So many calls that may run beside each other.
    Shared(u32),
    Exclusive,
}

impl Object {
    pub(super) fn new(anchor: Arc<Anchor>, interface: String, content: Content) -> Self {
        Self { anchor, interface, content, running: Running::Nothing, suspected: false, waiting: VecDeque::new() }
    }

    /// Tells whether a call can run now, beside what runs already.
    pub(super) fn admits(&self, turn: Turn) -> bool {
        match (self.running, turn) {
            (Running::Nothing, _) | (Running::Shared(_), Turn::Shared | Turn::None) => true,
            (Running::Shared(_), Turn::Exclusive) | (Running::Exclusive, _) => false,
        }
    }

    pub(super) fn begin(&mut self, turn: Turn) {
        self.running = match (self.running, turn) {
            (Running::Shared(others), Turn::Shared) => Running::Shared(others + 1),
            (_, Turn::Shared) => Running::Shared(1),
            (_, Turn::Exclusive) => Running::Exclusive,
            (running, Turn::None) => running,
        };
    }

    pub(super) fn end(&mut self) {
        self.running = match self.running {
            Running::Shared(others @ 2..) => Running::Shared(others - 1),
            _ => Running::Nothing,
        };
    }
}
