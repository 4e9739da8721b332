//! Our queue.

use std::borrow::Cow;
use std::fmt::Display;
use std::hint::black_box;
use std::io;

use mp_core::process_fn;
use mp_queue::Queue;
use serde::{Deserialize, Serialize};
use serde_bytes::Bytes;

use super::CROWD;
use super::turns::{self, BATCH, Crew, Figure, Message, Plan, Polling, What};
use crate::measure::Run;
use crate::partner::{Handle, failed};

/// A byte string. Whoever sends it has it somewhere already; whoever receives it owns it.
pub(super) type Text = Cow<'static, Bytes>;

/// Bytes to send. They stay for as long as this process.
pub(super) fn text(length: u32) -> &'static Bytes {
    Bytes::new(vec![0x5a; length as usize].leak())
}

#[derive(Serialize, Deserialize)]
enum Source {
    Messages(Queue<Message>),
    Texts(Queue<Text>),
}

pub(super) fn one<T>(received: Result<T, impl Display>) -> io::Result<u32> {
    black_box(received.map_err(failed)?);
    Ok(1)
}

#[process_fn]
fn receives(source: Source, control: Handle, plan: Plan) {
    match source {
        Source::Messages(queue) if plan.what == What::Batch => turns::serve(&control, plan.figure, |left| {
            let messages = queue.get_many(left.min(BATCH) as usize).map_err(failed)?;
            Ok(black_box(messages).len() as u32)
        }),
        Source::Messages(queue) => turns::serve(&control, plan.figure, |_| one(queue.get())),
        Source::Texts(queue) => turns::serve(&control, plan.figure, |_| one(queue.get())),
    }
}

fn crew(source: Source, plan: Plan) -> io::Result<Crew> {
    Crew::of(|control| receives::spawn(source, control, plan))
}

pub(super) fn one_to_one(plan: Plan) -> io::Result<Run> {
    if let What::Bytes(length) = plan.what {
        let queue = Queue::new()?;
        let crew = crew(Source::Texts(queue.clone()), plan)?;
        let text = text(length);
        return turns::one_to_one(crew, plan, move || queue.put(Cow::Borrowed(text)).map_err(failed));
    }
    let queue = Queue::bounded(plan.what.capacity())?;
    let crew = crew(Source::Messages(queue.clone()), plan)?;
    if plan.what == What::Batch {
        return turns::one_to_one(crew, plan, move || {
            queue.put_many((0..BATCH).map(|_| black_box([7; 8]))).map_err(failed).map(drop)
        });
    }
    turns::one_to_one(crew, plan, move || queue.put(black_box([7; 8])).map_err(failed))
}

#[process_fn]
fn sends(queue: Queue<Message>, control: Handle, plan: Plan) {
    turns::serve(&control, plan.figure, |_| queue.put(black_box([7; 8])).map(|()| 1).map_err(failed));
}

pub(super) fn crowd() -> io::Result<Run> {
    let plan = Plan::stream(What::Small);
    let queue = Queue::bounded(plan.what.capacity())?;
    let mut crew = Crew::default();
    for _ in 0..CROWD {
        crew.add(|control| sends::spawn(queue.clone(), control, plan))?;
        crew.add(|control| receives::spawn(Source::Messages(queue.clone()), control, plan))?;
    }
    turns::crowd(crew)
}

/// Waits for a message, and does not sleep if it `polls`.
fn get(queue: &Queue<Message>, polls: bool) -> io::Result<Message> {
    if !polls {
        return queue.get().map_err(failed);
    }
    let mut polling = Polling::default();
    loop {
        if let Some(message) = queue.try_get().map_err(failed)? {
            return Ok(message);
        }
        polling.again();
    }
}

#[process_fn]
fn returns(there: Queue<Message>, back: Queue<Message>, control: Handle, polls: bool) {
    turns::serve(&control, Figure::Stream, |_| {
        back.put(get(&there, polls)?).map_err(failed)?;
        Ok(1)
    });
}

/// Two queues: there and back.
pub(super) fn exchanges(polls: bool) -> io::Result<Run> {
    let (there, back) = (Queue::new()?, Queue::new()?);
    let crew = Crew::of(|control| returns::spawn(there.clone(), back.clone(), control, polls))?;
    turns::exchanges(crew, move || {
        there.put([7; 8]).map_err(failed)?;
        get(&back, polls).map(drop)
    })
}
