//! When things happened in this process, from before `main` and until after it.
//!
//! The clock is one that all processes share. A child finds the page for its stamps late, so the
//! first one waits in a static; the last one is written by a destructor, into the page directly.

use std::ffi::{CStr, c_char, c_int};
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

use mp_bench::raw::now;
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use rustix::mm::{MapFlags, ProtFlags, mmap};

/// What a child tells.
#[derive(Default)]
#[repr(C)]
pub struct Page {
    /// The first of its own code runs: the kernel and the dynamic linker are done.
    pub constructor: AtomicU64,
    /// Its function begins; for the plain program, `main`.
    pub begin: AtomicU64,
    /// It returns.
    pub end: AtomicU64,
    /// The last of its destructors runs.
    pub destructor: AtomicU64,
}

/// When posix_spawn was called, and when it returned.
pub static CALLED: AtomicU64 = AtomicU64::new(0);
pub static RETURNED: AtomicU64 = AtomicU64::new(0);

static CONSTRUCTOR: AtomicU64 = AtomicU64::new(0);
static PAGE: AtomicPtr<Page> = AtomicPtr::new(ptr::null_mut());

// SAFETY: the section holds pointers to functions that the C library calls with three arguments,
// which this one does not look at. Numbered sections come first.
#[used]
#[unsafe(link_section = ".init_array.00001")]
static FIRST: extern "C" fn() = first;

// SAFETY: the section holds pointers to functions without arguments. It runs from its end to its
// beginning, so this is the last.
#[used]
#[unsafe(link_section = ".fini_array.00001")]
static LAST: extern "C" fn() = last;

extern "C" fn first() {
    CONSTRUCTOR.store(now(), Ordering::Relaxed);
}

extern "C" fn last() {
    // SAFETY: null, or a page that `open` mapped for as long as the process lives.
    if let Some(page) = unsafe { PAGE.load(Ordering::Relaxed).as_ref() } {
        page.destructor.store(now(), Ordering::Relaxed);
    }
}

/// Makes a page that this process and those that it hands the file to have in common. The file is
/// not close-on-exec, for the program that is started without a library.
pub fn create() -> io::Result<(OwnedFd, &'static Page)> {
    let file = memfd_create("stamps", MemfdFlags::empty())?;
    ftruncate(&file, size_of::<Page>() as u64)?;
    let page = map(&file)?;
    Ok((file, page))
}

/// In a child: takes the page over, and writes down when this was called.
pub fn begin(file: BorrowedFd<'_>) -> io::Result<&'static Page> {
    let begin = now();
    let page = map(file)?;
    page.constructor.store(CONSTRUCTOR.load(Ordering::Relaxed), Ordering::Relaxed);
    page.begin.store(begin, Ordering::Relaxed);
    PAGE.store(ptr::from_ref(page).cast_mut(), Ordering::Relaxed);
    Ok(page)
}

/// In a plain program: the descriptor of the page, by the number that it was inherited under.
pub fn inherited<'a>(number: i32) -> BorrowedFd<'a> {
    // SAFETY: the parent left it open under this number, and nobody closes it.
    unsafe { BorrowedFd::borrow_raw(number) }
}

fn map(file: impl std::os::fd::AsFd) -> io::Result<&'static Page> {
    let access = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: a new mapping at an address of the kernel's choice overlaps nothing that exists.
    let address = unsafe { mmap(ptr::null_mut(), size_of::<Page>(), access, MapFlags::SHARED, file, 0)? };
    // SAFETY: the file has room for a `Page`, all of whose bytes may be zero; a mapping is aligned
    // to pages and is never unmapped. Whoever else has it writes through atomics only.
    Ok(unsafe { &*address.cast::<Page>() })
}

type Spawn = unsafe extern "C" fn(
    *mut libc::pid_t,
    *const c_char,
    *const libc::posix_spawn_file_actions_t,
    *const libc::posix_spawnattr_t,
    *const *mut c_char,
    *const *mut c_char,
) -> c_int;

/// Stands in front of the C library's function, for the whole program, and looks at the clock.
///
/// # Safety
///
/// As the C library's.
// SAFETY: it does what the C library's function of this name does, because it calls it.
#[unsafe(no_mangle)]
unsafe extern "C" fn posix_spawn(
    child: *mut libc::pid_t,
    path: *const c_char,
    actions: *const libc::posix_spawn_file_actions_t,
    attributes: *const libc::posix_spawnattr_t,
    arguments: *const *mut c_char,
    environment: *const *mut c_char,
) -> c_int {
    let Some(spawn) = next(c"posix_spawn") else { return libc::ENOSYS };
    CALLED.store(now(), Ordering::Relaxed);
    // SAFETY: the caller keeps to what the C library's function demands, and this passes everything
    // on.
    let result = unsafe { spawn(child, path, actions, attributes, arguments, environment) };
    RETURNED.store(now(), Ordering::Relaxed);
    result
}

fn next(name: &CStr) -> Option<Spawn> {
    static FUNCTION: OnceLock<Option<Spawn>> = OnceLock::new();
    *FUNCTION.get_or_init(|| {
        // SAFETY: `name` is a C string; looking a symbol up runs none of its code.
        let symbol = unsafe { libc::dlsym(libc::RTLD_NEXT, name.as_ptr()) };
        // SAFETY: the C library's function of this name has this type (spawn.h), and a null pointer
        // becomes `None`.
        unsafe { std::mem::transmute::<*mut libc::c_void, Option<Spawn>>(symbol) }
    })
}
