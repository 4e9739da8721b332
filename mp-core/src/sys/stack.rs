//! A word about a stack overflow, which would otherwise end a child as a bare SIGSEGV.
//!
//! std installs such a handler before `main`, which a child never reaches; this one stands in for
//! it on the thread that runs the function. Running off the end of the stack is told from other
//! faults by the distance between the address and the stack pointer: compiled code touches a new
//! frame page by page, so the two are close, and no other address that close is unmapped.

use std::ffi::{c_int, c_void};
use std::mem::{MaybeUninit, size_of_val};
use std::ptr;
use std::sync::OnceLock;

/// What the handler says. It may allocate nothing, so this is ready before.
static MESSAGE: OnceLock<String> = OnceLock::new();

/// How far from the stack pointer an address may be that is part of the frame being made.
const NEAR: usize = 64 << 10;

/// Room for the handler and what the kernel saves for it; processors with wide registers ask for
/// more.
const SIGNAL_STACK: usize = 64 << 10;

/// Installs the handler for the calling thread, if nobody handles SIGSEGV yet.
pub(crate) fn report_overflow(process: &str) {
    if !is_default(libc::SIGSEGV) {
        return;
    }
    let message = format!("\nprocess '{process}' ({}) has overflowed its stack\n", std::process::id());
    if MESSAGE.set(message).is_err() {
        return;
    }
    // SAFETY: getauxval(3) demands nothing; it returns 0 for what the kernel does not say.
    let least = unsafe { libc::getauxval(libc::AT_MINSIGSTKSZ) } as usize;
    // Left uninitialised, so that it costs no memory until it is needed.
    let memory: &'static mut [MaybeUninit<u8>] = Box::leak(Box::new_uninit_slice(SIGNAL_STACK + least));
    let stack = libc::stack_t { ss_sp: memory.as_mut_ptr().cast(), ss_flags: 0, ss_size: size_of_val(memory) };
    // SAFETY: the memory is never freed and used for nothing else.
    let installed = unsafe { libc::sigaltstack(&raw const stack, ptr::null_mut()) };
    if installed != 0 {
        return;
    }
    for signal in [libc::SIGSEGV, libc::SIGBUS] {
        // SAFETY: a struct of integers and an optional function pointer, for which zero is valid.
        let mut action: libc::sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
        action.sa_sigaction = on_fault as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        // SAFETY: `on_fault` has the type that SA_SIGINFO demands and calls only what is safe in a
        // handler. A signal that cannot be handled keeps its default.
        unsafe { libc::sigaction(signal, &raw const action, ptr::null_mut()) };
    }
}

fn is_default(signal: c_int) -> bool {
    // SAFETY: as in `report_overflow`.
    let mut action: libc::sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
    // SAFETY: only asks.
    let asked = unsafe { libc::sigaction(signal, ptr::null(), &raw mut action) };
    asked == 0 && action.sa_sigaction == libc::SIG_DFL
}

extern "C" fn on_fault(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: the kernel passes a valid `info`, and nobody writes to it.
    let info = unsafe { &*info };
    // By kill(2) or raise(3): there is no address, and no instruction that would fault again.
    if info.si_code <= 0 {
        // SAFETY: the default disposition is valid.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
        // SAFETY: raise(3) may be called in a handler. The signal is blocked until this returns.
        unsafe { libc::raise(signal) };
        return;
    }
    // SAFETY: it holds an address for the signals that this handles.
    let address = unsafe { info.si_addr() } as usize;
    // SAFETY: the kernel passes a valid `context`.
    let pointer = stack_pointer(unsafe { &*context.cast::<libc::ucontext_t>() });
    if pointer.is_some_and(|pointer| pointer.abs_diff(address) <= NEAR) {
        if let Some(message) = MESSAGE.get() {
            // SAFETY: write(2) may be called in a handler; the message is initialised memory that
            // lives for ever.
            unsafe { libc::write(libc::STDERR_FILENO, message.as_ptr().cast(), message.len()) };
        }
        // Which signal ends the process is std's choice.
        // SAFETY: abort(3) may be called in a handler.
        unsafe { libc::abort() };
    }
    // Some other fault: take the handler away and let the instruction fault again.
    // SAFETY: the default disposition is valid.
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

/// On other processors an overflow stays a SIGSEGV.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn stack_pointer(_context: &libc::ucontext_t) -> Option<usize> {
    None
}
