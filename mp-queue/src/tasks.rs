//! Which tasks of a joinable queue are finished, and which were abandoned.
//!
//! | | counts |
//! |---|---|
//! | put | the messages of the ring's `tail` |
//! | taken | the messages of the ring's `head` |
//! | finished | `finished`: the calls of `task_done` |
//! | held | a number for each process that consumes: what it took, less what it finished |
//!
//! All tasks are finished when *finished* equals *put*. Each process has a slot for its number, and
//! a lock of the kernel on that slot, which ends with the process.
//!
//! 1. *taken* and *finished* do not depend on anybody's death: the first is the ring's own word,
//!    and a task is finished by one write.
//! 2. What is taken, not finished, and not held by a living process was abandoned. A slot whose
//!    lock nobody has does not count, so it does not matter what the dead process had written
//!    there.
//! 3. A process raises its number before it takes a task, and lowers it after it finished one. So
//!    its number is never less than what it holds, and a task is never taken for abandoned by
//!    mistake. One that was abandoned may be overlooked for an instant, and is found by the next
//!    look.
//! 4. A task that one process took and another one finished counts for both until the first one
//!    dies. So it is the process that took a task that should finish it.

use std::io;
use std::sync::atomic::{AtomicU32, Ordering};

use mp_sync::futex::Deadline;

use crate::error::{JoinError, TooManyTasksDone};
use crate::memory::{Memory, Side};
use crate::protocol::tasks::SLOTS;

/// The first of the groups, in the queue's memory, that are locks of slots.
const FIRST_GROUP: u32 = 16;

impl Memory {
    fn slot(&self) -> Option<&AtomicU32> {
        let tasks = &self.head().tasks;
        let index = *self.slot.0.get_or_init(|| {
            let is_free = |index: &usize| self.region().alone(group(*index)).unwrap_or(false);
            let found = (0..SLOTS).find(is_free);
            match found {
                // What a process had written there that died no longer counts.
                Some(index) => tasks.held[index].store(0, Ordering::SeqCst),
                None => tasks.has_untracked.store(true, Ordering::SeqCst),
            }
            found
        });
        index.map(|index| &tasks.held[index])
    }

    /// Notes that this process is about to take so many tasks.
    #[cold]
    pub(crate) fn hold(&self, count: u32) {
        if let Some(held) = self.slot() {
            held.fetch_add(count, Ordering::SeqCst);
        }
    }

    /// How many tasks were put and are not finished.
    pub(crate) fn unfinished(&self) -> u32 {
        // In this order: what is put in between is not finished yet.
        let finished = self.head().tasks.finished.load(Ordering::SeqCst);
        self.head().indices.tail().count().wrapping_sub(finished)
    }

    pub(crate) fn task_done(&self) -> Result<(), TooManyTasksDone> {
        let head = self.head();
        let finish = |finished: u32| (head.indices.head().count() != finished).then_some(finished.wrapping_add(1));
        let finished = head.tasks.finished.fetch_update(Ordering::SeqCst, Ordering::SeqCst, finish);
        finished.map_err(|_| TooManyTasksDone(()))?;
        if let Some(held) = self.slot() {
            let _ = held.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |held| held.checked_sub(1));
        }
        if self.unfinished() == 0 {
            head.tasks.all_finished.notify_all(|| {});
        }
        Ok(())
    }

    /// Waits until all tasks are finished; `false` if they are not before the deadline.
    pub(crate) fn join(&self, deadline: Deadline) -> Result<bool, JoinError> {
        loop {
            if self.unfinished() == 0 {
                return Ok(true);
            }
            let tasks = self.abandoned().map_err(JoinError::Io)?;
            if tasks > 0 {
                return Err(JoinError::Abandoned { tasks });
            }
            if self.is_gone(Side::Consumers, 1).map_err(JoinError::Io)? && self.unfinished() > 0 {
                return Err(JoinError::Disconnected);
            }
            if deadline.has_passed() {
                return Ok(false);
            }
            // It looks again after 100 ms at the latest.
            self.head().tasks.all_finished.sleep(|| self.unfinished() == 0, deadline);
        }
    }

    /// How many tasks were taken by processes that have died, or have dropped the queue, without
    /// finishing them.
    fn abandoned(&self) -> io::Result<usize> {
        let head = self.head();
        let tasks = &head.tasks;
        if tasks.has_untracked.load(Ordering::SeqCst) {
            return Ok(0);
        }
        let taken = head.indices.head();
        // After it: a first task that is taken meanwhile is noticed below.
        let own = self.slot.0.get().copied().flatten();
        let mut held = 0;
        for (index, count) in tasks.held.iter().enumerate() {
            let count = count.load(Ordering::SeqCst);
            if count > 0 && (own == Some(index) || self.region().has_others(group(index))?) {
                held += u64::from(count);
            }
        }
        // After the numbers: a task that was finished meanwhile counts less here.
        let finished = tasks.finished.load(Ordering::SeqCst);
        if head.indices.head() != taken {
            // A task that was taken meanwhile may be missing in the numbers.
            return Ok(0);
        }
        let open = taken.count().wrapping_sub(finished);
        Ok(u64::from(open).saturating_sub(held) as usize)
    }
}

fn group(slot: usize) -> u32 {
    FIRST_GROUP + slot as u32
}
