//! iceoryx2's publish and subscribe, between two processes. A subscriber polls; or it waits for an
//! event, of which the publisher notifies it after each message.
//!
//! A publisher yields its core, and later sleeps, while the subscriber has no room: that is
//! iceoryx2's own way.

use std::fs;
use std::hint::black_box;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use ::iceoryx2::port::listener::Listener;
use ::iceoryx2::port::notifier::Notifier;
use ::iceoryx2::port::publisher::Publisher;
use ::iceoryx2::port::subscriber::Subscriber;
use ::iceoryx2::prelude::{
    BackpressureStrategy, Config, FileName, LogLevel, Node, NodeBuilder, Path, SemanticString, ServiceName,
    SignalHandlingMode, ipc, set_log_level,
};
use mp_core::process_fn;
use serde::{Deserialize, Serialize};

use crate::measure::Run;
use crate::partner::{Handle, failed};
use crate::rows::queue::turns::{self, Crew, Figure, Plan, Polling, What};

/// What a subscriber does until there is a message.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum Waiting {
    Polls,
    Sleeps,
}

/// Where the files of the nodes of one contender are.
#[derive(Clone, Serialize, Deserialize)]
struct Place {
    root: PathBuf,
    prefix: String,
}

impl Place {
    fn new() -> io::Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let prefix = format!("mp-bench-{}-{number}-", std::process::id());
        let root = std::env::temp_dir().join(format!("{prefix}iceoryx2"));
        fs::create_dir(&root)?;
        Ok(Self { root, prefix })
    }

    fn node(&self) -> io::Result<Node<ipc::Service>> {
        set_log_level(LogLevel::Fatal);
        let mut config = Config::default();
        let root = Path::new(self.root.as_os_str().as_encoded_bytes()).map_err(debugged)?;
        config.global.set_root_path(&root);
        config.global.prefix = FileName::new(self.prefix.as_bytes()).map_err(debugged)?;
        NodeBuilder::new()
            .config(&config)
            .signal_handling_mode(SignalHandlingMode::Disabled)
            .create::<ipc::Service>()
            .map_err(debugged)
    }
}

/// Removes what is left, when all nodes are gone.
struct Cleared(Place);

impl Drop for Cleared {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0.root));
        let Ok(entries) = fs::read_dir("/dev/shm") else { return };
        for entry in entries.flatten() {
            if entry.file_name().as_encoded_bytes().starts_with(self.0.prefix.as_bytes()) {
                drop(fs::remove_file(entry.path()));
            }
        }
    }
}

/// What has to be there for as long as the turns, in the order in which it ends.
struct Kept {
    run: Run,
    _node: Node<ipc::Service>,
    _cleared: Cleared,
}

impl Kept {
    fn run(run: Run, node: Node<ipc::Service>, cleared: Cleared) -> Run {
        let mut kept = Self { run, _node: node, _cleared: cleared };
        Box::new(move |operations| kept.turn(operations))
    }

    /// A method, so that a closure that calls it owns all of this.
    fn turn(&mut self, operations: u32) -> io::Result<Duration> {
        (self.run)(operations)
    }
}

fn debugged(error: impl std::fmt::Debug) -> io::Error {
    failed(format!("iceoryx2: {error:?}"))
}

/// One way for messages: both of its ends, in either process.
struct Service {
    messages: ::iceoryx2::service::port_factory::publish_subscribe::PortFactory<ipc::Service, [u8], ()>,
    events: Option<::iceoryx2::service::port_factory::event::PortFactory<ipc::Service>>,
}

impl Service {
    fn new(node: &Node<ipc::Service>, name: &str, what: What, waiting: Waiting) -> io::Result<Self> {
        let name = ServiceName::new(name).map_err(debugged)?;
        let messages = node
            .service_builder(&name)
            .publish_subscribe::<[u8]>()
            .enable_safe_overflow(false)
            .history_size(0)
            .max_publishers(1)
            .max_subscribers(1)
            .subscriber_max_buffer_size(what.capacity() / what.messages() as usize)
            .subscriber_max_borrowed_samples(1)
            .open_or_create()
            .map_err(debugged)?;
        let events = match waiting {
            Waiting::Polls => None,
            Waiting::Sleeps => Some(node.service_builder(&name).event().open_or_create().map_err(debugged)?),
        };
        Ok(Self { messages, events })
    }

    fn sender(&self, length: usize) -> io::Result<Sender> {
        let publisher = self
            .messages
            .publisher_builder()
            .initial_max_slice_len(length)
            .backpressure_strategy(BackpressureStrategy::RetryUntilDelivered)
            .create()
            .map_err(debugged)?;
        let notifier = self.events.as_ref().map(|events| events.notifier_builder().create().map_err(debugged));
        Ok(Sender { publisher, notifier: notifier.transpose()?, message: vec![0x5a; length] })
    }

    fn receiver(&self) -> io::Result<Receiver> {
        let subscriber = self.messages.subscriber_builder().create().map_err(debugged)?;
        let listener = self.events.as_ref().map(|events| events.listener_builder().create().map_err(debugged));
        Ok(Receiver { subscriber, listener: listener.transpose()? })
    }
}

struct Sender {
    publisher: Publisher<ipc::Service, [u8], ()>,
    notifier: Option<Notifier<ipc::Service>>,
    message: Vec<u8>,
}

impl Sender {
    fn send(&self) -> io::Result<()> {
        let sample = self.publisher.loan_slice_uninit(self.message.len()).map_err(debugged)?;
        sample.write_from_slice(black_box(&self.message)).send().map_err(debugged)?;
        if let Some(notifier) = &self.notifier {
            notifier.notify().map_err(debugged)?;
        }
        Ok(())
    }
}

struct Receiver {
    subscriber: Subscriber<ipc::Service, [u8], ()>,
    listener: Option<Listener<ipc::Service>>,
}

impl Receiver {
    /// Waits for a message, and copies it out into memory of its own, or reads its first byte.
    fn receive(&self, copies: bool) -> io::Result<()> {
        let mut polling = Polling::default();
        loop {
            if let Some(sample) = self.subscriber.receive().map_err(debugged)? {
                if copies {
                    black_box(sample.payload().to_vec());
                } else {
                    black_box(sample.payload().first());
                }
                return Ok(());
            }
            match &self.listener {
                Some(listener) => listener.blocking_wait(|_| {}).map(drop).map_err(debugged)?,
                None => polling.again(),
            }
        }
    }
}

#[process_fn]
fn iceoryx2_receives(place: Place, control: Handle, plan: Plan, waiting: Waiting, copies: bool) {
    let connected = || -> io::Result<_> {
        let node = place.node()?;
        let receiver = Service::new(&node, "there", plan.what, waiting)?.receiver()?;
        turns::ready(&control)?;
        Ok((node, receiver))
    };
    match connected() {
        Ok((_node, receiver)) => {
            turns::serve(&control, plan.figure, |_| receiver.receive(copies).map(|()| plan.what.messages()));
        }
        Err(error) => eprintln!("{error}"),
    }
}

pub(super) fn one_to_one(plan: Plan, waiting: Waiting, copies: bool) -> io::Result<Run> {
    let place = Place::new()?;
    let cleared = Cleared(place.clone());
    let node = place.node()?;
    let sender = Service::new(&node, "there", plan.what, waiting)?.sender(plan.what.length())?;
    let crew = Crew::of(|control| iceoryx2_receives::spawn(place, control, plan, waiting, copies))?;
    // What is published before there is a subscriber is for nobody.
    crew.answers()?;
    let run = turns::one_to_one(crew, plan, move || sender.send())?;
    Ok(Kept::run(run, node, cleared))
}

#[process_fn]
fn iceoryx2_returns(place: Place, control: Handle, waiting: Waiting) {
    let connected = || -> io::Result<_> {
        let node = place.node()?;
        let receiver = Service::new(&node, "there", What::Small, waiting)?.receiver()?;
        let sender = Service::new(&node, "back", What::Small, waiting)?.sender(What::Small.length())?;
        turns::ready(&control)?;
        Ok((node, receiver, sender))
    };
    match connected() {
        Ok((_node, receiver, sender)) => turns::serve(&control, Figure::Stream, |_| {
            receiver.receive(false)?;
            sender.send()?;
            Ok(1)
        }),
        Err(error) => eprintln!("{error}"),
    }
}

/// Two services: there and back.
pub(super) fn exchanges(waiting: Waiting) -> io::Result<Run> {
    let place = Place::new()?;
    let cleared = Cleared(place.clone());
    let node = place.node()?;
    let sender = Service::new(&node, "there", What::Small, waiting)?.sender(What::Small.length())?;
    let receiver = Service::new(&node, "back", What::Small, waiting)?.receiver()?;
    let crew = Crew::of(|control| iceoryx2_returns::spawn(place, control, waiting))?;
    crew.answers()?;
    let run = turns::exchanges(crew, move || {
        sender.send()?;
        receiver.receive(false)
    })?;
    Ok(Kept::run(run, node, cleared))
}
