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
    /// How many functions run and use the object.
    pub(super) running: u32,
    /// The one that runs may change it.
    pub(super) exclusive: bool,
    /// It may have become unused while something ran.
    pub(super) suspected: bool,
    /// What has arrived and not begun.
    pub(super) waiting: VecDeque<(u64, Request)>,
}

impl Object {
    pub(super) fn new(anchor: Arc<Anchor>, interface: String, content: Content) -> Self {
        let waiting = VecDeque::new();
        Self { anchor, interface, content, running: 0, exclusive: false, suspected: false, waiting }
    }

    /// Returns the next call, if it can run now, beside what runs already. It is not overtaken.
    pub(super) fn next(&mut self) -> Option<(u64, Request, Turn)> {
        let turn = self.content.turn(&self.waiting.front()?.1.operation);
        if self.exclusive || (self.running > 0 && turn == Turn::Exclusive) {
            return None;
        }
        self.waiting.pop_front().map(|(client, request)| (client, request, turn))
    }

    pub(super) fn begin(&mut self, turn: Turn) {
        self.running += 1;
        self.exclusive = turn == Turn::Exclusive;
    }

    pub(super) fn end(&mut self) {
        self.running -= 1;
        self.exclusive = false;
    }
}
