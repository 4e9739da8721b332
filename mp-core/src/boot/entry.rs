//! The constructor that finds out, before `main`, whether this process is a child.
//!
//! The linker orders the constructors of an executable as it likes, so those of other crates may
//! come after ours. If this process is not a child, our constructor returns and the C library runs
//! them. In a child our constructor does not return, so it runs them itself.

use std::ffi::{c_char, c_int};
use std::sync::atomic::Ordering;

use super::{Constructor, DECIDED, child, role};

type Function = extern "C" fn(c_int, *mut *const c_char, *const *const c_char);

// SAFETY: the C library takes each entry of this section for a pointer to a function of this type
// and calls it.
#[used]
#[unsafe(link_section = ".init_array")]
static ENTRY: Function = entry;

extern "C" fn entry(count: c_int, arguments: *mut *const c_char, environment: *const *const c_char) {
    DECIDED.store(true, Ordering::Release);
    // musl passes no arguments to constructors, so there the parameters hold garbage.
    let given = cfg!(target_env = "gnu");
    let constructor = if given {
        Constructor { count, arguments, environment, run_remaining }
    } else {
        Constructor { count: 0, arguments: std::ptr::null_mut(), environment: std::ptr::null(), run_remaining }
    };
    child::run_if_marked(Some(constructor));
    role::run_if_applies(Some(constructor));
}

// GNU ld defines these symbols for executables only. They are weak, so that a shared library that
// contains this code links without them.
std::arch::global_asm!(".weak __init_array_start", ".weak __init_array_end");

unsafe extern "C" {
    /// The first constructor of this executable. The linker defines the symbol.
    static __init_array_start: [Option<Function>; 0];
    /// The end of the constructors.
    static __init_array_end: [Option<Function>; 0];
}

/// Runs the constructors that the linker put after ours.
fn run_remaining(constructor: Constructor) {
    let ours = &raw const ENTRY as usize;
    let start = &raw const __init_array_start as usize;
    let end = &raw const __init_array_end as usize;
    if !(start..end).contains(&ours) {
        // This code is part of a shared library, where the linker does not define the symbols.
        return;
    }
    let mut next = ours + size_of::<Function>();
    while next < end {
        // SAFETY: the range from `start` to `end` is an array of nullable pointers to constructors.
        // `next` points at an element: it is a whole number of elements after ours and before the
        // end.
        let function = unsafe { *(next as *const Option<Function>) };
        // Some linkers end the list with -1.
        if let Some(function) = function.filter(|function| *function as usize != usize::MAX) {
            function(constructor.count, constructor.arguments, constructor.environment);
        }
        next += size_of::<Function>();
    }
}
