//! ipc-channel's channel of bytes, to a process of ours.

use std::hint::black_box;
use std::io;

use ::ipc_channel::ipc::{IpcBytesReceiver, IpcBytesSender, IpcOneShotServer, IpcSender, bytes_channel};
use mp_core::process_fn;

use crate::measure::Run;
use crate::partner::{Handle, failed};
use crate::rows::queue::turns::{self, Crew, Plan};

#[process_fn]
fn ipc_channel_receives(server: String, control: Handle, plan: Plan) {
    let connected = || -> io::Result<IpcBytesReceiver> {
        let (sender, receiver) = bytes_channel()?;
        IpcSender::<IpcBytesSender>::connect(server)?.send(sender).map_err(failed)?;
        Ok(receiver)
    };
    let Ok(receiver) = connected() else { return };
    turns::serve(&control, plan.figure, |_| {
        black_box(receiver.recv().map_err(failed)?);
        Ok(plan.what.messages())
    });
}

pub(super) fn one_to_one(plan: Plan) -> io::Result<Run> {
    let (server, name) = IpcOneShotServer::<IpcBytesSender>::new()?;
    let crew = Crew::of(|control| ipc_channel_receives::spawn(name, control, plan))?;
    let (_, sender) = server.accept().map_err(failed)?;
    let message = vec![0x5a; plan.what.length()];
    turns::one_to_one(crew, plan, move || sender.send(&message))
}
