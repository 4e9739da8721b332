//! Whose turn it is to send a large message through one end of a connection.
//!
//! | state | left by |
//! |---|---|
//! | free | the thread that takes the turn |
//! | sending | that thread: to under way if it has sent its message, else to free |
//! | under way | the next that wants to send, once the receipt is closed: to free |
//!
//! 1. At most one large message of an end is in state sending or under way, which bounds the memory in flight.
//! 2. Nobody waits with the lock held, so each thread waits as long as its own patience lasts.
//! 3. A receipt is closed by whoever receives the message, and by the kernel when everyone who could is dead.

#[cfg(feature = "async")]
use std::mem;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
#[cfg(feature = "async")]
use std::task::{Poll, Waker};

use super::error::SendErrorReason;
use super::raw::Patience;
use crate::sys::poll::{self, Deadline};
use crate::watched::Watched;

enum State {
    Free,
    Sending,
    /// With the sender's end of the receipt; see the module `packet`.
    UnderWay(Arc<Watched>),
}

/// One end's turn.
pub(super) struct Turn {
    state: Mutex<State>,
    /// Notified when the state sending is left.
    changed: Condvar,
    /// Woken when the state sending is left. Locked within the lock of the state or alone.
    #[cfg(feature = "async")]
    tasks: Mutex<Vec<Waker>>,
}

impl Turn {
    pub(super) fn new() -> Self {
        Self {
            state: Mutex::new(State::Free),
            changed: Condvar::new(),
            #[cfg(feature = "async")]
            tasks: Mutex::default(),
        }
    }

    /// Takes the turn if it is free, or says which receipt it waits for; else `waker` is woken once the state sending is left.
    #[cfg(feature = "async")]
    pub(super) fn poll_take(&self, waker: &Waker) -> Poll<Result<Taken<'_>, Arc<Watched>>> {
        // What is cloned and dropped here is code of others, so not under the lock.
        let mut waker = Some(waker.clone());
        let mut state = self.lock();
        match &*state {
            State::Free => {
                *state = State::Sending;
                Poll::Ready(Ok(Taken { turn: self }))
            }
            State::UnderWay(receipt) => Poll::Ready(Err(Arc::clone(receipt))),
            State::Sending => {
                let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(waker) = waker.take_if(|waker| !tasks.iter().any(|task| task.will_wake(waker))) {
                    tasks.push(waker);
                }
                Poll::Pending
            }
        }
    }

    /// The message of `receipt` is no longer under way.
    pub(super) fn note_received(&self, receipt: &Arc<Watched>) {
        let mut state = self.lock();
        // Another thread may have been faster, and its message be under way by now.
        if matches!(&*state, State::UnderWay(current) if Arc::ptr_eq(current, receipt)) {
            *state = State::Free;
        }
    }

    /// Waits until no large message of this end is under way.
    pub(super) fn take(&self, patience: Patience) -> Result<Taken<'_>, SendErrorReason> {
        let (deadline, missed) = match patience {
            Patience::Forever => (Deadline::NEVER, SendErrorReason::TimedOut),
            Patience::Until(deadline) => (deadline, SendErrorReason::TimedOut),
            Patience::None => (Deadline::now(), SendErrorReason::Full),
        };
        let mut state = self.lock();
        loop {
            let receipt = match &*state {
                State::Free => {
                    *state = State::Sending;
                    return Ok(Taken { turn: self });
                }
                State::Sending => {
                    state = match deadline.left() {
                        None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                        Some(left) if left.is_zero() => return Err(missed),
                        Some(left) => self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0,
                    };
                    continue;
                }
                State::UnderWay(receipt) => Arc::clone(receipt),
            };
            drop(state);
            if !poll::hung_up(receipt.as_fd(), deadline).map_err(SendErrorReason::Io)? {
                return Err(missed);
            }
            self.note_received(&receipt);
            state = self.lock();
        }
    }

    #[cfg(feature = "async")]
    fn wake_tasks(&self) {
        // The lock is let go of before any of them is woken, which is code of others.
        let tasks = mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        tasks.into_iter().for_each(Waker::wake);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The turn of one thread; gives it up when dropped.
pub(super) struct Taken<'a> {
    turn: &'a Turn,
}

impl Taken<'_> {
    /// The message is under way, and this is its receipt.
    pub(super) fn sent(self, receipt: OwnedFd) {
        *self.turn.lock() = State::UnderWay(Arc::new(Watched::new(receipt)));
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        let mut state = self.turn.lock();
        if matches!(*state, State::Sending) {
            *state = State::Free;
        }
        drop(state);
        self.turn.changed.notify_all();
        #[cfg(feature = "async")]
        self.turn.wake_tasks();
    }
}
