//! The [robust list](https://www.kernel.org/doc/html/latest/locking/robust-futexes.html): the locks that a thread holds, for the kernel to
//! find when the thread is gone. It walks the list, sets `OWNER_DIED` in each word that holds the thread's number, and wakes one waiter.
//!
//! # How this crate shares it with the C library
//!
//! A thread has one list, and the C library has registered its own, for `pthread_mutex`es that are robust. It is left in place: two
//! entries of ours, `first` and `last`, which look like two of those mutexes, are put into it when a thread takes its first lock, and
//! what this crate adds stands between them. The C library puts entries in front of `first` and takes out its own on either side; the
//! words that it changes doing so are those of our two entries, in private memory, never one of a lock.
//!
//! ```text
//! head of the C library -> its newer entries -> first -> lock -> lock -> last -> its older entries -> head
//! ```
//!
//! All entries of one thread have their word at the same distance from their link, [`OFFSET`]: what `pthread_mutex_t` has.
//!
//! # Invariants
//!
//! 1. Only the kernel follows the links in locks, which other processes can write. This crate knows the order from a private table.
//! 2. Every lock in the table is mapped: a region of shared memory is unmapped only after [`holds_within`] has found nothing of it in
//!    the table of any thread, and nothing outside of such a region is ever entered. So forgetting a guard leaves no pointer to memory
//!    that has been freed, neither for the kernel nor for this crate.
//! 3. Slots of the table do not move while they are in use, so a scan by another thread misses nothing that stays.
//! 4. From before a thread's number gets into a word until it has left it, the lock is in the list or it is the pending one.
//! 5. A thread that ends takes what it still holds (forgotten guards) out of the list first: references that came from a leaked guard may
//!    live on in other threads, so nobody may be told that its owner died. That lock stays locked. When the whole process dies nothing
//!    lives on.
//!
//! The kernel looks at the list when the thread has ended, so what orders these writes is the order of the program: relaxed atomics and
//! fences for the compiler.

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

/// From the word of a lock to its link: as in glibc's `pthread_mutex_t` on 64-bit targets. Checked when a thread's list is found.
pub(crate) const OFFSET: usize = 32;

/// How many locks of shared memory a thread can hold so that their next owner is told of its death: what the kernel looks at
/// (`ROBUST_LIST_LIMIT`), less the two ends.
const MOST: usize = 2_046;

/// The link of a lock: where the kernel goes on from it. It means something to the process of the owner only.
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

/// An entry of ours that the C library may change: the part of a `pthread_mutex_t` that matters to the list.
#[repr(C)]
struct End {
    word: AtomicUsize,
    rest: [usize; 2],
    /// Points to the field `previous` of the entry before, or of what stands before the head.
    previous: AtomicUsize,
    /// Points to the field `next` of the entry behind, or to the head. The lowest bit is the C library's, for a kind of its own.
    next: AtomicUsize,
}

const _: () = assert!(offset_of!(End, next) - offset_of!(End, word) == OFFSET);
const TO_NEXT: usize = offset_of!(End, next) - offset_of!(End, previous);

/// A lock that the thread holds.
struct Slot {
    /// The address of its link; 0 in a slot that is free. Other threads read it.
    link: AtomicUsize,
    /// The slot of the lock that was taken before and is still held; in a free slot, the next free one. Counted from 1, 0 is none.
    older: Cell<u16>,
    newer: Cell<u16>,
}

/// What the crate knows of a thread. It is never freed, so that others can look at it, and serves another thread later.
struct Record {
    head: Cell<*const Head>,
    first: End,
    last: End,
    id: Cell<u32>,
    newest: Cell<u16>,
    free: Cell<u16>,
    /// How many slots have ever been used.
    used: AtomicUsize,
    slots: [Slot; MOST],
    cache: regions::Cache,
}

// SAFETY: the cells are used by the thread that the record serves, and it is handed on under the lock of `RECORDS` only. What other
// threads read is atomic.
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

    /// Whether the death of the owner of that lock has to be told to other processes: whether it is in a region of shared memory.
    #[inline]
    pub(crate) fn shares(self, link: &Link) -> bool {
        self.0.cache.is_shared(address(link))
    }

    /// Before its word changes hands: if the thread dies in between, the kernel looks at this lock too.
    #[inline]
    pub(crate) fn begin(self, link: &Link) {
        self.head().pending.store(address(link), Relaxed);
        compiler_fence(SeqCst);
    }

    /// After it.
    #[inline]
    pub(crate) fn end(self) {
        compiler_fence(SeqCst);
        self.head().pending.store(0, Relaxed);
    }

    /// The lock is the thread's now. Beyond [`MOST`] nothing happens: it is a lock then whose next owner is not told.
    #[inline]
    pub(crate) fn hold(self, link: &Link) {
        let record = self.0;
        let Some(index) = record.take_slot() else { return };
        let slot = record.slot(index);
        let newest = record.newest.get();
        slot.link.store(address(link), Relaxed);
        slot.older.set(newest);
        slot.newer.set(0);
        if newest != 0 {
            record.slot(newest).newer.set(index);
        }
        record.newest.set(index);
        link.0.store(record.first.next.load(Relaxed), Relaxed);
        compiler_fence(SeqCst);
        record.first.next.store(address(link), Relaxed);
    }

    /// The lock is about to be the thread's no more.
    #[inline]
    pub(crate) fn release(self, link: &Link) {
        let record = self.0;
        let wanted = address(link);
        let mut index = record.newest.get();
        // Locks are mostly released in the opposite order.
        while index != 0 && record.slot(index).link.load(Relaxed) != wanted {
            index = record.slot(index).older.get();
        }
        if index == 0 {
            return;
        }
        let slot = record.slot(index);
        let (older, newer) = (slot.older.get(), slot.newer.get());
        let behind = match older {
            0 => address_of_next(&record.last),
            older => record.slot(older).link.load(Relaxed),
        };
        if older != 0 {
            record.slot(older).newer.set(newer);
        }
        if newer == 0 {
            record.newest.set(older);
            record.first.next.store(behind, Relaxed);
        } else {
            let newer = record.slot(newer);
            newer.older.set(older);
            // SAFETY: it is the link of a lock in the table, which is mapped by invariant 2.
            let link = unsafe { word_at(newer.link.load(Relaxed)) };
            link.store(behind, Relaxed);
        }
        slot.link.store(0, Relaxed);
        slot.older.set(record.free.get());
        record.free.set(index);
    }

    #[inline]
    fn head(self) -> &'static Head {
        // SAFETY: it is this thread's list head in the C library's memory for the thread, found by `register`.
        unsafe { &*self.0.head.get() }
    }
}

impl Record {
    #[inline]
    fn slot(&self, index: u16) -> &Slot {
        &self.slots[usize::from(index) - 1]
    }

    #[inline]
    fn take_slot(&self) -> Option<u16> {
        let free = self.free.get();
        if free != 0 {
            self.free.set(self.slot(free).older.get());
            return Some(free);
        }
        let used = self.used.load(Relaxed);
        if used == MOST {
            return None;
        }
        self.used.store(used + 1, Relaxed);
        Some(used as u16 + 1)
    }
}

#[inline]
fn address(link: &Link) -> usize {
    link.0.as_ptr().expose_provenance()
}

#[inline]
fn address_of_next(end: &End) -> usize {
    end.next.as_ptr().addr()
}

/// The word at that address.
///
/// # Safety
///
/// There is one, of the C library's list or of a lock in the table, and it stays while the reference is used.
unsafe fn word_at<'a>(address: usize) -> &'a AtomicUsize {
    // SAFETY: the caller's promise. Nobody but this thread and the kernel uses these words, and the C library, whose functions this
    // thread is not in now.
    unsafe { AtomicUsize::from_ptr(std::ptr::with_exposed_provenance_mut(address)) }
}

/// Whether a thread of this process holds a lock in that memory, by what the thread knows itself. The caller makes sure that no lock
/// there can be taken or released meanwhile.
pub(crate) fn holds_within(memory: &std::ops::Range<usize>) -> bool {
    records().all.iter().any(|record| {
        let used = record.used.load(Relaxed);
        record.slots[..used].iter().any(|slot| memory.contains(&slot.link.load(Relaxed)))
    })
}

/// Whether this system tells of the death of owners: it knows robust lists, and the C library uses them as this crate does.
pub(crate) fn check() -> io::Result<()> {
    find_head().map(|_| ())
}

/// The head of the calling thread's list.
fn find_head() -> io::Result<&'static Head> {
    let mut head: *const Head = null();
    let mut size = 0_usize;
    // SAFETY: the call writes a pointer and a size to the two places that it is given; 0 is the calling thread.
    let result = unsafe { libc::syscall(libc::SYS_get_robust_list, 0, &raw mut head, &raw mut size) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the C library has told the kernel that its head is there, in memory that lasts as long as the thread.
    let head = unsafe { head.as_ref() };
    match head {
        Some(head) if size == size_of::<Head>() && head.offset == -(OFFSET as isize) => Ok(head),
        _ => Err(io::Error::new(io::ErrorKind::Unsupported, "the C library keeps no robust list, or one of an unknown form")),
    }
}

/// For a thread of a system without robust lists, where no memory is ever registered as shared: nobody looks here.
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
    // Without it a lock that the thread forgets would be given to somebody else when the thread ends.
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
    // SAFETY: it has the size and the alignment, all-zero bytes are a record, and it is never freed.
    unsafe { &*memory.cast::<Record>() }
}

/// Puts the two ends to the front of the C library's list, as it would put two mutexes there.
fn enter_list(record: &'static Record, head: &'static Head) {
    record.head.set(head);
    let (first, last) = (&record.first, &record.last);
    let behind = head.next.load(Relaxed);
    let to_head = head.next.as_ptr().expose_provenance();
    first.next.as_ptr().expose_provenance();
    last.next.as_ptr().expose_provenance();
    last.next.store(behind, Relaxed);
    last.previous.store(first.previous.as_ptr().addr(), Relaxed);
    first.next.store(address_of_next(last), Relaxed);
    first.previous.store(to_head - TO_NEXT, Relaxed);
    // The kernel goes forward only: from here on it passes through both.
    compiler_fence(SeqCst);
    head.next.store(address_of_next(first), Relaxed);
    // SAFETY: what was first has such a word before its link, and so has the head, for this purpose.
    let previous = unsafe { word_at((behind & !1) - TO_NEXT) };
    previous.store(last.previous.as_ptr().expose_provenance(), Relaxed);
}

/// The opposite.
fn leave_list(record: &Record) {
    let (first, last) = (&record.first, &record.last);
    let (before, behind) = (first.previous.load(Relaxed), last.next.load(Relaxed));
    // SAFETY: what stands before is an entry, or the head; its link is that far from what the C library points to.
    let next = unsafe { word_at((before & !1) + TO_NEXT) };
    next.store(behind, Relaxed);
    // SAFETY: as in `enter_list`.
    let previous = unsafe { word_at((behind & !1) - TO_NEXT) };
    previous.store(before, Relaxed);
}

/// Calls [`thread_ends`] at the end of each thread that has a value for it: behind the destructors of thread-locals, which may still use
/// locks.
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
    record.first.next.store(address_of_next(&record.last), Relaxed);
    if !std::ptr::eq(record.head.get(), &raw const NOWHERE) {
        leave_list(record);
    }
    let mut records = records();
    for slot in &record.slots[..record.used.load(Relaxed)] {
        slot.link.store(0, Relaxed);
    }
    record.used.store(0, Relaxed);
    record.newest.set(0);
    record.free.set(0);
    records.idle.push(record);
}

/// In the child of `fork`, which is another thread to the kernel. It has none of the parent's locks, and the C library has begun a new
/// list for it.
extern "C" fn was_forked() {
    CURRENT.set(None);
    // SAFETY: the key exists, since it was made before this function was registered to be called.
    let _ = unsafe { libc::pthread_setspecific(key(), null_mut::<c_void>()) };
}
