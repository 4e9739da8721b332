//! crossbeam's bounded channel, between threads of this process: what a queue costs where the
//! messages need not leave it.

use std::hint::black_box;
use std::io;

use crossbeam_channel::{Receiver, Sender, bounded};

use super::CROWD;
use super::turns::{self, Crew, Message, Plan, What};
use crate::measure::Run;
use crate::partner::failed;

/// Receives one message, and then what is there of a batch.
fn receive<T>(receiver: &Receiver<T>, most: u32) -> io::Result<u32> {
    black_box(receiver.recv().map_err(failed)?);
    let mut count = 1;
    while count < most {
        let Ok(message) = receiver.try_recv() else { break };
        black_box(message);
        count += 1;
    }
    Ok(count)
}

fn send<T>(sender: &Sender<T>, message: T) -> io::Result<()> {
    sender.send(black_box(message)).map_err(|_| io::ErrorKind::BrokenPipe.into())
}

pub(super) fn one_to_one(plan: Plan) -> io::Result<Run> {
    let mut crew = Crew::default();
    if let What::Bytes(length) = plan.what {
        let bytes = vec![0x5a_u8; length as usize];
        let (sender, receiver) = bounded::<Vec<u8>>(plan.what.capacity());
        crew.add_thread(move |_| receive(&receiver, 1), plan.figure)?;
        return turns::one_to_one(crew, plan, move || send(&sender, bytes.clone()));
    }
    let (sender, receiver) = bounded::<Message>(plan.what.capacity());
    let most = plan.what.messages();
    crew.add_thread(move |left| receive(&receiver, most.min(left)), plan.figure)?;
    turns::one_to_one(crew, plan, move || (0..most).try_for_each(|_| send(&sender, [7; 8])))
}

pub(super) fn crowd() -> io::Result<Run> {
    let plan = Plan::stream(What::Small);
    let (sender, receiver) = bounded::<Message>(plan.what.capacity());
    let mut crew = Crew::default();
    for _ in 0..CROWD {
        let (sender, receiver) = (sender.clone(), receiver.clone());
        crew.add_thread(move |_| send(&sender, [7; 8]).map(|()| 1), plan.figure)?;
        crew.add_thread(move |_| receive(&receiver, 1), plan.figure)?;
    }
    turns::crowd(crew)
}
