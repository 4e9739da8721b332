//! Killing processes at instants of chance: how often, which, and by whom.
//!
//! `MP_FAULTS=10000` sets how many processes a test starts and kills, `MP_FAULTS_SEED=7` which
//! instants it chooses. A test that fails prints its seed.

#![allow(clippy::new_without_default, reason = "what begins with chance, or starts a thread, is no default")]

use std::os::fd::{AsFd, OwnedFd};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use mp_core::Process;
use rustix::process::{PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::procfs::{Entry, number_of};

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is no number")))
}

/// Returns how many processes a test kills: what `MP_FAULTS` says, or `default`.
pub fn count(default: u64) -> u64 {
    variable("MP_FAULTS").unwrap_or(default)
}

/// Returns how long a test that kills `count` processes may take on a busy machine.
pub fn limit(count: u64) -> Duration {
    Duration::from_secs(120) + Duration::from_millis(count * 150)
}

/// Pseudo-random numbers that follow from the seed: xorshift64*.
pub struct Random(u64);

impl Random {
    /// Begins with the seed in `MP_FAULTS_SEED`, or with the time, and prints it.
    pub fn new() -> Self {
        let chance = || SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos() as u64;
        let seed = variable("MP_FAULTS_SEED").unwrap_or_else(chance);
        println!("the seed is {seed}: MP_FAULTS_SEED={seed}");
        Self::seeded(seed)
    }

    /// Begins with this seed.
    pub fn seeded(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// Returns the next number, of 53 bits.
    #[expect(clippy::should_implement_trait, reason = "these numbers have no end")]
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 11
    }

    /// Returns a number less than `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// Returns one of `choices`.
    pub fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize]
    }

    /// Returns a duration of at most `end`.
    pub fn moment(&mut self, end: Duration) -> Duration {
        Duration::from_nanos(self.below(end.as_nanos() as u64 + 1))
    }
}

/// Waits without sleeping: a sleep takes longer than the instants that a test wants to hit.
pub fn busy(duration: Duration) {
    let start = Instant::now();
    while start.elapsed() < duration {
        std::hint::spin_loop();
    }
}

enum Order {
    /// Kill this one.
    This(OwnedFd, Duration),
    /// Kill the child that this process is about to start, maybe before the call that starts it has
    /// returned.
    Next { after: u32, delay: Duration },
}

/// A thread that kills processes while another thread starts and joins them.
pub struct Killer {
    orders: Sender<Order>,
    called_off: Sender<()>,
    done: Receiver<Option<Instant>>,
    thread: thread::JoinHandle<()>,
}

impl Killer {
    /// Starts the thread.
    pub fn new() -> Self {
        let (orders, ordered) = mpsc::channel();
        let (called_off, call_off) = mpsc::channel();
        let (finished, done) = mpsc::channel();
        let thread = thread::spawn(move || {
            for order in ordered {
                let mut is_off = false;
                let (pidfd, delay) = match order {
                    Order::This(pidfd, delay) => (Some(pidfd), delay),
                    Order::Next { after, delay } => loop {
                        let found = child_after(after);
                        is_off = call_off.try_recv().is_ok();
                        if found.is_some() || is_off {
                            break (found, delay);
                        }
                    },
                };
                let killed = pidfd.map(|pidfd| {
                    busy(delay);
                    // It may have ended by itself.
                    let _ = pidfd_send_signal(pidfd, Signal::KILL);
                    Instant::now()
                });
                if !is_off {
                    call_off.recv().unwrap();
                }
                finished.send(killed).unwrap();
            }
        });
        Self { orders, called_off, done, thread }
    }

    /// Kills a process after `delay`.
    pub fn kill<T>(&self, process: &Process<T>, delay: Duration) {
        let pidfd = process.as_fd().try_clone_to_owned().unwrap();
        self.orders.send(Order::This(pidfd, delay)).unwrap();
    }

    /// Kills the next child of this process, `delay` after it can be seen. The last child had the
    /// number `after`.
    pub fn kill_next(&self, after: u32, delay: Duration) {
        self.orders.send(Order::Next { after, delay }).unwrap();
    }

    /// Waits until the last order was carried out and returns when that was. Calls the order off if
    /// the child has ended and was never found.
    pub fn finish(&self) -> Option<Instant> {
        self.called_off.send(()).unwrap();
        self.done.recv().unwrap()
    }

    /// Ends the thread.
    pub fn end(self) {
        drop(self.orders);
        self.thread.join().unwrap();
    }
}

/// A child of this process whose number is a little above `number`: the kernel gives them out in
/// order.
fn child_after(number: u32) -> Option<OwnedFd> {
    (number + 1..number + 24).find_map(|pid| {
        let pidfd = pidfd_open(number_of(pid), PidfdFlags::empty()).ok()?;
        // Asked after it was opened, so it is about the same process.
        let entry = Entry::read(pid)?;
        (entry.parent == std::process::id() && !entry.has_ended()).then_some(pidfd)
    })
}
