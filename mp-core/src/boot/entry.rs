//! The constructor that asks, before `main`, whether this process is a child.
//!
//! The linker collects the constructors of an executable in an order of its own, so those of other
//! crates may come after ours. In a process of its own they run when ours returns. In a child ours
//! does not return, so it runs them itself.

use std::ffi::{c_char, c_int};
use std::sync::atomic::Ordering;

use super::{Constructor, DECIDED, child};

type Function = extern "C" fn(c_int, *mut *const c_char, *const *const c_char);

// SAFETY: the section holds pointers to functions of exactly this type, which the C library calls
// one by one.
#[used]
#[unsafe(link_section = ".init_array")]
static ENTRY: Function = entry;

extern "C" fn entry(count: c_int, arguments: *mut *const c_char, environment: *const *const c_char) {
    DECIDED.store(true, Ordering::Release);
    // musl passes nothing to constructors, so what stands in the parameters there is of no use.
    let given = cfg!(target_env = "gnu");
    let constructor = if given {
        Constructor { count, arguments, environment, run_remaining }
    } else {
        Constructor { count: 0, arguments: std::ptr::null_mut(), environment: std::ptr::null(), run_remaining }
    };
    child::run_if_marked(Some(constructor));
}

// GNU ld defines these for executables only; a shared library with this code in it has to do
// without, which weak symbols allow.
std::arch::global_asm!(".weak __init_array_start", ".weak __init_array_end");

unsafe extern "C" {
    /// The first constructor of this executable. The linker makes the name.
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
        // This code is part of a shared library, for which the linker does not make the names.
        return;
    }
    let mut next = ours + size_of::<Function>();
    while next < end {
        // SAFETY: from `start` to `end` stand pointers to constructors, in which zero means none;
        // `next` is one of them, because it is a whole number of pointers after ours and before the
        // end.
        let function = unsafe { *(next as *const Option<Function>) };
        // Some linkers end the list with -1.
        if let Some(function) = function.filter(|function| *function as usize != usize::MAX) {
            function(constructor.count, constructor.arguments, constructor.environment);
        }
        next += size_of::<Function>();
    }
}
