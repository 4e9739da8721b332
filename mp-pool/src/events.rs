//! What there is to sleep beside: a wake-up, what workers say, and their ends.
//!
//! It is a set of [epoll(7)](https://man7.org/linux/man-pages/man7/epoll.7.html), so a turn costs
//! the same however many workers there are.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::thread;
use std::time::Duration;

use mp_core::raw::forks;
use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::io::Errno;

/// Something has happened. It is told again until it was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    Woken,
    /// The worker of this number has said something, or will say nothing more.
    Said(usize),
    /// The worker of this number has ended.
    Ended(usize),
}

impl Event {
    fn key(self) -> EventData {
        EventData::new_u64(match self {
            Self::Woken => u64::MAX,
            Self::Said(number) => number as u64 * 2,
            Self::Ended(number) => number as u64 * 2 + 1,
        })
    }

    fn of_key(key: EventData) -> Self {
        match key.u64() {
            u64::MAX => Self::Woken,
            key if key % 2 == 0 => Self::Said(key as usize / 2),
            key => Self::Ended(key as usize / 2),
        }
    }
}

/// How many events a turn looks at.
const AT_ONCE: usize = 64;

pub(crate) struct Events {
    epoll: OwnedFd,
    forks: u32,
}

impl Events {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self { epoll: epoll::create(CreateFlags::CLOEXEC)?, forks: forks() })
    }

    /// Sleeps beside this descriptor as well, from now until it is [removed](Self::remove).
    pub(crate) fn add(&self, descriptor: impl AsFd, event: Event) -> io::Result<()> {
        Ok(epoll::add(&self.epoll, descriptor, event.key(), EventFlags::IN)?)
    }

    /// Has to be called before the descriptor is closed: a copy that `fork` made may have it too,
    /// and then it would stay in the set.
    pub(crate) fn remove(&self, descriptor: impl AsFd) {
        // The copy shares the set with its original.
        if forks() == self.forks {
            // It fails if it is not in the set.
            let _ = epoll::delete(&self.epoll, descriptor);
        }
    }

    /// Sleeps until something has happened, or the time is over. `None` is no limit.
    pub(crate) fn wait(&self, timeout: Option<Duration>) -> Vec<Event> {
        let milliseconds = timeout.map(|timeout| i64::try_from(timeout.as_micros().div_ceil(1000)).unwrap_or(i64::MAX));
        let timeout = milliseconds
            .map(|milliseconds| Timespec { tv_sec: milliseconds / 1000, tv_nsec: milliseconds % 1000 * 1_000_000 });
        let mut events = Vec::with_capacity(AT_ONCE);
        match epoll::wait(&self.epoll, spare_capacity(&mut events), timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            // The descriptor was closed by somebody whom it does not belong to.
            Err(_) => thread::sleep(Duration::from_millis(10)),
        }
        events.iter().map(|event| Event::of_key(event.data)).collect()
    }
}

/// Readable when something has happened.
impl AsFd for Events {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}
