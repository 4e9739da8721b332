//! Timers as descriptors.

use std::io;
use std::os::fd::OwnedFd;

use mp_core::raw::{Deadline, above_standard_streams};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};

/// Returns a descriptor that becomes readable at `deadline` and stays readable.
pub(crate) fn at(deadline: Deadline) -> io::Result<OwnedFd> {
    let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK)?;
    let timer = above_standard_streams(timer)?;
    if let Some(left) = deadline.left() {
        let value = Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            // Zero would mean that the timer never expires.
            tv_nsec: i64::from(left.subsec_nanos()).max(1),
        };
        let once = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value: value };
        timerfd_settime(&timer, TimerfdTimerFlags::empty(), &once)?;
    }
    Ok(timer)
}
