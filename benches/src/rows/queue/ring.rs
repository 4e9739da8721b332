//! The ring that our queue is built on: one side sends, the other one receives.

use std::borrow::Cow;
use std::hint::black_box;
use std::io;

use mp_core::process_fn;
use mp_queue::ring::{Receiver, Sender, channel};
use serde::{Deserialize, Serialize};

use super::ours::{Text, one, text};
use super::turns::{self, BATCH, Crew, Figure, Message, Plan, What};
use crate::measure::Run;
use crate::partner::{Handle, failed};

#[derive(Serialize, Deserialize)]
enum Source {
    Messages(Receiver<Message>),
    Texts(Receiver<Text>),
}

#[process_fn]
fn ring_receives(source: Source, control: Handle, plan: Plan) {
    match source {
        Source::Messages(mut ring) => turns::serve(&control, plan.figure, |_| one(ring.recv())),
        Source::Texts(mut ring) => turns::serve(&control, plan.figure, |_| one(ring.recv())),
    }
}

fn crew(source: Source, plan: Plan) -> io::Result<Crew> {
    Crew::of(|control| ring_receives::spawn(source, control, plan))
}

pub(super) fn one_to_one(plan: Plan) -> io::Result<Run> {
    if let What::Bytes(length) = plan.what {
        let (mut sender, receiver) = channel(plan.what.capacity() * plan.what.length())?;
        let crew = crew(Source::Texts(receiver), plan)?;
        let text = Cow::Borrowed(text(length));
        return turns::one_to_one(crew, plan, move || sender.send(&text).map_err(failed));
    }
    // What is beside a message takes some of it.
    let (mut sender, receiver) = channel(2 * plan.what.capacity() * size_of::<Message>())?;
    let crew = crew(Source::Messages(receiver), plan)?;
    if plan.what == What::Batch {
        return turns::one_to_one(crew, plan, move || {
            (0..BATCH).try_for_each(|_| sender.push(black_box(&[7; 8])).map_err(failed))?;
            sender.publish().map_err(failed)
        });
    }
    turns::one_to_one(crew, plan, move || sender.send(black_box(&[7; 8])).map_err(failed))
}

#[process_fn]
fn ring_returns(mut there: Receiver<Message>, mut back: Sender<Message>, control: Handle) {
    turns::serve(&control, Figure::Stream, |_| {
        let message = there.recv().map_err(failed)?;
        back.send(&message).map_err(failed)?;
        Ok(1)
    });
}

/// Two rings: there and back.
pub(crate) fn exchanges() -> io::Result<Run> {
    let length = 64 * size_of::<Message>();
    let ((mut there, theirs), (back, mut answers)) = (channel(length)?, channel(length)?);
    let crew = Crew::of(|control| ring_returns::spawn(theirs, back, control))?;
    turns::exchanges(crew, move || {
        there.send(&[7; 8]).map_err(failed)?;
        answers.recv().map(drop).map_err(failed)
    })
}
