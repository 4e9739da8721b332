//! A set of descriptors that can itself be waited for, with a time at which it becomes ready without them.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::Errno;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};

use super::fd::above_standard_streams;
use super::poll::Deadline;
use crate::watched::Watched;

/// Readable when one of its descriptors is, or when its alarm has come.
pub(crate) struct Events {
    pub(crate) epoll: Watched,
    alarm: OwnedFd,
}

/// What the alarm is known by; no other descriptor may be.
const ALARM: u64 = u64::MAX;

impl Events {
    pub(crate) fn new() -> io::Result<Self> {
        let epoll = above_standard_streams(epoll::create(CreateFlags::CLOEXEC)?)?;
        let alarm = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK)?;
        let events = Self { epoll: Watched::new(epoll), alarm: above_standard_streams(alarm)? };
        events.add(events.alarm.as_fd(), ALARM)?;
        Ok(events)
    }

    /// Adds a descriptor, which is known as `name` from now on.
    pub(crate) fn add(&self, fd: BorrowedFd<'_>, name: u64) -> io::Result<()> {
        Ok(epoll::add(&self.epoll, fd, EventData::new_u64(name), EventFlags::IN | EventFlags::RDHUP)?)
    }

    pub(crate) fn remove(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        Ok(epoll::delete(&self.epoll, fd)?)
    }

    /// Sets the alarm to `deadline`, in the place of the one before. One that has come stays so until it is set anew.
    pub(crate) fn set_alarm(&self, deadline: Deadline) -> io::Result<()> {
        let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
        let value = match deadline.left() {
            // Zero means no alarm at all.
            None => zero,
            Some(left) => Timespec {
                tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: i64::from(left.subsec_nanos()).max(1),
            },
        };
        let setting = Itimerspec { it_interval: zero, it_value: value };
        timerfd_settime(&self.alarm, TimerfdTimerFlags::empty(), &setting)?;
        Ok(())
    }

    /// Returns the names of some descriptors that are ready now, without waiting; not the alarm's.
    pub(crate) fn ready(&self) -> io::Result<Vec<u64>> {
        let mut found: Vec<Event> = Vec::with_capacity(16);
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        loop {
            match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut found), Some(&now)) {
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
                Ok(_) => break,
            }
        }
        Ok(found.iter().map(|event| event.data.u64()).filter(|name| *name != ALARM).collect())
    }
}

impl AsFd for Events {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}
