//! The [robust list](https://www.kernel.org/doc/html/latest/locking/robust-futexes.html): the locks
//! that a thread holds. When the thread ends, the kernel walks the list, sets `OWNER_DIED` in each
//! word that contains the thread's ID, and wakes one waiter.
//!
//! # How this crate shares it with the C library
//!
//! A thread has one list, and the C library has registered its own, for robust `pthread_mutex`es.
//! This crate keeps that list. When a thread takes its first lock, the crate inserts two entries,
//! `first` and `last`, which look like two of those mutexes, and adds its locks between them. The C
//! library inserts entries before `first`, and removes its own entries on either side. In doing so
//! it changes only words of these two entries, which are in private memory, and never a word of a
//! lock.
//!
//! ```text
//! head of the C library -> its newer entries -> first -> node -> lock -> node -> lock -> last -> its older entries -> head
//! ```
//!
//! Before each lock there is a node that belongs to the thread. So removing a lock from the list
//! does not change another lock: the node skips it. A node without a lock stays in its place, until
//! the newer nodes are removed or a lock needs a node.
//!
//! All entries of one thread have their word at the same distance from their link, [`OFFSET`],
//! which is that of `pthread_mutex_t`.
//!
//! # Invariants
//!
//! 1. This crate writes to the link of a lock when the thread takes the lock and when it releases
//!    it, and never follows it, because other processes can write there. Its own knowledge of the
//!    list is in the nodes, in private memory: which locks there are, and where. What another
//!    process writes into a link does not change which lock is removed from the list.
//! 2. Every lock in the list is in mapped memory: a region of shared memory is unmapped only if
//!    [`holds_within`] finds nothing of it in the list of any thread, and locks outside of such
//!    regions are never in the list. So forgetting a guard leaves no pointer to freed memory.
//! 3. Entries do not move, so a scan by another thread finds every entry that stays.
//! 4. From before a thread's ID gets into a word until after it is removed, the lock is in the list
//!    or is the pending one.
//! 5. A thread that ends first removes the locks that it still holds (forgotten guards) from the
//!    list. Other threads may still have references from a leaked guard, so no other owner may get
//!    the lock. It stays locked.
//! 6. The lock at a node is found by its address. If it is released through another mapping of its
//!    memory than it was taken through, its link says which node it is, and changes with the link
//!    of that node's lock.
//!
//! The kernel reads the list after the thread has ended, so program order is enough for these
//! writes: relaxed atomics and compiler fences.

mod thread;

use std::cell::Cell;
use std::io;
use std::mem::offset_of;
use std::ptr::{self, null};
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicUsize, compiler_fence};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::regions;
use thread::register;

/// The distance from the word of a lock to its link, as in glibc's `pthread_mutex_t` on 64-bit
/// targets. Finding a thread's list checks it.
pub(crate) const OFFSET: usize = 32;

/// The number of locks in shared memory for which a thread's death is reported: half of the entries
/// that the kernel checks (`ROBUST_LIST_LIMIT`), because each lock has a node, minus the two ends.
const MOST: usize = 1_022;

/// The link of a lock: the address of the next entry for the kernel. It has a meaning only in the
/// owner's process.
#[repr(transparent)]
pub(crate) struct Link(AtomicUsize);

impl Link {
    pub(crate) const fn new() -> Self {
        Self(AtomicUsize::new(0))
    }

    /// A lock that is not in a list looks like a new one.
    #[inline]
    fn clear(&self) {
        self.0.store(0, Relaxed);
    }

    /// # Safety
    ///
    /// There is a link at the address, in memory that stays mapped while the reference is used.
    unsafe fn at<'a>(address: usize) -> &'a Self {
        // SAFETY: the caller guarantees that, and a link is a transparent atomic.
        unsafe { &*ptr::with_exposed_provenance::<Self>(address) }
    }
}

/// The head that the kernel knows: `struct robust_list_head`.
#[repr(C)]
struct Head {
    next: AtomicUsize,
    offset: isize,
    pending: AtomicUsize,
}

/// An entry of this crate: the part of a `pthread_mutex_t` that belongs to the list. The C library
/// changes the two at the ends.
#[repr(C)]
struct Entry {
    word: AtomicUsize,
    rest: [usize; 2],
    /// Points to the field `next` of the previous entry, or to the head.
    previous: AtomicUsize,
    /// Points to the field `next` of the next entry, or to the head. The C library uses the lowest
    /// bit here and in `previous`, for a special kind of mutex.
    next: AtomicUsize,
}

const _: () = assert!(offset_of!(Entry, next) - offset_of!(Entry, word) == OFFSET);
const TO_NEXT: usize = offset_of!(Entry, next) - offset_of!(Entry, previous);

/// The data of a thread. It is never freed, so that other threads can read it, and is used for
/// another thread later.
struct Record {
    head: Cell<*const Head>,
    id: Cell<u32>,
    /// The index of the newest node in use; 0 is none. Other threads read it.
    top: AtomicUsize,
    /// How many nodes in use have no lock.
    holes: Cell<usize>,
    first: Entry,
    /// The first is the last entry of the list. The others have a lock each, the oldest first.
    /// Other threads read their links.
    nodes: [Entry; MOST + 1],
    cache: regions::Cache,
}

// SAFETY: only the thread that the record belongs to uses the cells, and a record changes its
// thread only under the lock of `RECORDS`. The fields that other threads read are atomic.
unsafe impl Sync for Record {}

struct Records {
    all: Vec<&'static Record>,
    idle: Vec<&'static Record>,
}

static RECORDS: Mutex<Records> = Mutex::new(Records { all: Vec::new(), idle: Vec::new() });

fn records() -> MutexGuard<'static, Records> {
    RECORDS.lock().unwrap_or_else(PoisonError::into_inner)
}

thread_local! {
    /// It has no destructor, so it is there until the thread has ended.
    static CURRENT: Cell<Option<&'static Record>> = const { Cell::new(None) };
}

/// The calling thread as an owner of locks.
#[derive(Clone, Copy)]
pub(crate) struct Thread(&'static Record);

impl Thread {
    #[inline]
    pub(crate) fn current() -> Self {
        match CURRENT.get() {
            Some(record) => Self(record),
            None => Self::enter(),
        }
    }

    #[cold]
    fn enter() -> Self {
        let record = register();
        CURRENT.set(Some(record));
        Self(record)
    }

    /// The thread ID, which is in the words of its locks.
    #[inline]
    pub(crate) fn id(self) -> u32 {
        self.0.id.get()
    }

    /// Tells whether the death of the lock's owner has to be reported, which is when the lock is in
    /// a region of shared memory.
    #[inline]
    pub(crate) fn shares(self, link: &Link) -> bool {
        self.0.cache.is_shared(address(link))
    }

    /// Call this before the owner in the word changes: if the thread dies in between, the kernel
    /// checks this lock too.
    #[inline]
    pub(crate) fn begin(self, link: &Link) {
        let pending = &self.head().pending;
        if pending.load(Relaxed) != address(link) {
            pending.store(address(link), Relaxed);
        }
        compiler_fence(SeqCst);
    }

    /// Call this after the owner in the word has changed. While the thread holds the lock, it may
    /// stay the pending one, which does no harm and saves a step.
    #[inline]
    pub(crate) fn end(self) {
        compiler_fence(SeqCst);
        self.head().pending.store(0, Relaxed);
    }

    /// Adds a lock that the thread now holds. Beyond [`MOST`] locks, the thread's death is not
    /// reported, and the lock is not the pending one any longer.
    #[inline]
    pub(crate) fn hold(self, link: &Link) {
        let record = self.0;
        let index = record.top.load(Relaxed) + 1;
        let (Some(node), Some(older)) = (record.nodes.get(index), record.nodes.get(index - 1)) else {
            return self.hold_in_hole(link);
        };
        link.0.store(older.address(), Relaxed);
        node.next.store(address(link), Relaxed);
        record.top.store(index, Relaxed);
        compiler_fence(SeqCst);
        record.first.next.store(node.address(), Relaxed);
    }

    /// Tells whether this is the newest lock that the thread holds.
    #[inline]
    pub(crate) fn holds_last(self, link: &Link) -> bool {
        let top = self.0.top.load(Relaxed);
        top > 0 && self.0.nodes.get(top).is_some_and(|node| node.next.load(Relaxed) == address(link))
    }

    /// Removes the newest lock, which is this one and which the thread is about to release.
    #[inline]
    pub(crate) fn release_last(self, link: &Link) {
        let record = self.0;
        let top = record.top.load(Relaxed);
        match record.nodes.get(top.wrapping_sub(1)) {
            Some(older) if record.holes.get() == 0 => {
                record.first.next.store(older.address(), Relaxed);
                compiler_fence(SeqCst);
                record.top.store(top - 1, Relaxed);
            }
            _ => record.release(top),
        }
        link.clear();
    }

    /// Does the same for any lock.
    #[cold]
    pub(crate) fn release(self, link: &Link) {
        let top = self.0.top.load(Relaxed);
        let is_it = |index: &usize| self.0.nodes[*index].next.load(Relaxed) == address(link);
        if let Some(index) = (1..=top).rfind(is_it) {
            self.0.release(index);
        } else if let Some(index) = self.0.alias(link) {
            self.0.release(index);
        }
        // Otherwise it was beyond the limit.
        link.clear();
    }

    /// Adds a lock when all nodes are in use, at a node without a lock if there is one.
    #[cold]
    fn hold_in_hole(self, link: &Link) {
        if !self.0.hold_in_hole(link) {
            // Nothing would keep its memory mapped.
            link.clear();
            self.end();
        }
    }

    #[inline]
    fn head(self) -> &'static Head {
        // SAFETY: `register` found this thread's list head, which is in the C library's memory for
        // the thread.
        unsafe { &*self.0.head.get() }
    }
}

impl Entry {
    /// The address that the previous entry has as its link.
    #[inline]
    fn address(&self) -> usize {
        self.next.as_ptr().expose_provenance()
    }
}

impl Record {
    /// Tells whether the node has no lock.
    fn is_hole(&self, index: usize) -> bool {
        self.nodes[index].next.load(Relaxed) == self.nodes[index - 1].address()
    }

    /// Adds a lock at a node without a lock; false if there is none.
    fn hold_in_hole(&self, link: &Link) -> bool {
        let top = self.top.load(Relaxed);
        let hole = (1..=top).rfind(|index| self.holes.get() > 0 && self.is_hole(*index));
        let Some(index) = hole else { return false };
        link.0.store(self.nodes[index - 1].address(), Relaxed);
        compiler_fence(SeqCst);
        self.nodes[index].next.store(address(link), Relaxed);
        self.holes.set(self.holes.get() - 1);
        true
    }

    /// Finds the node of a lock that was taken through another mapping of its memory (invariant 6).
    #[cold]
    fn alias(&self, link: &Link) -> Option<usize> {
        let older = link.0.load(Relaxed);
        let index = self.nodes[..self.top.load(Relaxed)].iter().rposition(|node| node.address() == older)? + 1;
        if self.is_hole(index) {
            return None;
        }
        // SAFETY: the node has a lock, whose link is at this address, in mapped memory (invariant
        // 2). A link is an atomic, which other threads and processes may change at any time.
        let other = unsafe { Link::at(self.nodes[index].next.load(Relaxed)) };
        // For the kernel the lowest bit says of what kind the next entry is. Of a node, which no
        // thread owns, it means nothing.
        for probe in [older | 1, older] {
            link.0.store(probe, Relaxed);
            if other.0.load(Relaxed) != probe {
                link.0.store(older, Relaxed);
                return None;
            }
        }
        Some(index)
    }

    /// Removes the lock at a node.
    #[cold]
    fn release(&self, index: usize) {
        if index == 0 || self.is_hole(index) {
            return;
        }
        self.nodes[index].next.store(self.nodes[index - 1].address(), Relaxed);
        self.holes.set(self.holes.get() + 1);
        let mut top = self.top.load(Relaxed);
        while top > 0 && self.is_hole(top) {
            self.holes.set(self.holes.get() - 1);
            top -= 1;
        }
        self.first.next.store(self.nodes[top].address(), Relaxed);
        compiler_fence(SeqCst);
        self.top.store(top, Relaxed);
    }

    /// Tells whether a lock in that memory is in the list. Other threads may call it.
    fn holds_within(&self, memory: &std::ops::Range<usize>) -> bool {
        let top = self.top.load(Relaxed).min(MOST);
        self.nodes[1..=top].iter().any(|node| memory.contains(&node.next.load(Relaxed)))
    }
}

#[inline]
fn address(link: &Link) -> usize {
    link.0.as_ptr().expose_provenance()
}

/// Returns the word at an address.
///
/// # Safety
///
/// There is a word of the C library's list at the address, and it stays valid while the reference
/// is used.
unsafe fn word_at<'a>(address: usize) -> &'a AtomicUsize {
    // SAFETY: the caller guarantees that. Only this thread, the kernel and the C library use these
    // words, and this thread is not inside a function of the C library now.
    unsafe { AtomicUsize::from_ptr(ptr::with_exposed_provenance_mut(address)) }
}

/// Tells whether a thread of this process holds a lock in that memory, by the threads' own records.
/// The caller makes sure that no lock there is taken or released meanwhile.
pub(crate) fn holds_within(memory: &std::ops::Range<usize>) -> bool {
    records().all.iter().any(|record| record.holds_within(memory))
}

/// Checks that this system reports the death of owners: it has robust lists, and the C library uses
/// them in the form that this crate knows.
pub(crate) fn check() -> io::Result<()> {
    find_head().map(|_| ())
}

/// Returns the head of the calling thread's list.
fn find_head() -> io::Result<&'static Head> {
    let mut head: *const Head = null();
    let mut size = 0_usize;
    // SAFETY: the call writes a pointer and a size to the two places. 0 means the calling thread.
    let result = unsafe { libc::syscall(libc::SYS_get_robust_list, 0, &raw mut head, &raw mut size) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the C library registered this head with the kernel. Its memory lasts as long as the
    // thread.
    let head = unsafe { head.as_ref() };
    match head {
        Some(head) if size == size_of::<Head>() && head.offset == -(OFFSET as isize) => Ok(head),
        _ => Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "the C library has no robust list, or one of an unknown form",
        )),
    }
}
