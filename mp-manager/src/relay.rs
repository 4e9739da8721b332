//! A connection to a server on another machine.
//!
//! ```text
//! processes ── sockets ── relay ══ stream ══ relay ── socket ── server
//! ```
//!
//! Each process of the one machine has a stream of its own, so the server learns when the process
//! ends. A relay passes on requests and answers. It replaces what cannot leave the machine: the
//! leases. The relay beside the server keeps the lease of each object that it passed on, and the
//! other one makes a pipe in its place and reports when that hangs up. So on both machines the
//! kernel counts.
//!
//! | event | consequence |
//! |---|---|
//! | the process ends | `Bye`: the connection with the server is closed, and the leases are kept |
//! | its last lease hangs up after that | the stream is closed |
//! | the stream ends, or is silent for three beats | the connections at both ends and all leases are closed |
//! | the server ends | the same |

use std::collections::HashMap;
use std::io;
use std::net::Shutdown;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use mp_core::raw::{Message, SharedFd};
use mp_listener::ByteConnection;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::net::shutdown;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::CallError;
use crate::mutex::lock;
use crate::value::{Anchor, Watch, leaving};
use crate::wire::{Announced, Body, ClientsEnd, Request, Response, ServersEnd};

/// What goes over the stream, with requests the one way and answers the other.
#[derive(Serialize, Deserialize)]
enum Frame<T> {
    /// This side is there.
    Beat,
    Message(T),
    /// A lease of this object has hung up.
    Release(u64),
    /// The process has ended.
    Bye,
}

/// After so many beats without a sound, the peer is taken for dead.
const SILENCE: u32 = 3;

/// The sending half of a stream.
struct Out {
    stream: ByteConnection,
    beat: Duration,
}

impl Out {
    fn new(stream: &ByteConnection, beat: Duration) -> io::Result<Self> {
        Ok(Self { stream: stream.try_clone()?, beat })
    }

    /// Sends a frame. The inner error says why it cannot be encoded.
    fn send<T: Serialize>(&mut self, frame: &Frame<T>) -> io::Result<Result<(), CallError>> {
        let encoded = leaving(|| Message::encode(frame)).map_err(CallError::Encode);
        let bytes = encoded.and_then(|message| message.to_vec().map_err(CallError::Decode));
        match bytes {
            Ok(bytes) => {
                self.stream.send_bytes_timeout(&bytes, self.beat * SILENCE).map_err(io::Error::other)?;
                Ok(Ok(()))
            }
            Err(error) => Ok(Err(error)),
        }
    }

    /// Sends requests or answers: together, or one by one if one of them cannot be encoded. Returns
    /// the number of each such call, which `of` tells, and why.
    fn send_all<T: Serialize>(&mut self, all: Vec<T>, of: fn(&T) -> u64) -> io::Result<Vec<Response>> {
        let frame = Frame::Message(all);
        let mut failed = Vec::new();
        if let (Err(_), Frame::Message(all)) = (self.send(&frame)?, frame) {
            for one in all {
                let call = of(&one);
                if let Err(error) = self.send(&Frame::Message(vec![one]))? {
                    failed.push(Response { call, body: Body::Failed(error) });
                }
            }
        }
        Ok(failed)
    }
}

/// Receives frames, and gives each to `take`, until that returns false or the peer is gone.
fn receive<T: DeserializeOwned>(stream: &mut ByteConnection, beat: Duration, mut take: impl FnMut(Frame<T>) -> bool) {
    let mut silence = 0;
    while silence < SILENCE {
        match stream.recv_bytes_timeout(beat) {
            Ok(None) => silence += 1,
            Ok(Some(bytes)) => {
                let frame = leaving(|| Message::from_encoded(bytes).decode());
                if !frame.is_ok_and(&mut take) {
                    return;
                }
                silence = 0;
            }
            Err(_) => return,
        }
    }
}

pub(crate) fn thread() -> thread::Builder {
    thread::Builder::new().name("mp-manager relay".to_owned())
}

/// Serves a process of another machine, until it ends.
pub(crate) fn beside_server(mut stream: ByteConnection, server: &ClientsEnd, beat: Duration) -> io::Result<()> {
    let leases = Mutex::new(HashMap::<u64, Vec<SharedFd>>::new());
    let left = AtomicBool::new(false);
    let mut out = Out::new(&stream, beat)?;
    thread::scope(|scope| {
        let (leases, left) = (&leases, &left);
        let answering = thread().spawn_scoped(scope, move || {
            let mut announced = Announced::default();
            loop {
                let sent = match announced.check(server.recv_timeout(beat)) {
                    Ok(Some(mut answers)) => {
                        keep_leases(&mut answers, leases);
                        let of = |answer: &Response| answer.call;
                        out.send_all(answers, of).and_then(|failed| out.send_all(failed, of)).map(drop)
                    }
                    Ok(None) => out.send::<()>(&Frame::Beat).map(drop),
                    Err(_) if left.load(Ordering::Acquire) => {
                        thread::park_timeout(beat);
                        out.send::<()>(&Frame::Beat).map(drop)
                    }
                    Err(error) => Err(io::Error::other(error)),
                };
                if sent.is_err() {
                    let _ = out.stream.shutdown(Shutdown::Both);
                    return;
                }
            }
        })?;
        receive::<Vec<Request>>(&mut stream, beat, |frame| match frame {
            Frame::Beat => true,
            Frame::Message(requests) => server.send(requests).is_ok(),
            Frame::Release(id) => lock(leases).get_mut(&id).is_some_and(|of_object| of_object.pop().is_some()),
            Frame::Bye => {
                left.store(true, Ordering::Release);
                shutdown(server, rustix::net::Shutdown::Both).is_ok()
            }
        });
        let _ = shutdown(server, rustix::net::Shutdown::Both);
        let _ = stream.shutdown(Shutdown::Both);
        answering.thread().unpark();
        Ok(())
    })
}

fn keep_leases(answers: &mut [Response], leases: &Mutex<HashMap<u64, Vec<SharedFd>>>) {
    for answer in answers {
        if let Some(lease) = answer.body.lease() {
            lock(leases).entry(lease.object).or_default().extend(lease.descriptor.take());
        }
    }
}

/// The number under which the set reports the process. The leases have others.
const PROCESS: u64 = 0;

/// The relay beside a process.
struct BesideProcess {
    process: ServersEnd,
    watch: Arc<Watch>,
    /// The object of each lease, and its pipe.
    leases: Mutex<HashMap<u64, (u64, Arc<Anchor>)>>,
    /// The last number that a lease got.
    last_lease: AtomicU64,
    out: Mutex<Out>,
}

/// Passes on the calls of a process of this machine, until it has ended and its leases have.
pub(crate) fn beside_process(mut stream: ByteConnection, process: ServersEnd, beat: Duration) -> io::Result<()> {
    let watch = Arc::new(Watch::new()?);
    epoll::add(&watch.epoll, &process, EventData::new_u64(PROCESS), EventFlags::IN)?;
    let (out, ends) = (Mutex::new(Out::new(&stream, beat)?), Out::new(&stream, beat)?);
    let relay = &BesideProcess { process, watch, leases: Mutex::default(), last_lease: AtomicU64::new(0), out };
    thread::scope(|scope| {
        thread().spawn_scoped(scope, move || {
            receive(&mut stream, beat, |frame| match frame {
                Frame::Message(answers) => relay.pass_on_answers(answers),
                _ => true,
            });
            let _ = stream.shutdown(Shutdown::Both);
            let _ = shutdown(&relay.process, rustix::net::Shutdown::Both);
        })?;
        let ended = relay.pass_on_requests(beat);
        let _ = ends.stream.shutdown(Shutdown::Both);
        ended
    })
}

impl BesideProcess {
    fn pass_on_requests(&self, beat: Duration) -> io::Result<()> {
        let mut events = Vec::with_capacity(64);
        let mut ended = false;
        while !ended || !lock(&self.leases).is_empty() {
            self.watch.wait(&mut events, Some(beat))?;
            if events.is_empty() {
                drop(lock(&self.out).send::<()>(&Frame::Beat)?);
            }
            for event in &events {
                match event.data.u64() {
                    PROCESS => ended = !self.pass_on_some()?,
                    lease => self.release(lease >> 2)?,
                }
            }
        }
        Ok(())
    }

    fn release(&self, lease: u64) -> io::Result<()> {
        let Some((object, _)) = lock(&self.leases).remove(&lease) else { return Ok(()) };
        lock(&self.out).send::<()>(&Frame::Release(object)).map(drop)
    }

    /// Passes on the requests that have arrived. Returns false if the process has ended.
    fn pass_on_some(&self) -> io::Result<bool> {
        loop {
            match self.process.try_recv() {
                Ok(Some(requests)) => {
                    let failed = lock(&self.out).send_all(requests, |request| request.call)?;
                    if !failed.is_empty() {
                        // If the process takes no answers, it has ended.
                        let _ = self.process.send(failed);
                    }
                }
                Ok(None) => return Ok(true),
                Err(_) => {
                    epoll::delete(&self.watch.epoll, &self.process)?;
                    drop(lock(&self.out).send::<()>(&Frame::Bye)?);
                    return Ok(false);
                }
            }
        }
    }

    /// Returns false if the stream has ended.
    fn pass_on_answers(&self, mut answers: Vec<Response>) -> bool {
        for answer in &mut answers {
            let Some(lease) = answer.body.lease() else { continue };
            match self.lease(lease.object) {
                Ok(made) => lease.descriptor = Some(made),
                Err(error) => {
                    if lock(&self.out).send::<()>(&Frame::Release(lease.object)).is_err() {
                        return false;
                    }
                    answer.body = Body::Failed(CallError::Busy(format!("no descriptor is free here: {error}")));
                }
            }
        }
        // If the process has ended, its leases hang up with the answers.
        let _ = self.process.send(answers);
        true
    }

    fn lease(&self, object: u64) -> io::Result<SharedFd> {
        let number = self.last_lease.fetch_add(1, Ordering::Relaxed) + 1;
        // Locked before it can hang up.
        let mut leases = lock(&self.leases);
        let (anchor, lease) = Anchor::new(number, &self.watch)?;
        leases.insert(number, (object, anchor));
        Ok(lease)
    }
}
