//! What all handles of a queue share: in the memory between processes, and in each of them.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};

use mp_core::raw::{LargeMessages, Message, Spins, forks};
use mp_core::{Receiver, Sender};
use mp_shm::ShmSafe;
use mp_shm::raw::Region;
use mp_sync::Mutex;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};

use crate::event::Event;
use crate::protocol::access::Ring;
use crate::protocol::index::{Indices, LARGEST, Line, UNIT, fence_after_unlocking};
use crate::protocol::tasks::{Slot, Tasks};

/// The beginning of the memory; the ring's bytes follow.
#[repr(C)]
#[derive(ShmSafe)]
pub(crate) struct Head {
    pub(crate) indices: Indices,
    /// Whoever has this lock is the ring's producer. It protects the head of the ring as the last
    /// producer saw it.
    pub(crate) producer: Line<Mutex<u64>>,
    /// Whoever has this lock is the ring's consumer. It protects the tail of the ring as the last
    /// consumer saw it.
    pub(crate) consumer: Line<Mutex<u64>>,
    /// The most messages in the ring.
    limit: AtomicU32,
    /// No producer exists any longer, and none will.
    pub(crate) no_producers: AtomicBool,
    /// No consumer exists any longer, and none will.
    pub(crate) no_consumers: AtomicBool,
    /// How often a process dropped its last handle of a side.
    departures: AtomicU32,
    /// The queue was sent to another process, or tried to be.
    was_sent: AtomicBool,
    /// The next tag of a message in the lane.
    next_tag: AtomicU64,
    purpose: AtomicU32,
    pub(crate) tasks: Tasks,
}

/// What the memory is used for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Purpose {
    Queue = 0,
    /// A queue that counts tasks.
    Joinable = 1,
    /// A ring of one producer and one consumer, who take no locks.
    Ring = 2,
}

impl Purpose {
    fn of(number: u32) -> Option<Self> {
        [Self::Queue, Self::Joinable, Self::Ring].into_iter().find(|purpose| *purpose as u32 == number)
    }
}

/// One of the two sides of a queue; as a number, the group of its holders in the memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Side {
    /// Those who put.
    Producers = 0,
    /// Those who get.
    Consumers = 1,
}

impl Side {
    fn group(self) -> u32 {
        self as u32
    }
}

/// A message that is not in the ring: it holds descriptors or is too long.
#[derive(Serialize, Deserialize)]
pub(crate) struct LaneMessage {
    /// Also in its record in the ring, and different for each message, so that one whose record was
    /// never published, or whose consumer died, is told from the next.
    pub(crate) tag: u64,
    pub(crate) message: Message,
}

/// A queue, in this process.
pub(crate) struct Memory {
    region: Region<Head>,
    pub(crate) lane_in: Sender<LaneMessage>,
    pub(crate) lane_out: Receiver<LaneMessage>,
    /// The memory files of the long messages that this process has put.
    pub(crate) large: LargeMessages,
    /// Readable when a task or thread that waits for messages should look.
    pub(crate) items_event: Event,
    /// Readable when a task or thread that waits for space should look.
    pub(crate) space_event: Event,
    /// Whether looking before sleeping has paid, for those who get and those who put.
    pub(crate) get_spins: Spins,
    pub(crate) put_spins: Spins,
    /// Whether giving others the processor once before sleeping has paid.
    pub(crate) get_yields: Spins,
    pub(crate) put_yields: Spins,
    /// How many handles of each side are in this process.
    holders: [AtomicUsize; 2],
    /// For each side, the departures when this process last asked whether it is gone, and one more.
    asked: [AtomicU64; 2],
    pub(crate) purpose: Purpose,
    /// Where this process's tasks are counted.
    pub(crate) slot: Slot,
    /// The number of forks before the process to which the handles belong. The copies in the child
    /// of a fork share its descriptors.
    forks: u32,
}

/// The smallest ring, in bytes.
pub(crate) const SMALLEST: usize = 4096;

impl Memory {
    /// Makes an empty queue that holds at most `limit` messages, in a ring of at least `bytes`.
    pub(crate) fn create(limit: usize, bytes: usize, purpose: Purpose) -> io::Result<Self> {
        let size = bytes.max(SMALLEST).checked_next_power_of_two().filter(|size| *size <= LARGEST);
        let size = size.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "a queue has 8 GiB at most"))?;
        let head = Head {
            indices: Indices::new(),
            producer: Line(Mutex::new(0)),
            consumer: Line(Mutex::new(0)),
            limit: u32::try_from(limit).unwrap_or(u32::MAX).max(1).into(),
            no_producers: false.into(),
            no_consumers: false.into(),
            departures: 0.into(),
            was_sent: false.into(),
            next_tag: 0.into(),
            purpose: (purpose as u32).into(),
            tasks: Tasks::new(),
        };
        let (lane_in, lane_out) = mp_core::pipe()?;
        let region = Region::create(head, size)?;
        Ok(Self::new(region, purpose, (lane_in, lane_out), Event::create()?, Event::create()?))
    }

    fn new(
        region: Region<Head>,
        purpose: Purpose,
        (lane_in, lane_out): (Sender<LaneMessage>, Receiver<LaneMessage>),
        items_event: Event,
        space_event: Event,
    ) -> Self {
        Self {
            lane_in,
            lane_out,
            large: LargeMessages::default(),
            items_event,
            space_event,
            get_spins: Spins::new(),
            put_spins: Spins::new(),
            get_yields: Spins::new(),
            put_yields: Spins::new(),
            holders: [AtomicUsize::new(0), AtomicUsize::new(0)],
            asked: [AtomicU64::new(0), AtomicU64::new(0)],
            purpose,
            slot: Slot::default(),
            forks: forks(),
            region,
        }
    }

    #[inline]
    pub(crate) fn region(&self) -> &Region<Head> {
        &self.region
    }

    #[inline]
    pub(crate) fn head(&self) -> &Head {
        self.region.head()
    }

    #[inline]
    pub(crate) fn ring(&self) -> Ring<'_> {
        let head = self.region.head();
        let limit = head.limit.load(Ordering::Relaxed);
        // SAFETY: the region has that many bytes there for as long as it is borrowed, and nobody
        // makes references to them; both ways to make a `Memory` have seen to it that the size is a
        // power of two. The head, before them, has the alignment of a `Line`, and so have they.
        unsafe { Ring::new(&head.indices, self.region.bytes(), self.region.len(), limit) }
    }

    /// The most messages in the ring.
    #[inline]
    pub(crate) fn limit(&self) -> usize {
        self.head().limit.load(Ordering::Relaxed) as usize
    }

    /// The most messages that the queue holds.
    pub(crate) fn capacity(&self) -> usize {
        // A record of one byte takes two units, one without any byte takes one.
        self.limit().min(self.size() / (2 * UNIT))
    }

    /// How many messages are in the ring.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        let indices = &self.head().indices;
        // In this order: what is taken in between was there.
        let head = indices.head();
        // A record takes a unit at least.
        (indices.tail().messages_since(head) as usize).min(self.limit()).min(self.size() / UNIT)
    }

    #[inline]
    pub(crate) fn is_closed(&self) -> bool {
        self.head().indices.is_closed()
    }

    /// The size of the ring, in bytes.
    #[inline]
    pub(crate) fn size(&self) -> usize {
        self.region.len()
    }

    /// A tag that no other message has.
    pub(crate) fn tag(&self) -> u64 {
        self.head().next_tag.fetch_add(1, Ordering::Relaxed)
    }

    /// Is a full fence between writing an index, by a holder of a lock or an end of a ring, and
    /// looking for those who wait.
    #[inline]
    fn fence(&self) {
        match self.purpose {
            Purpose::Queue | Purpose::Joinable => fence_after_unlocking(),
            Purpose::Ring => fence(Ordering::SeqCst),
        }
    }

    /// Wakes those who wait for messages, if anybody does.
    #[inline]
    pub(crate) fn notify_items(&self) {
        self.fence();
        self.head().indices.items.notify(|| self.items_event.write());
    }

    /// Wakes those who wait for space, if anybody does.
    #[inline]
    pub(crate) fn notify_space(&self) {
        self.fence();
        self.head().indices.space.notify(|| self.space_event.write());
    }

    pub(crate) fn close(&self) {
        self.head().indices.close();
        self.notify_all(Side::Producers);
        self.notify_all(Side::Consumers);
    }

    /// Wakes everybody who waits for a side to do something.
    fn notify_all(&self, side: Side) {
        let indices = &self.head().indices;
        match side {
            Side::Producers => indices.items.notify_all(|| self.items_event.write()),
            Side::Consumers => indices.space.notify_all(|| self.space_event.write()),
        }
    }

    /// Counts one more handle of a side.
    pub(crate) fn enter(&self, side: Side) -> io::Result<()> {
        if self.holders[side as usize].fetch_add(1, Ordering::Relaxed) == 0 {
            self.region.enter(side.group())?;
        }
        Ok(())
    }

    /// Counts one handle of a side less. The last one tells the other side.
    pub(crate) fn leave(&self, side: Side) {
        if self.forks != forks() || self.holders[side as usize].fetch_sub(1, Ordering::AcqRel) != 1 {
            return;
        }
        // First out, then looking for others: of two that leave at once, one sees that both have.
        let _ = self.region.leave(side.group());
        self.head().departures.fetch_add(1, Ordering::SeqCst);
        if self.region.has_others(side.group()).is_ok_and(|others| !others) {
            self.gone(side);
        } else {
            // A handle of both sides may be alone now.
            self.notify_all(side);
        }
    }

    /// Notes that nobody is left of a side, and tells the other one.
    fn gone(&self, side: Side) {
        let noted = match side {
            Side::Producers => &self.head().no_producers,
            Side::Consumers => &self.head().no_consumers,
        };
        noted.store(true, Ordering::SeqCst);
        self.notify_all(side);
    }

    fn is_noted_gone(&self, side: Side) -> bool {
        match side {
            Side::Producers => self.head().no_producers.load(Ordering::SeqCst),
            Side::Consumers => self.head().no_consumers.load(Ordering::SeqCst),
        }
    }

    /// Tells whether it is time to ask, before a thread sleeps, if a side is gone. One that was
    /// killed says nothing, so a thread that has slept asks in any case.
    pub(crate) fn has_news_of(&self, side: Side) -> bool {
        self.asked[side as usize].load(Ordering::SeqCst) != self.news()
    }

    fn news(&self) -> u64 {
        u64::from(self.head().departures.load(Ordering::SeqCst)) + 1
    }

    /// Tells whether nobody is left of a side but the caller, whose handle counts as `own` of them.
    ///
    /// A caller that is of both sides is not alone as long as the queue has never been sent: its
    /// threads may well share the one handle.
    pub(crate) fn is_gone(&self, side: Side, own: usize) -> io::Result<bool> {
        self.asked[side as usize].store(self.news(), Ordering::SeqCst);
        if self.is_noted_gone(side) {
            return Ok(true);
        }
        if self.holders[side as usize].load(Ordering::Acquire) > own {
            return Ok(false);
        }
        if own > 0 && !self.head().was_sent.load(Ordering::Relaxed) {
            return Ok(false);
        }
        let gone = !self.region.has_others(side.group())?;
        if gone && own == 0 {
            self.gone(side);
        }
        Ok(gone)
    }

    pub(crate) fn serialize<S: Serializer>(&self, sides: &[Side], serializer: S) -> Result<S::Ok, S::Error> {
        if self.forks != forks() {
            return Err(ser::Error::custom("a queue cannot be sent from the child of a fork"));
        }
        self.head().was_sent.store(true, Ordering::Relaxed);
        let groups: Vec<u32> = sides.iter().map(|side| side.group()).collect();
        let memory = self.region.duplicate(&groups).map_err(ser::Error::custom)?;
        let (items, space) = (self.items_event.eventfd(), self.space_event.eventfd());
        (FdRef(&memory), &self.lane_in, &self.lane_out, FdRef(&items), FdRef(&space)).serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        allowed: &[Purpose],
        sides: impl Iterator<Item = Side>,
        deserializer: D,
    ) -> Result<Self, D::Error> {
        type Parts = (
            mp_core::Fd<OwnedFd>,
            Sender<LaneMessage>,
            Receiver<LaneMessage>,
            mp_core::Fd<OwnedFd>,
            mp_core::Fd<OwnedFd>,
        );
        let (memory, lane_in, lane_out, items, space) = Parts::deserialize(deserializer)?;
        let groups: Vec<u32> = sides.map(Side::group).collect();
        let region = Region::<Head>::attach_as_member(memory.into_inner(), &groups).map_err(explained)?;
        let size = region.len();
        if !size.is_power_of_two() || !(SMALLEST..=LARGEST).contains(&size) {
            return Err(de::Error::custom("the memory of the queue has no size that a queue has"));
        }
        let purpose = Purpose::of(region.head().purpose.load(Ordering::Relaxed));
        let Some(purpose) = purpose.filter(|purpose| allowed.contains(purpose)) else {
            return Err(de::Error::custom("the queue is of another kind than is expected"));
        };
        let event = |fd: mp_core::Fd<OwnedFd>| {
            let event = Event::attach(fd.into_inner()).map_err(de::Error::custom)?;
            event.ok_or_else(|| de::Error::custom("a descriptor of the queue is not an eventfd"))
        };
        Ok(Self::new(region, purpose, (lane_in, lane_out), event(items)?, event(space)?))
    }
}

struct FdRef<'a, F>(&'a F);

impl<F: AsFd> Serialize for FdRef<'_, F> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        mp_core::fd::serialize(self.0, serializer)
    }
}

fn explained<E: de::Error>(error: mp_shm::AttachError) -> E {
    use std::error::Error;
    match error.source() {
        Some(source) => E::custom(format_args!("{error}: {source}")),
        None => E::custom(error),
    }
}
