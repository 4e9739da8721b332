//! What the kernel and the processor allow: sockets, pipes, a futex, a word that is polled, and a
//! copy of memory.

use std::hint::black_box;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering;

use mp_core::process_fn;
use rustix::net::SocketType;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::thread::futex;

use super::CROWD;
use super::turns::{self, Crew, Figure, Plan, Polling, What};
use crate::locks::Shared;
use crate::measure::Run;
use crate::partner::{Handle, read_all, sockets, write_all};
use crate::rows::sync::alone;

/// A descriptor to write to, and one to read from.
pub(super) type Ends = (OwnedFd, OwnedFd);

pub(super) fn socketpair(kind: SocketType) -> io::Result<Ends> {
    sockets(kind)
}

pub(super) fn pipe() -> io::Result<Ends> {
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
    Ok((writer, reader))
}

#[process_fn]
fn reads(end: Handle, control: Handle, plan: Plan) {
    let length = plan.what.length();
    let messages = plan.what.messages();
    let ended = |is_there: bool| if is_there { Ok(messages) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
    if let What::Bytes(_) = plan.what {
        // Into fresh memory, which is not initialised, so that nobody pays for zeros that are
        // overwritten.
        turns::serve(&control, plan.figure, |_| {
            let mut bytes = Vec::with_capacity(length);
            while bytes.len() < length {
                if rustix::io::read(&end, rustix::buffer::spare_capacity(&mut bytes))? == 0 {
                    return ended(false);
                }
            }
            black_box(&bytes);
            ended(true)
        });
    } else {
        let mut buffer = vec![1; length];
        turns::serve(&control, plan.figure, |_| ended(read_all(&end, black_box(&mut buffer))?));
    }
}

#[process_fn]
fn writes(end: Handle, control: Handle, plan: Plan) {
    let message = vec![0x5a; plan.what.length()];
    turns::serve(&control, plan.figure, |_| write_all(&end, &message).map(|()| plan.what.messages()));
}

/// One write and one read for each operation: all messages of a batch at once.
pub(super) fn one_to_one(ends: io::Result<Ends>, plan: Plan) -> io::Result<Run> {
    let (ours, theirs) = ends?;
    let crew = Crew::of(|control| reads::spawn(Handle(theirs), control, plan))?;
    let message = vec![0x5a; plan.what.length()];
    turns::one_to_one(crew, plan, move || write_all(&ours, &message))
}

/// Several processes at each end.
pub(super) fn crowd(ends: io::Result<Ends>) -> io::Result<Run> {
    let (writer, reader) = ends?;
    let plan = Plan::stream(What::Small);
    let mut crew = Crew::default();
    for _ in 0..CROWD {
        let (writer, reader) = (writer.try_clone()?, reader.try_clone()?);
        crew.add(|control| writes::spawn(Handle(writer), control, plan))?;
        crew.add(|control| reads::spawn(Handle(reader), control, plan))?;
    }
    turns::crowd(crew)
}

#[process_fn]
fn awaits_word(shared: Shared, control: Handle, figure: Figure) {
    let mut seen = 0;
    turns::serve(&control, figure, |_| {
        while shared.turn.load(Ordering::Acquire) == seen {
            let _ = futex::wait(&shared.turn, futex::Flags::empty(), seen, None);
        }
        seen = seen.wrapping_add(1);
        Ok(1)
    });
}

/// A word that is counted up, and a wake-up whenever it is.
pub(super) fn futex(plan: Plan) -> io::Result<Run> {
    let shared = Shared::new()?;
    let theirs = shared.again()?;
    let crew = Crew::of(|control| awaits_word::spawn(theirs, control, plan.figure))?;
    turns::one_to_one(crew, plan, move || {
        shared.turn.fetch_add(1, Ordering::Release);
        futex::wake(&shared.turn, futex::Flags::empty(), 1)?;
        Ok(())
    })
}

/// Waits for a word to become odd, or even, without ever sleeping.
fn poll_word(shared: &Shared, odd: bool) {
    let mut polling = Polling::default();
    while (shared.turn.load(Ordering::Acquire) % 2 == 1) != odd {
        polling.again();
    }
}

#[process_fn]
fn polls_word(shared: Shared, control: Handle) {
    turns::serve(&control, Figure::Stream, |_| {
        poll_word(&shared, true);
        shared.turn.fetch_add(1, Ordering::Release);
        Ok(1)
    });
}

/// A word that both sides poll: there and back.
pub(super) fn polled() -> io::Result<Run> {
    let shared = Shared::new()?;
    let theirs = shared.again()?;
    let crew = Crew::of(|control| polls_word::spawn(theirs, control))?;
    turns::exchanges(crew, move || {
        shared.turn.fetch_add(1, Ordering::Release);
        poll_word(&shared, false);
        Ok(())
    })
}

/// What the memory that is copied from, and to, takes at least: more than the first cache has.
const COPIED: usize = 1 << 20;

/// One copy of as many bytes, from one buffer to another. If they are few, each copy is of the next
/// ones, so that neither side is in the first cache.
pub(super) fn copy(length: usize) -> io::Result<Run> {
    let size = length.max(COPIED);
    let source = vec![0x5a_u8; size];
    let mut target = vec![1_u8; size];
    let mut next = 0;
    alone(move || {
        Ok(move || {
            let from = black_box(&source[next..next + length]);
            black_box(&mut target[next..next + length]).copy_from_slice(from);
            next = if next + 2 * length <= size { next + length } else { 0 };
        })
    })
}
