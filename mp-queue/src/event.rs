//! What a waiter passes to poll(2) or to an executor.
//!
//! Each side of a queue has an eventfd that all its processes share. The other side writes it after
//! a change, if a waiter was announced (`protocol::index`). Every wait begins with reading it
//! empty.
//!
//! Not every change is written. A process can be killed between the two, and one that is killed
//! with the last handle of its side says nothing. A waiter can be killed, or stopped, after it
//! emptied the eventfd and before it announced itself, while another one waits for what was in it.
//! So those who wait look for themselves every 100 ms, as those who sleep on a futex do: a timer
//! makes their descriptor readable.
//!
//! Threads of a process that wait for the same side share the timer. Each begins its wait with
//! reading it, which can only cost another one the look that it is about to wake up for, and the
//! next one comes 100 ms later.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::OnceLock;

use mp_core::raw::{PollableFd, above_standard_streams};
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{FileType, OFlags, fcntl_getfl, fstat};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};

/// An eventfd, and what this process needs to wait for it.
pub(crate) struct Event {
    eventfd: OwnedFd,
    /// Made by the first wait.
    waiting: OnceLock<Waiting>,
}

struct Waiting {
    timer: OwnedFd,
    /// An epoll set of both, which is readable when one of them is.
    either: PollableFd,
}

impl Event {
    pub(crate) fn create() -> io::Result<Self> {
        let eventfd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self { eventfd: above_standard_streams(eventfd)?, waiting: OnceLock::new() })
    }

    /// The event of an eventfd that another process made; `None` if the descriptor is none, and a
    /// read or a write could wait or raise a signal.
    pub(crate) fn attach(eventfd: OwnedFd) -> io::Result<Option<Self>> {
        // Of what is no file, directory, socket, pipe or device, the inode has no type.
        let has_type = FileType::from_raw_mode(fstat(&eventfd)?.st_mode) != FileType::Unknown;
        let waits = !fcntl_getfl(&eventfd)?.contains(OFlags::NONBLOCK);
        Ok((!has_type && !waits).then(|| Self { eventfd, waiting: OnceLock::new() }))
    }

    /// The eventfd, for other processes.
    pub(crate) fn eventfd(&self) -> BorrowedFd<'_> {
        self.eventfd.as_fd()
    }

    /// Makes the descriptors of all waiters readable.
    pub(crate) fn write(&self) {
        // It fails if the eventfd is full, and then it is readable.
        let _ = rustix::io::write(&self.eventfd, &1_u64.to_ne_bytes());
    }

    /// Begins a wait: makes the descriptor unreadable, until the next change or the time to look.
    /// Tells whether that time had come since the last wait.
    pub(crate) fn begin(&self) -> io::Result<bool> {
        let waiting = self.waiting()?;
        let _ = rustix::io::read(&self.eventfd, &mut [0_u8; 8]);
        Ok(rustix::io::read(&waiting.timer, &mut [0_u8; 8]).is_ok())
    }

    /// What is waited for.
    pub(crate) fn pollable(&self) -> io::Result<&PollableFd> {
        self.waiting().map(|waiting| &waiting.either)
    }

    fn waiting(&self) -> io::Result<&Waiting> {
        if let Some(waiting) = self.waiting.get() {
            return Ok(waiting);
        }
        let timer = timer()?;
        let set = above_standard_streams(epoll::create(CreateFlags::CLOEXEC)?)?;
        for fd in [&self.eventfd, &timer] {
            epoll::add(&set, fd, EventData::new_u64(0), EventFlags::IN)?;
        }
        // Another thread may have been faster.
        let _ = self.waiting.set(Waiting { timer, either: PollableFd::new(set) });
        self.waiting.get().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

/// A timer that is readable 100 ms after it was made or read. While nobody reads it, it is still.
fn timer() -> io::Result<OwnedFd> {
    let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK)?;
    let timer = above_standard_streams(timer)?;
    let look = || Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
    timerfd_settime(&timer, TimerfdTimerFlags::empty(), &Itimerspec { it_interval: look(), it_value: look() })?;
    Ok(timer)
}
