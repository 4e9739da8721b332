//! The end of a wait: a point on the monotonic clock, so that interruptions and new attempts do not
//! prolong the wait.

use std::time::Duration;

use rustix::thread::futex::Timespec;
use rustix::time::{ClockId, clock_gettime};

/// The end of a wait: a point on the monotonic clock, or never, which is later than every point.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Deadline {
    seconds: i64,
    nanoseconds: i64,
}

impl Deadline {
    /// No limit.
    pub const NEVER: Self = Self { seconds: i64::MAX, nanoseconds: 0 };
    /// A deadline that has passed: a wait checks once.
    pub const PASSED: Self = Self { seconds: 0, nanoseconds: 0 };

    /// Returns the deadline that is `time` from now, or [`NEVER`](Self::NEVER) if the clock cannot
    /// represent it. For [`Duration::ZERO`] it returns [`PASSED`](Self::PASSED), without a look at
    /// the clock.
    pub fn after(time: Duration) -> Self {
        if time.is_zero() {
            return Self::PASSED;
        }
        let now = Self::now();
        let Ok(seconds) = i64::try_from(time.as_secs()) else { return Self::NEVER };
        let nanoseconds = now.nanoseconds + i64::from(time.subsec_nanos());
        let carry = nanoseconds / 1_000_000_000;
        match now.seconds.checked_add(seconds).and_then(|sum| sum.checked_add(carry)) {
            // The kernel counts nanoseconds in 64 bits.
            Some(seconds) if seconds < i64::MAX / 1_000_000_000 => {
                Self { seconds, nanoseconds: nanoseconds % 1_000_000_000 }
            }
            _ => Self::NEVER,
        }
    }

    /// Returns the deadline for the kernel; `None` is never.
    pub(crate) fn timespec(self) -> Option<Timespec> {
        (self != Self::NEVER).then_some(Timespec { tv_sec: self.seconds, tv_nsec: self.nanoseconds as _ })
    }

    /// Tells whether the deadline has passed.
    pub fn has_passed(self) -> bool {
        self == Self::PASSED || (self != Self::NEVER && self <= Self::now())
    }

    /// Returns the time that is left, or `None` without a limit.
    pub fn left(self) -> Option<Duration> {
        let now = Self::now();
        match self {
            Self::NEVER => None,
            _ if self <= now => Some(Duration::ZERO),
            _ => {
                let nanoseconds = self.nanoseconds - now.nanoseconds;
                let seconds = self.seconds - now.seconds - i64::from(nanoseconds < 0);
                Some(Duration::new(seconds as u64, nanoseconds.rem_euclid(1_000_000_000) as u32))
            }
        }
    }

    fn now() -> Self {
        let now = clock_gettime(ClockId::Monotonic);
        Self { seconds: now.tv_sec, nanoseconds: now.tv_nsec as i64 }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn deadlines_are_ordered_and_never_overflow() {
        let soon = Deadline::after(Duration::from_nanos(999_999_999));
        let later = Deadline::after(Duration::from_secs(2));
        assert!(Deadline::PASSED < soon && soon < later && later < Deadline::NEVER);
        assert!(soon.nanoseconds < 1_000_000_000);
        for long in [Duration::MAX, Duration::from_secs(u64::MAX / 2), Duration::from_secs(i64::MAX as u64 - 1)] {
            assert_eq!(Deadline::after(long), Deadline::NEVER);
        }
        assert_eq!(Deadline::NEVER.timespec(), None);
    }

    #[test]
    fn what_is_left_is_what_was_given_less_what_has_gone() {
        let given = Duration::from_nanos(5_999_999_999);
        let left = Deadline::after(given).left().unwrap();
        assert!(left <= given && left > Duration::from_secs(1), "{left:?}");
        assert_eq!((Deadline::PASSED.left(), Deadline::NEVER.left()), (Some(Duration::ZERO), None));
        assert!(Deadline::PASSED.has_passed() && !Deadline::NEVER.has_passed());
    }

    #[test]
    fn no_time_at_all_has_passed() {
        assert_eq!(Deadline::after(Duration::ZERO), Deadline::PASSED);
        assert!(Deadline::after(Duration::from_nanos(1)) > Deadline::PASSED);
    }
}
