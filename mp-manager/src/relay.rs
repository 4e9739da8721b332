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
use std::os::fd::AsFd;
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
    stream: Mutex<ByteConnection>,
    beat: Duration,
}

impl Out {
    /// Sends a frame. The inner error says why it cannot be encoded.
    fn send<T: Serialize>(&self, frame: &Frame<T>) -> io::Result<Result<(), CallError>> {
        let encoded = leaving(|| Message::encode(frame)).map_err(CallError::Encode);
        match encoded.and_then(|message| message.to_vec().map_err(CallError::Decode)) {
            Ok(bytes) => {
                let sent = lock(&self.stream).send_bytes_timeout(&bytes, self.beat * SILENCE);
                sent.map(Ok).map_err(io::Error::other)
            }
            Err(error) => Ok(Err(error)),
        }
    }

    /// Sends a frame that can always be encoded.
    fn tell(&self, frame: Frame<()>) -> io::Result<()> {
        self.send(&frame).map(drop)
    }

    /// Sends requests or answers: together, or one by one if one of them cannot be encoded. Returns
    /// the number of each such call, which `of` tells, and why.
    fn send_all<T: Serialize>(&self, all: Vec<T>, of: fn(&T) -> u64) -> io::Result<Vec<Response>> {
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

pub(crate) fn thread() -> thread::Builder {
    thread::Builder::new().name("mp-manager relay".to_owned())
}

/// Relays between a stream and a socket until one of both has ended, and ends both. A thread runs
/// `send`, and this one gives each frame that arrives to `take`, until that returns false or the
/// peer is gone.
fn relay<T: DeserializeOwned>(
    mut stream: ByteConnection,
    socket: impl AsFd,
    out: &Out,
    send: impl FnOnce() -> io::Result<()> + Send,
    mut take: impl FnMut(Frame<T>) -> bool,
) -> io::Result<()> {
    let ends = stream.try_clone()?;
    thread::scope(|scope| {
        let sending = thread().spawn_scoped(scope, move || {
            // Whatever ends it ends the stream.
            let _ = send();
            let _ = ends.shutdown(Shutdown::Both);
        })?;
        let mut silence = 0;
        while silence < SILENCE {
            let Ok(received) = stream.recv_bytes_timeout(out.beat) else { break };
            silence = received.as_ref().map_or(silence + 1, |_| 0);
            let frame = received.map(|bytes| leaving(|| Message::from_encoded(bytes).decode()));
            if !frame.is_none_or(|frame| frame.is_ok_and(&mut take)) {
                break;
            }
        }
        let _ = shutdown(socket, rustix::net::Shutdown::Both);
        let _ = stream.shutdown(Shutdown::Both);
        sending.thread().unpark();
        Ok(())
    })
}

/// Serves a process of another machine, until it ends.
pub(crate) fn beside_server(stream: ByteConnection, server: &ClientsEnd, beat: Duration) -> io::Result<()> {
    let leases = Mutex::new(HashMap::<u64, Vec<SharedFd>>::new());
    let left = AtomicBool::new(false);
    let out = Out { stream: Mutex::new(stream.try_clone()?), beat };
    let pass_on_answers = || {
        let mut announced = Announced::default();
        loop {
            match announced.check(server.recv_timeout(beat)) {
                Ok(Some(mut answers)) => {
                    keep_leases(&mut answers, &leases);
                    let of = |answer: &Response| answer.call;
                    out.send_all(answers, of).and_then(|failed| out.send_all(failed, of))?;
                }
                Ok(None) => out.tell(Frame::Beat)?,
                Err(_) if left.load(Ordering::Acquire) => {
                    thread::park_timeout(beat);
                    out.tell(Frame::Beat)?;
                }
                Err(error) => return Err(io::Error::other(error)),
            }
        }
    };
    relay::<Vec<Request>>(stream, server, &out, pass_on_answers, |frame| match frame {
        Frame::Beat => true,
        Frame::Message(requests) => server.send(requests).is_ok(),
        Frame::Release(id) => lock(&leases).get_mut(&id).is_some_and(|of_object| of_object.pop().is_some()),
        Frame::Bye => {
            left.store(true, Ordering::Release);
            shutdown(server, rustix::net::Shutdown::Both).is_ok()
        }
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
    out: Out,
}

/// Passes on the calls of a process of this machine, until it has ended and its leases have.
pub(crate) fn beside_process(stream: ByteConnection, process: ServersEnd, beat: Duration) -> io::Result<()> {
    let watch = Arc::new(Watch::new()?);
    epoll::add(&watch.epoll, &process, EventData::new_u64(PROCESS), EventFlags::IN)?;
    let out = Out { stream: Mutex::new(stream.try_clone()?), beat };
    let beside = BesideProcess { process, watch, leases: Mutex::default(), last_lease: AtomicU64::new(0), out };
    let take = |frame| match frame {
        Frame::Message(answers) => beside.pass_on_answers(answers),
        _ => true,
    };
    relay(stream, &beside.process, &beside.out, || beside.pass_on_requests(), take)
}

impl BesideProcess {
    fn pass_on_requests(&self) -> io::Result<()> {
        let mut events = Vec::with_capacity(64);
        let mut ended = false;
        while !ended || !lock(&self.leases).is_empty() {
            self.watch.wait(&mut events, Some(self.out.beat))?;
            if events.is_empty() {
                self.out.tell(Frame::Beat)?;
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
        let released = lock(&self.leases).remove(&lease);
        released.map_or(Ok(()), |(object, _)| self.out.tell(Frame::Release(object)))
    }

    /// Passes on the requests that have arrived. Returns false if the process has ended.
    fn pass_on_some(&self) -> io::Result<bool> {
        loop {
            match self.process.try_recv() {
                Ok(Some(requests)) => {
                    let failed = self.out.send_all(requests, |request| request.call)?;
                    if !failed.is_empty() {
                        // If the process takes no answers, it has ended.
                        let _ = self.process.send(failed);
                    }
                }
                Ok(None) => return Ok(true),
                Err(_) => {
                    epoll::delete(&self.watch.epoll, &self.process)?;
                    return self.out.tell(Frame::Bye).map(|()| false);
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
                    if self.out.tell(Frame::Release(lease.object)).is_err() {
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
