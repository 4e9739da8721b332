//! A message for a stack overflow, which would otherwise end a child with SIGSEGV alone.
//!
//! std installs such a handler before `main`, which a child never reaches. This one replaces it on
//! the thread that runs the function. The handler recognises an overflow by the distance between
//! the faulting address and the stack pointer. Compiled code touches a new stack frame page by
//! page, so after an overflow the two are close. Another fault is not that close, because all other
//! memory near the stack pointer is mapped.

use std::ffi::{c_int, c_void};
use std::mem::{MaybeUninit, size_of_val};
use std::ptr;

use super::fork::Replaceable;

/// The message of the handler. It is made in advance, because the handler must not allocate.
static MESSAGE: Replaceable<String> = Replaceable::new();

/// The greatest distance from the stack pointer that counts as an overflow.
const NEAR: usize = 64 << 10;

/// The stack for the handler and for the registers that the kernel saves. Processors with wide
/// registers need more.
const SIGNAL_STACK: usize = 64 << 10;

/// Installs the handler for the calling thread, unless SIGSEGV has a handler already: in the copy
/// of a fork server it is this one, which says what was set last.
pub(crate) fn report_overflow(process: &str) {
    MESSAGE.set(format!("\nprocess '{process}' ({}) has overflowed its stack\n", std::process::id()));
    if !is_default(libc::SIGSEGV) {
        return;
    }
    // SAFETY: getauxval(3) has no precondition. It returns 0 if the kernel does not supply the
    // value.
    let least = unsafe { libc::getauxval(libc::AT_MINSIGSTKSZ) } as usize;
    // Left uninitialised, so that it takes no physical memory until the handler runs.
    let memory: &'static mut [MaybeUninit<u8>] = Box::leak(Box::new_uninit_slice(SIGNAL_STACK + least));
    let stack = libc::stack_t { ss_sp: memory.as_mut_ptr().cast(), ss_flags: 0, ss_size: size_of_val(memory) };
    // SAFETY: the memory is never freed, and is used for nothing else.
    let installed = unsafe { libc::sigaltstack(&raw const stack, ptr::null_mut()) };
    if installed != 0 {
        return;
    }
    for signal in [libc::SIGSEGV, libc::SIGBUS] {
        // SAFETY: a struct of integers and an optional function pointer, for which zero is valid.
        let mut action: libc::sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
        action.sa_sigaction = on_fault as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        // SAFETY: `on_fault` has the type that SA_SIGINFO requires and calls only async-signal-safe
        // functions. If the call fails, the signal keeps its default action.
        unsafe { libc::sigaction(signal, &raw const action, ptr::null_mut()) };
    }
}

fn is_default(signal: c_int) -> bool {
    // SAFETY: as in `report_overflow`.
    let mut action: libc::sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
    // SAFETY: with a null `act`, the call only writes to `action`, which is valid.
    let asked = unsafe { libc::sigaction(signal, ptr::null(), &raw mut action) };
    asked == 0 && action.sa_sigaction == libc::SIG_DFL
}

extern "C" fn on_fault(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: the kernel passes a valid `info`, and no code writes to it.
    let info = unsafe { &*info };
    // Sent by kill(2) or raise(3): there is no address, and no instruction that would fault again.
    if info.si_code <= 0 {
        // SAFETY: the default disposition is valid.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
        // SAFETY: raise(3) is async-signal-safe. The signal is blocked until the handler returns.
        unsafe { libc::raise(signal) };
        return;
    }
    // SAFETY: `info` holds an address for the signals that this handles.
    let address = unsafe { info.si_addr() } as usize;
    // SAFETY: the kernel passes a valid `context`.
    let pointer = stack_pointer(unsafe { &*context.cast::<libc::ucontext_t>() });
    if pointer.is_some_and(|pointer| pointer.abs_diff(address) <= NEAR) {
        if let Some(message) = MESSAGE.get() {
            // SAFETY: write(2) is async-signal-safe. The message is initialised and is never freed.
            unsafe { libc::write(libc::STDERR_FILENO, message.as_ptr().cast(), message.len()) };
        }
        // std ends the process with the same signal. SAFETY: abort(3) is async-signal-safe.
        unsafe { libc::abort() };
    }
    // Another fault: remove the handler and let the instruction fault again. SAFETY: the default
    // disposition is valid.
    unsafe { libc::signal(signal, libc::SIG_DFL) };
}

#[cfg(target_arch = "x86_64")]
fn stack_pointer(context: &libc::ucontext_t) -> Option<usize> {
    Some(context.uc_mcontext.gregs[libc::REG_RSP as usize] as usize)
}

#[cfg(target_arch = "aarch64")]
fn stack_pointer(context: &libc::ucontext_t) -> Option<usize> {
    Some(context.uc_mcontext.sp as usize)
}

/// On other processors an overflow ends the process with SIGSEGV.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn stack_pointer(_context: &libc::ucontext_t) -> Option<usize> {
    None
}
