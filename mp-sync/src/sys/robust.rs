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
//! 3. Entries of the table stay where they are, so a scan by another thread misses nothing that stays; when it is full of holes they are
//!    moved, and the scan begins anew.
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
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst};
use std::sync::atomic::{AtomicUsize, compiler_fence, fence};
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
    /// Points to the field `next` of the entry before, or to the head.
    previous: AtomicUsize,
    /// Points to the field `next` of the entry behind, or to the head. The lowest bit is the C library's, for a kind of its own, here and
    /// there.
    next: AtomicUsize,
}

const _: () = assert!(offset_of!(End, next) - offset_of!(End, word) == OFFSET);
const TO_NEXT: usize = offset_of!(End, next) - offset_of!(End, previous);

/// What the crate knows of a thread. It is never freed, so that others can look at it, and serves another thread later.
struct Record {
    head: Cell<*const Head>,
    first: End,
    last: End,
    id: Cell<u32>,
    /// How much of the table is in use: at least its first entry.
    top: AtomicUsize,
    /// Where the list ends, and in front of that the addresses of the links of the locks that the thread holds, the oldest first; 0 is a
    /// hole, and the last one is none. Others read it.
    table: [AtomicUsize; MOST + 1],
    holes: Cell<usize>,
    /// How often entries have been moved, times two; odd while they are.
    moves: AtomicUsize,
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
        let pending = &self.head().pending;
        if pending.load(Relaxed) != address(link) {
            pending.store(address(link), Relaxed);
        }
        compiler_fence(SeqCst);
    }

    /// After it. While the thread has the lock, it may stay the pending one; that does no harm, and saves a step.
    #[inline]
    pub(crate) fn end(self) {
        compiler_fence(SeqCst);
        self.head().pending.store(0, Relaxed);
    }

    /// The lock is the thread's now. Beyond [`MOST`] nothing happens: it is a lock then whose next owner is not told.
    #[inline]
    pub(crate) fn hold(self, link: &Link) {
        let record = self.0;
        let mut top = record.top.load(Relaxed);
        if top > MOST {
            top = record.close_holes();
        }
        let Some(entry) = record.table.get(top) else { return };
        entry.store(address(link), Relaxed);
        record.top.store(top + 1, Relaxed);
        link.0.store(record.first.next.load(Relaxed), Relaxed);
        compiler_fence(SeqCst);
        record.first.next.store(address(link), Relaxed);
    }

    /// Whether that is the lock that the thread took last, of those that it holds.
    #[inline]
    pub(crate) fn holds_last(self, link: &Link) -> bool {
        let last = self.0.top.load(Relaxed).wrapping_sub(1);
        self.0.table.get(last).is_some_and(|entry| entry.load(Relaxed) == address(link))
    }

    /// The lock that it took last is about to be the thread's no more.
    #[inline]
    pub(crate) fn release_last(self) {
        let record = self.0;
        let last = record.top.load(Relaxed) - 1;
        match record.table.get(last.wrapping_sub(1)) {
            Some(behind) if record.holes.get() == 0 => {
                record.top.store(last, Relaxed);
                record.first.next.store(behind.load(Relaxed), Relaxed);
            }
            _ => record.release(last),
        }
    }

    /// The same for any lock.
    #[cold]
    pub(crate) fn release(self, link: &Link) {
        let entries = &self.0.table[1..self.0.top.load(Relaxed)];
        // It is not there, if it was one too many.
        if let Some(place) = entries.iter().rposition(|entry| entry.load(Relaxed) == address(link)) {
            self.0.release(place + 1);
        }
    }

    #[inline]
    fn head(self) -> &'static Head {
        // SAFETY: it is this thread's list head in the C library's memory for the thread, found by `register`.
        unsafe { &*self.0.head.get() }
    }
}

impl Record {
    #[cold]
    fn release(&self, place: usize) {
        let top = self.top.load(Relaxed);
        let is_entry = |entry: &usize| *entry != 0;
        let entries = self.table[..top].iter().map(|entry| entry.load(Relaxed));
        // The first entry, which is the end, is always there.
        let behind = entries.clone().take(place).rfind(is_entry).unwrap_or(address_of_next(&self.last));
        match entries.clone().skip(place + 1).find(is_entry) {
            // SAFETY: it is the link of a lock in the table, which is mapped by invariant 2.
            Some(newer) => unsafe { word_at(newer) }.store(behind, Relaxed),
            None => self.first.next.store(behind, Relaxed),
        }
        self.table[place].store(0, Relaxed);
        self.holes.set(self.holes.get() + 1);
        let in_use = self.table[..top].iter().rposition(|entry| entry.load(Relaxed) != 0).map_or(1, |last| last + 1);
        self.holes.set(self.holes.get() - (top - in_use));
        self.top.store(in_use, Relaxed);
    }

    /// Moves the entries to the front of the table, and returns how many there are.
    #[cold]
    fn close_holes(&self) -> usize {
        self.moves.fetch_add(1, AcqRel);
        let mut top = 0;
        for entry in &self.table {
            let link = entry.load(Relaxed);
            if link != 0 {
                self.table[top].store(link, Relaxed);
                top += 1;
            }
        }
        self.top.store(top, Relaxed);
        self.holes.set(0);
        self.moves.fetch_add(1, Release);
        top
    }

    /// Whether a lock in that memory is in the table. For other threads too.
    fn holds_within(&self, memory: &std::ops::Range<usize>) -> bool {
        loop {
            let moves = self.moves.load(Acquire);
            let in_use = self.top.load(Relaxed).clamp(1, self.table.len());
            let found = self.table[1..in_use].iter().any(|entry| memory.contains(&entry.load(Relaxed)));
            fence(Acquire);
            if moves % 2 == 0 && moves == self.moves.load(Relaxed) {
                return found;
            }
            std::thread::yield_now();
        }
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
    records().all.iter().any(|record| record.holds_within(memory))
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
        _ => Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "the C library keeps no robust list, or one of an unknown form",
        )),
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
        Err(_) => {
            record.head.set(&NOWHERE);
            record.top.store(1, Relaxed);
        }
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
    let to_first = first.next.as_ptr().expose_provenance();
    let to_last = last.next.as_ptr().expose_provenance();
    first.previous.as_ptr().expose_provenance();
    last.previous.as_ptr().expose_provenance();
    record.table[0].store(to_last, Relaxed);
    record.top.store(1, Relaxed);
    last.next.store(behind, Relaxed);
    last.previous.store(to_first, Relaxed);
    first.next.store(to_last, Relaxed);
    first.previous.store(to_head, Relaxed);
    // The kernel goes forward only: from here on it passes through both.
    compiler_fence(SeqCst);
    head.next.store(to_first, Relaxed);
    // SAFETY: what was first has such a word before its link, and so has the head, for this purpose.
    let previous = unsafe { word_at((behind & !1) - TO_NEXT) };
    previous.store(to_last, Relaxed);
}

/// The opposite.
fn leave_list(record: &Record) {
    let (first, last) = (&record.first, &record.last);
    let (before, behind) = (first.previous.load(Relaxed), last.next.load(Relaxed));
    // SAFETY: it is the link of an entry, or the head.
    let next = unsafe { word_at(before & !1) };
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
        Thread(record).end();
    }
    record.top.store(1, Relaxed);
    let mut records = records();
    record.holes.set(0);
    records.idle.push(record);
}

/// In the child of `fork`, which is another thread to the kernel. It has none of the parent's locks, and the C library has begun a new
/// list for it.
extern "C" fn was_forked() {
    CURRENT.set(None);
    // SAFETY: the key exists, since it was made before this function was registered to be called.
    let _ = unsafe { libc::pthread_setspecific(key(), null_mut::<c_void>()) };
}
