//! ipc-channel: it has channels, and leaves starting processes to others. The processes here are
//! mp-core's; the channels reach them through the name of a server.

use std::hint::black_box;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use ::ipc_channel::ipc::{
    IpcBytesReceiver, IpcOneShotServer, IpcReceiver, IpcSender, IpcSharedMemory, bytes_channel, channel,
};
use mp_core::process_fn;
use rustix::net::SocketType;

use crate::measure::Run;
use crate::partner::{Handle, Partner, failed, sockets};
use crate::rows::{Pace, exchanges, middle, receive_turns, turn};

/// What a process that echoes sends to its server: how to reach it, and where its echo arrives.
type Ends = (IpcSender<u64>, IpcReceiver<u64>);

#[process_fn]
fn ipc_echo(server: String) {
    let connected = || -> io::Result<_> {
        let (to_here, requests) = channel::<u64>()?;
        let (answers, from_here) = channel::<u64>()?;
        IpcSender::<Ends>::connect(server)?.send((to_here, from_here)).map_err(failed)?;
        Ok((requests, answers))
    };
    let Ok((requests, answers)) = connected() else { return };
    while let Ok(value) = requests.recv() {
        if answers.send(value).is_err() {
            return;
        }
    }
}

pub(super) fn round_trip(pause: Option<Duration>) -> io::Result<Run> {
    let (server, name) = IpcOneShotServer::<Ends>::new()?;
    let process = ipc_echo::spawn(name);
    let (_, ends) = server.accept().map_err(failed)?;
    let mut partner = Partner::new(ends, process)?;
    Ok(exchanges(pause, move || {
        let (sender, receiver) = partner.channels()?;
        sender.send(7).map_err(failed)?;
        receiver.recv().map_err(failed).map(drop)
    }))
}

/// How to send bytes to a process that receives them.
type Bytes = ::ipc_channel::ipc::IpcBytesSender;

#[process_fn]
fn ipc_receive(server: String, control: Handle, pace: Pace) {
    let connected = || -> io::Result<IpcBytesReceiver> {
        let (sender, receiver) = bytes_channel()?;
        IpcSender::<Bytes>::connect(server)?.send(sender).map_err(failed)?;
        Ok(receiver)
    };
    let Ok(messages) = connected() else { return };
    receive_turns(&control, pace, || messages.recv().map(black_box).is_ok());
}

pub(super) fn flow(pace: Pace, message: &Rc<Vec<u8>>) -> io::Result<Run> {
    let (server, name) = IpcOneShotServer::<Bytes>::new()?;
    let (control, theirs) = sockets(SocketType::SEQPACKET)?;
    let process = ipc_receive::spawn(name, Handle(theirs), pace);
    let (_, sender) = server.accept().map_err(failed)?;
    let mut partner = Partner::new((sender, control), process)?;
    let message = Rc::clone(message);
    Ok(Box::new(move |operations| {
        let (sender, control) = partner.channels()?;
        turn(control, pace, operations, || sender.send(&message))
    }))
}

/// How to send shared memory to a process that reads a byte of it.
type Memory = IpcSender<IpcSharedMemory>;

#[process_fn]
fn ipc_receive_memory(server: String, control: Handle) {
    let connected = || -> io::Result<_> {
        let (sender, receiver) = channel::<IpcSharedMemory>()?;
        IpcSender::<Memory>::connect(server)?.send(sender).map_err(failed)?;
        Ok(receiver)
    };
    let Ok(messages) = connected() else { return };
    receive_turns(&control, Pace::Stream, || messages.recv().map(|bytes| black_box(middle(&bytes))).is_ok());
}

pub(super) fn from_bytes(bytes: &Rc<Vec<u8>>) -> io::Result<Run> {
    let (server, name) = IpcOneShotServer::<Memory>::new()?;
    let (control, theirs) = sockets(SocketType::SEQPACKET)?;
    let process = ipc_receive_memory::spawn(name, Handle(theirs));
    let (_, sender) = server.accept().map_err(failed)?;
    let mut partner = Partner::new((sender, control), process)?;
    let bytes = Rc::clone(bytes);
    Ok(Box::new(move |operations| {
        let (sender, control) = partner.channels()?;
        turn(control, Pace::Stream, operations, || sender.send(IpcSharedMemory::from_bytes(&bytes)).map_err(failed))
    }))
}
