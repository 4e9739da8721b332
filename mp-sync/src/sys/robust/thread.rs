//! The beginning and the end of a thread that owns locks.

use std::alloc::{Layout, alloc_zeroed, handle_alloc_error};
use std::cell::Cell;
use std::ffi::c_void;
use std::io;
use std::ptr::{self, null_mut};
use std::sync::OnceLock;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicUsize, compiler_fence};

use super::{CURRENT, Head, Record, TO_NEXT, Thread, find_head, records, word_at};

/// The head for a thread on a system without robust lists. No memory can be registered as shared
/// there, so the kernel never reads this.
static NOWHERE: Head = Head { next: AtomicUsize::new(0), offset: 0, pending: AtomicUsize::new(0) };

#[cold]
pub(super) fn register() -> &'static Record {
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
    if !calls_at_end(record) {
        // Its variables are gone already, and there is no key. Without the call, another thread
        // would get a lock whose guard this thread forgot when this thread ends, so the kernel must
        // not see its locks.
        if !ptr::eq(record.head.get(), &raw const NOWHERE) {
            leave_list(record);
        }
        record.head.set(&NOWHERE);
    }
    record
}

/// Arranges that [`ended`] is called at the end of this thread, and tells whether it will be.
fn calls_at_end(record: &'static Record) -> bool {
    let by_key = key().is_some_and(|key| {
        // SAFETY: the key exists, and its destructor takes a pointer to a record.
        unsafe { libc::pthread_setspecific(key, ptr::from_ref(record).cast()) == 0 }
    });
    by_key || ENDING.try_with(|ending| ending.0.set(Some(record))).is_ok()
}

/// Stands in for the key if a program has used up all keys. Its destructor may run before those of
/// other thread-locals, which then make this thread an owner a second time.
struct Ending(Cell<Option<&'static Record>>);

impl Drop for Ending {
    fn drop(&mut self) {
        if let Some(record) = self.0.take() {
            ended(record);
        }
    }
}

thread_local! {
    static ENDING: Ending = const { Ending(Cell::new(None)) };
}

fn new_record() -> &'static Record {
    let layout = Layout::new::<Record>();
    // SAFETY: the size of the layout is not zero.
    let memory = unsafe { alloc_zeroed(layout) };
    if memory.is_null() {
        handle_alloc_error(layout);
    }
    // SAFETY: the memory has the size and the alignment of a record, zero bytes are a valid record,
    // and it is never freed.
    unsafe { &*memory.cast::<Record>() }
}

/// Inserts the two ends at the front of the C library's list, as the C library would insert two
/// mutexes.
fn enter_list(record: &'static Record, head: &'static Head) {
    record.head.set(head);
    let (first, last) = (&record.first, &record.nodes[0]);
    let behind = head.next.load(Relaxed);
    // The C library will write to both words of each.
    first.previous.as_ptr().expose_provenance();
    last.previous.as_ptr().expose_provenance();
    last.next.store(behind, Relaxed);
    last.previous.store(first.address(), Relaxed);
    first.next.store(last.address(), Relaxed);
    first.previous.store(head.next.as_ptr().expose_provenance(), Relaxed);
    // The kernel walks forward only. From here on it passes through both.
    compiler_fence(SeqCst);
    head.next.store(first.address(), Relaxed);
    // SAFETY: the entry that was first has such a word before its link, and so has the head.
    let previous = unsafe { word_at((behind & !1) - TO_NEXT) };
    previous.store(last.address(), Relaxed);
}

/// Removes the two ends.
fn leave_list(record: &Record) {
    let (first, last) = (&record.first, &record.nodes[0]);
    let (before, behind) = (first.previous.load(Relaxed), last.next.load(Relaxed));
    // SAFETY: this is the address of a link of an entry or of the head.
    let next = unsafe { word_at(before & !1) };
    next.store(behind, Relaxed);
    // SAFETY: as in `enter_list`.
    let previous = unsafe { word_at((behind & !1) - TO_NEXT) };
    previous.store(before, Relaxed);
}

/// The key calls [`thread_ends`] at the end of each thread that has a value for it, after the
/// destructors of thread-locals, which may still use locks.
///
/// `None` if a program has used up all keys.
fn key() -> Option<libc::pthread_key_t> {
    static KEY: OnceLock<Option<libc::pthread_key_t>> = OnceLock::new();
    *KEY.get_or_init(|| {
        let mut key = 0;
        // SAFETY: the function takes the values that are set for the key.
        let result = unsafe { libc::pthread_key_create(&raw mut key, Some(thread_ends)) };
        // It fails for lack of memory alone. SAFETY: the function only does what is allowed in a
        // forked child.
        let registered = unsafe { libc::pthread_atfork(None, None, Some(was_forked)) };
        assert_eq!(registered, 0, "pthread_atfork: {}", io::Error::from_raw_os_error(registered));
        (result == 0).then_some(key)
    })
}

unsafe extern "C" fn thread_ends(record: *mut c_void) {
    // SAFETY: `calls_at_end` set the value, and records are never freed.
    ended(unsafe { &*record.cast::<Record>().cast_const() });
}

/// Establishes invariant 5, and makes the record available for another thread.
fn ended(record: &'static Record) {
    CURRENT.set(None);
    record.first.next.store(record.nodes[0].address(), Relaxed);
    if !ptr::eq(record.head.get(), &raw const NOWHERE) {
        leave_list(record);
        Thread(record).end();
    }
    record.top.store(0, Relaxed);
    let mut records = records();
    record.holes.set(0);
    records.idle.push(record);
}

/// Runs in the child of `fork`, which is a new thread for the kernel. It holds none of the parent's
/// locks, and the C library has begun a new list for it.
extern "C" fn was_forked() {
    CURRENT.set(None);
    match key() {
        // SAFETY: the key exists, and a null pointer means no value.
        Some(key) => drop(unsafe { libc::pthread_setspecific(key, null_mut::<c_void>()) }),
        None => drop(ENDING.try_with(|ending| ending.0.set(None))),
    }
}
