//! crossmist.
//!
//! Version 1.1.2, the newest on crates.io, finds out what a type can do by a specialisation of the
//! standard library that newer compilers no longer have; built by one of these (1.95 for example)
//! it panics at the first value. Its rows then say so.

use std::hint::black_box;
use std::io;
use std::panic::catch_unwind;
use std::rc::Rc;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use ::crossmist::{Child, Duplex, Receiver, channel, duplex};

use crate::measure::Run;
use crate::partner::failed;
use crate::rows::{exchanges, repeated};

/// A process that ends when what it listens to ends.
struct Guest<C> {
    channels: Option<C>,
    process: Option<Child<()>>,
}

impl<C> Guest<C> {
    fn channels(&mut self) -> io::Result<&mut C> {
        self.channels.as_mut().ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

impl<C> Drop for Guest<C> {
    fn drop(&mut self) {
        self.channels = None;
        if let Some(Err(error)) = self.process.take().map(Child::join) {
            eprintln!("a process of crossmist came to harm: {error}");
        }
    }
}

#[::crossmist::func]
fn nothing() {}

/// Whether it works with the compiler that built it. If not, its panic has been printed.
fn check() -> io::Result<()> {
    static WORKS: OnceLock<bool> = OnceLock::new();
    let works = || catch_unwind(|| nothing.run()).is_ok_and(|result| result.is_ok());
    if *WORKS.get_or_init(works) { Ok(()) } else { Err(failed("it panics with this compiler")) }
}

pub(super) fn spawn() -> io::Result<Run> {
    check()?;
    Ok(repeated(|| nothing.spawn()?.join().map_err(failed)))
}

#[::crossmist::func]
fn echo(mut connection: Duplex<u64, u64>) {
    while let Ok(Some(value)) = connection.recv() {
        if connection.send(&value).is_err() {
            return;
        }
    }
}

pub(super) fn round_trip(pause: Option<Duration>) -> io::Result<Run> {
    check()?;
    let (ours, theirs) = duplex::<u64, u64>()?;
    let mut guest = Guest { channels: Some(ours), process: Some(echo.spawn(theirs)?) };
    Ok(exchanges(pause, move || guest.channels()?.request(&7).map(drop)))
}

#[::crossmist::func]
fn receive(mut messages: Receiver<Vec<u8>>, mut control: Duplex<u32, u32>) {
    while let Ok(Some(announced)) = control.recv() {
        for _ in 0..announced {
            if !matches!(messages.recv().map(black_box), Ok(Some(_))) {
                return;
            }
        }
        if control.send(&announced).is_err() {
            return;
        }
    }
}

pub(super) fn flow(message: &Rc<Vec<u8>>) -> io::Result<Run> {
    check()?;
    let (sender, receiver) = channel::<Vec<u8>>()?;
    let (control, theirs) = duplex::<u32, u32>()?;
    let process = receive.spawn(receiver, theirs)?;
    let mut guest = Guest { channels: Some((sender, control)), process: Some(process) };
    let message = Rc::clone(message);
    Ok(Box::new(move |operations| {
        let (sender, control) = guest.channels()?;
        let start = Instant::now();
        control.send(&operations)?;
        for _ in 0..operations {
            sender.send(&message)?;
        }
        control.recv()?.ok_or(io::ErrorKind::UnexpectedEof)?;
        Ok(start.elapsed())
    }))
}
