//! The [robust list](https://www.kernel.org/doc/html/latest/locking/robust-futexes.html): the locks
//! that a thread holds, for the kernel to find when the thread is gone. It walks the list, sets
//! `OWNER_DIED` in each word that holds the thread's number, and wakes one waiter.
//!
//! # How this crate shares it with the C library
//!
//! A thread has one list, and the C library has registered its own, for `pthread_mutex`es that are
//! robust. It is left in place: two entries of ours, `first` and `last`, which look like two of
//! those mutexes, are put into it when a thread takes its first lock, and what this crate adds
//! stands between them. The C library puts entries in front of `first` and takes out its own on
//! either side; the words that it changes doing so are those of our two entries, in private memory,
//! never one of a lock.
//!
//! ```text
//! head of the C library -> its newer entries -> first -> node -> lock -> node -> lock -> last -> its older entries -> head
//! ```
//!
//! In front of each lock stands a node of the thread's own. So a lock is taken out of the list
//! without a change to another lock: its node passes it by. A node without a lock stays in its
//! place, until those behind it are gone or a lock needs one.
//!
//! All entries of one thread have their word at the same distance from their link, [`OFFSET`]: what
//! `pthread_mutex_t` has.
//!
//! # Invariants
//!
//! 1. This crate writes to the link of a lock once, when the thread takes the lock. What it knows
//!    of the list is in its nodes, in private memory. It compares what it finds in a link, and
//!    never follows it: other processes can write there, and if the guard was forgotten, this one
//!    may have put something else there.
//! 2. Every lock in the list is in memory that is mapped: a region of shared memory is unmapped
//!    only after [`holds_within`] has found nothing of it in the list of any thread, and nothing
//!    outside of such a region is ever entered. So forgetting a guard leaves no pointer to memory
//!    that has been freed.
//! 3. Entries do not move, so a scan by another thread misses nothing that stays.
//! 4. From before a thread's number gets into a word until it has left it, the lock is in the list
//!    or it is the pending one.
//! 5. A thread that ends takes what it still holds (forgotten guards) out of the list first:
//!    references that came from a leaked guard may live on in other threads, so nobody may be told
//!    that its owner died. That lock stays locked.
//! 6. The link of the lock at a node holds the address of the next older node. By that the lock is
//!    found again, through whichever mapping of its memory it is released; so no lock has it that
//!    is not in the list.
//!
//! The kernel looks at the list when the thread has ended, so what orders these writes is the order
//! of the program: relaxed atomics and fences for the compiler.

use std::alloc::{Layout, alloc_zeroed, handle_alloc_error};
use std::cell::Cell;
use std::ffi::c_void;
use std::io;
use std::mem::offset_of;
use std::ptr::{null, null_mut};
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicUsize, compiler_fence};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use super::regions;

/// From the word of a lock to its link: as in glibc's `pthread_mutex_t` on 64-bit targets. Checked
/// when a thread's list is found.
pub(crate) const OFFSET: usize = 32;

/// How many locks of shared memory a thread can hold so that their next owner is told of its death:
/// half of what the kernel looks at (`ROBUST_LIST_LIMIT`), as each has a node, less the ends.
const MOST: usize = 1_022;

/// The link of a lock: where the kernel goes on from it. It means something to the process of the
/// owner only.
#[repr(transparent)]
pub(crate) struct Link(AtomicUsize);

impl Link {
    pub(crate) const fn new() -> Self {
        Self(AtomicUsize::new(0))
    }
}

/// What the kernel was told of: `struct robust_list_head`.
#[repr(C)]
struct Head {
    next: AtomicUsize,
    offset: isize,
    pending: AtomicUsize,
}

/// An entry of ours: the part of a `pthread_mutex_t` that matters to the list. The C library
/// changes those at the ends.
#[repr(C)]
struct Entry {
    word: AtomicUsize,
    rest: [usize; 2],
    /// Points to the field `next` of the entry before, or to the head.
    previous: AtomicUsize,
    /// Points to the field `next` of the entry behind, or to the head. The lowest bit is the C
    /// library's, for a kind of its own, here and there.
    next: AtomicUsize,
}

const _: () = assert!(offset_of!(Entry, next) - offset_of!(Entry, word) == OFFSET);
const TO_NEXT: usize = offset_of!(Entry, next) - offset_of!(Entry, previous);

/// What the crate knows of a thread. It is never freed, so that others can look at it, and serves
/// another thread later.
struct Record {
    head: Cell<*const Head>,
    id: Cell<u32>,
    /// The newest node in use; 0 is none. Others read it.
    top: AtomicUsize,
    /// How many nodes in use have no lock.
    holes: Cell<usize>,
    first: Entry,
    /// The first is the last entry of the list; the others have a lock each, the oldest first.
    /// Others read their links.
    nodes: [Entry; MOST + 1],
    cache: regions::Cache,
}

// SAFETY: the cells are used by the thread that the record serves, and it is handed on under the
// lock of `RECORDS` only. What other threads read is atomic.
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

    /// The number that stands in the words of its locks: the kernel's for the thread.
    #[inline]
    pub(crate) fn id(self) -> u32 {
        self.0.id.get()
    }

    /// Whether the death of the owner of that lock has to be told to other processes: whether it is
    /// in a region of shared memory.
    #[inline]
    pub(crate) fn shares(self, link: &Link) -> bool {
        self.0.cache.is_shared(address(link))
    }

    /// Before its word changes hands: if the thread dies in between, the kernel looks at this lock
    /// too.
    #[inline]
    pub(crate) fn begin(self, link: &Link) {
        let pending = &self.head().pending;
        if pending.load(Relaxed) != address(link) {
            pending.store(address(link), Relaxed);
        }
        compiler_fence(SeqCst);
    }

    /// After it. While the thread has the lock, it may stay the pending one; that does no harm, and
    /// saves a step.
    #[inline]
    pub(crate) fn end(self) {
        compiler_fence(SeqCst);
        self.head().pending.store(0, Relaxed);
    }

    /// The lock is the thread's now. Beyond [`MOST`] it is one whose next owner is not told.
    #[inline]
    pub(crate) fn hold(self, link: &Link) {
        let record = self.0;
        let index = record.top.load(Relaxed) + 1;
        let (Some(node), Some(older)) = (record.nodes.get(index), record.nodes.get(index - 1)) else {
            return record.hold_in_hole(link);
        };
        link.0.store(older.address(), Relaxed);
        node.next.store(address(link), Relaxed);
        record.top.store(index, Relaxed);
        compiler_fence(SeqCst);
        record.first.next.store(node.address(), Relaxed);
    }

    /// Whether that is the lock that the thread took last, of those that it holds.
    #[inline]
    pub(crate) fn holds_last(self, link: &Link) -> bool {
        let older = self.0.top.load(Relaxed).wrapping_sub(1);
        self.0.nodes.get(older).is_some_and(|older| link.0.load(Relaxed) == older.address())
    }

    /// The lock that it took last is about to be the thread's no more.
    #[inline]
    pub(crate) fn release_last(self) {
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
    }

    /// The same for any lock.
    #[cold]
    pub(crate) fn release(self, link: &Link) {
        let older = link.0.load(Relaxed);
        let top = self.0.top.load(Relaxed);
        // It is not there, if it was one too many.
        if let Some(place) = self.0.nodes[..top].iter().rposition(|node| node.address() == older) {
            self.0.release(place + 1);
        }
    }

    #[inline]
    fn head(self) -> &'static Head {
        // SAFETY: it is this thread's list head in the C library's memory for the thread, found by
        // `register`.
        unsafe { &*self.0.head.get() }
    }
}

impl Entry {
    /// What the entry before it has as its link.
    #[inline]
    fn address(&self) -> usize {
        self.next.as_ptr().expose_provenance()
    }
}

impl Record {
    /// Whether the node has no lock.
    fn is_hole(&self, index: usize) -> bool {
        self.nodes[index].next.load(Relaxed) == self.nodes[index - 1].address()
    }

    /// Where all nodes are in use, one may have no lock.
    #[cold]
    fn hold_in_hole(&self, link: &Link) {
        if self.holes.get() == 0 {
            // Invariant 6.
            return link.0.store(0, Relaxed);
        }
        let top = self.top.load(Relaxed);
        if let Some(index) = (1..=top).rfind(|index| self.is_hole(*index)) {
            link.0.store(self.nodes[index - 1].address(), Relaxed);
            compiler_fence(SeqCst);
            self.nodes[index].next.store(address(link), Relaxed);
            self.holes.set(self.holes.get() - 1);
        }
    }

    /// Takes out the lock at that node.
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

    /// Whether a lock in that memory is in the list. For other threads too.
    fn holds_within(&self, memory: &std::ops::Range<usize>) -> bool {
        let top = self.top.load(Relaxed).min(MOST);
        self.nodes[1..=top].iter().any(|node| memory.contains(&node.next.load(Relaxed)))
    }
}

#[inline]
fn address(link: &Link) -> usize {
    link.0.as_ptr().expose_provenance()
}

/// The word at that address.
///
/// # Safety
///
/// There is one, of the C library's list, and it stays while the reference is used.
unsafe fn word_at<'a>(address: usize) -> &'a AtomicUsize {
    // SAFETY: the caller's promise. Nobody but this thread and the kernel uses these words, and the
    // C library, whose functions this thread is not in now.
    unsafe { AtomicUsize::from_ptr(std::ptr::with_exposed_provenance_mut(address)) }
}

/// Whether a thread of this process holds a lock in that memory, by what the thread knows itself.
/// The caller makes sure that no lock there can be taken or released meanwhile.
pub(crate) fn holds_within(memory: &std::ops::Range<usize>) -> bool {
    records().all.iter().any(|record| record.holds_within(memory))
}

/// Whether this system tells of the death of owners: it knows robust lists, and the C library uses
/// them as this crate does.
pub(crate) fn check() -> io::Result<()> {
    find_head().map(|_| ())
}

/// The head of the calling thread's list.
fn find_head() -> io::Result<&'static Head> {
    let mut head: *const Head = null();
    let mut size = 0_usize;
    // SAFETY: the call writes a pointer and a size to the two places that it is given; 0 is the
    // calling thread.
    let result = unsafe { libc::syscall(libc::SYS_get_robust_list, 0, &raw mut head, &raw mut size) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the C library has told the kernel that its head is there, in memory that lasts as
    // long as the thread.
    let head = unsafe { head.as_ref() };
    match head {
        Some(head) if size == size_of::<Head>() && head.offset == -(OFFSET as isize) => Ok(head),
        _ => Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "the C library keeps no robust list, or one of an unknown form",
        )),
    }
}

/// For a thread of a system without robust lists, where no memory is ever registered as shared:
/// nobody looks here.
static NOWHERE: Head = Head { next: AtomicUsize::new(0), offset: 0, pending: AtomicUsize::new(0) };

#[cold]
fn register() -> &'static Record {
    let key = key();
    let record = {
        let mut records = records();
        if let Some(record) = records.idle.pop() {
            record
        } else {
            let record = new_record();
            records.all.push(record);
            record
        }
    };
    record.id.set(rustix::thread::gettid().as_raw_nonzero().get() as u32);
    match find_head() {
        Ok(head) => enter_list(record, head),
        Err(_) => record.head.set(&NOWHERE),
    }
    // SAFETY: the key exists, and its destructor takes such a pointer.
    let result = unsafe { libc::pthread_setspecific(key, std::ptr::from_ref(record).cast()) };
    // Without it a lock that the thread forgets would be given to somebody else when the thread
    // ends.
    assert_eq!(result, 0, "pthread_setspecific: {}", io::Error::from_raw_os_error(result));
    record
}

fn new_record() -> &'static Record {
    let layout = Layout::new::<Record>();
    // SAFETY: the layout is not empty.
    let memory = unsafe { alloc_zeroed(layout) };
    if memory.is_null() {
        handle_alloc_error(layout);
    }
    // SAFETY: it has the size and the alignment, all-zero bytes are a record, and it is never
    // freed.
    unsafe { &*memory.cast::<Record>() }
}

/// Puts the two ends to the front of the C library's list, as it would put two mutexes there.
fn enter_list(record: &'static Record, head: &'static Head) {
    record.head.set(head);
    let (first, last) = (&record.first, &record.nodes[0]);
    let behind = head.next.load(Relaxed);
    // The C library is going to write to both words of each.
    first.previous.as_ptr().expose_provenance();
    last.previous.as_ptr().expose_provenance();
    last.next.store(behind, Relaxed);
    last.previous.store(first.address(), Relaxed);
    first.next.store(last.address(), Relaxed);
    first.previous.store(head.next.as_ptr().expose_provenance(), Relaxed);
    // The kernel goes forward only: from here on it passes through both.
    compiler_fence(SeqCst);
    head.next.store(first.address(), Relaxed);
    // SAFETY: what was first has such a word before its link, and so has the head, for this
    // purpose.
    let previous = unsafe { word_at((behind & !1) - TO_NEXT) };
    previous.store(last.address(), Relaxed);
}

/// The opposite.
fn leave_list(record: &Record) {
    let (first, last) = (&record.first, &record.nodes[0]);
    let (before, behind) = (first.previous.load(Relaxed), last.next.load(Relaxed));
    // SAFETY: it is the link of an entry, or the head.
    let next = unsafe { word_at(before & !1) };
    next.store(behind, Relaxed);
    // SAFETY: as in `enter_list`.
    let previous = unsafe { word_at((behind & !1) - TO_NEXT) };
    previous.store(before, Relaxed);
}

/// Calls [`thread_ends`] at the end of each thread that has a value for it: behind the destructors
/// of thread-locals, which may still use locks.
fn key() -> libc::pthread_key_t {
    static KEY: OnceLock<libc::pthread_key_t> = OnceLock::new();
    *KEY.get_or_init(|| {
        let mut key = 0;
        // SAFETY: the function takes what is set for the key.
        let result = unsafe { libc::pthread_key_create(&raw mut key, Some(thread_ends)) };
        assert_eq!(result, 0, "pthread_key_create: {}", io::Error::from_raw_os_error(result));
        // SAFETY: the function does what may be done in a child that was forked.
        let result = unsafe { libc::pthread_atfork(None, None, Some(was_forked)) };
        assert_eq!(result, 0, "pthread_atfork: {}", io::Error::from_raw_os_error(result));
        key
    })
}

/// Invariant 5, and the record may serve another thread.
unsafe extern "C" fn thread_ends(record: *mut c_void) {
    // SAFETY: it was set by `register`, and records are never freed.
    let record = unsafe { &*record.cast::<Record>().cast_const() };
    CURRENT.set(None);
    record.first.next.store(record.nodes[0].address(), Relaxed);
    if !std::ptr::eq(record.head.get(), &raw const NOWHERE) {
        leave_list(record);
        Thread(record).end();
    }
    record.top.store(0, Relaxed);
    let mut records = records();
    record.holes.set(0);
    records.idle.push(record);
}

/// In the child of `fork`, which is another thread to the kernel. It has none of the parent's
/// locks, and the C library has begun a new list for it.
extern "C" fn was_forked() {
    CURRENT.set(None);
    // SAFETY: the key exists, since it was made before this function was registered to be called.
    let _ = unsafe { libc::pthread_setspecific(key(), null_mut::<c_void>()) };
}
