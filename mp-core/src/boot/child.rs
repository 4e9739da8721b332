//! The life of a child, from the marker to its exit.

use std::ffi::{CStr, CString};
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::exit;

use super::{CALL_INIT, Constructor, Report, Start, marker};
use crate::call::EncodedCall;
use crate::codec::EncodeError;
use crate::connection::{Connection, RecvError, SendErrorReason, Sender, leave_buffer};
use crate::error::error_chain;
use crate::outcome::Outcome;
use crate::resource::Resource;
use crate::sys::fork::{Replaceable, forks};
use crate::sys::{lifeline, limits, runtime, stack};
use crate::{codec, current, panic, registry, trace};

/// The exit code of a child whose function did not return a value: that of a Python process after
/// an exception.
const FAILED: i32 = 1;

/// The exit code of a process whose marker is not from its parent, or whose `main` ran although it
/// has a valid one.
pub(crate) const REFUSED: i32 = 125;

/// The child's end of the control socket, which only this process may use.
struct Reporter {
    control: Sender<Report>,
    forks: u32,
}

static REPORTER: Replaceable<Reporter> = Replaceable::new();

/// How this process came to be.
enum Origin {
    /// It was executed, and has run the constructors up to ours.
    Executed(Option<Constructor>),
    /// It is a copy of a fork server, and makes these calls first.
    Forked(Vec<EncodedCall>),
}

/// Returns if this process is not a child.
pub(super) fn run_if_marked(constructor: Option<Constructor>) {
    if !marker::is_set() {
        return;
    }
    // A panic must not unwind into the C library. A panic that gets here has been printed by the
    // panic hook.
    let _ = catch_unwind(AssertUnwindSafe(|| run(constructor)));
    exit(FAILED);
}

/// Returns if this process was not started as a child. Otherwise its `main` is running where the
/// function should: this reports the error to the parent and ends the process.
pub(super) fn end_if_marked() {
    if marker::is_set() {
        if let Ok(control) = marker::take() {
            let report = Report::NotStarted(format!("its `main` ran instead of the function: {CALL_INIT}"));
            // Sending fails if the parent has died. Nothing else ends this process then, because
            // its lifeline is not tied.
            let _ = Sender::from_fd(control).send(report);
            exit(REFUSED);
        }
    }
}

fn run(constructor: Option<Constructor>) {
    let control = match marker::take() {
        Ok(control) => Connection::<Report, Start>::from_fd(control),
        Err(why) => refuse(&why),
    };
    runtime::ignore_sigpipe();
    if let Err(error) = runtime::open_standard_streams() {
        not_started(&control.split().0, format!("its standard streams could not be opened: {error}"));
    }
    let start = match control.recv() {
        Ok(start) => start,
        // The parent died or gave up before it sent the start message.
        Err(RecvError::Disconnected) => exit(FAILED),
        Err(error) => {
            let why = format!("its start message could not be read: {}", error_chain(&error));
            not_started(&control.split().0, why)
        }
    };
    live(control.split().0, start, Origin::Executed(constructor));
}

/// The life of a copy of a fork server, from when its parent knows of it to its exit. It makes the
/// calls of `hooks` before its own.
pub(crate) fn run_forked(control: Sender<Report>, start: Start, hooks: Vec<EncodedCall>) -> ! {
    live(control, start, Origin::Forked(hooks))
}

/// The descriptors by which a child is tied to its parent.
pub(crate) fn own_descriptors() -> Vec<RawFd> {
    let control = REPORTER.get().map(|reporter| reporter.control.as_fd());
    control.into_iter().chain(lifeline::of_parent()).map(|fd| fd.as_raw_fd()).collect()
}

fn live(control: Sender<Report>, start: Start, origin: Origin) -> ! {
    let control = &REPORTER.set(Reporter { control, forks: forks() }).control;
    // Before the lifeline is tied, because the kernel asks who tied it when it is to send a signal.
    if let Err(why) = start.own.apply() {
        not_started(control, why);
    }
    let is_tied = !start.outlive_parent;
    let tied = if is_tied { lifeline::tie(start.lifeline.as_fd()) } else { Ok(true) };
    let kept = tied.and_then(|lives| if lives { start.lifeline.into_owned() } else { exit(FAILED) });
    match kept.and_then(|pipe| lifeline::keep(pipe, is_tied)) {
        Ok(()) => {}
        Err(error) => not_started(control, format!("it could not be tied to its parent's life: {error}")),
    }
    if let Some((soft, hard)) = start.stack {
        if let Err(error) = limits::set_resource(None, Resource::StackSize, soft, hard) {
            not_started(control, format!("its stack could not be limited: {error}"));
        }
    }
    codec::set_message_limit(start.message_limit);
    if let (Some(program), Origin::Executed(Some(constructor))) = (start.program, &origin) {
        restore_program(program, *constructor);
    }
    let current = start.identity.assume();
    if let Ok(name) = CString::new(current.name()) {
        runtime::set_name(&name);
    }
    stack::report_overflow(current.name());
    let begun = match origin {
        Origin::Executed(constructor) => {
            panic::install_hook(|outcome| {
                report(outcome);
            });
            if let Some(constructor) = constructor {
                (constructor.run_remaining)(constructor);
            }
            registry::run_start_hooks()
        }
        Origin::Forked(hooks) => hooks.into_iter().try_for_each(|hook| match hook.run() {
            Outcome::Returned(_) => Ok(()),
            outcome => Err(outcome),
        }),
    };
    if let Err(outcome) = begun {
        exit(report(outcome));
    }
    trace::begins(current.name(), start.call.function());
    let code = report(start.call.run());
    trace::exits(current.name(), code);
    leave_buffer();
    // If the function has forked, the copy comes here as well. It exits as the original does, so
    // that the original learns from the code whether it succeeded.
    exit(code);
}

fn refuse(why: &str) -> ! {
    // A closed stderr must not change the exit code.
    let _ = writeln!(io::stderr(), "mp-core: {} is set, but this process is not a child: {why}", marker::MARKER);
    exit(REFUSED);
}

/// Puts the parent's first argument back in place of the title, before any code reads the
/// arguments.
fn restore_program(program: Vec<u8>, constructor: Constructor) {
    let Ok(program) = CString::new(program) else { return };
    // The C library keeps the pointer for the life of the process.
    let program: &'static CStr = Box::leak(program.into_boxed_c_str());
    // SAFETY: these are the arguments that the C library passed to our constructor. `main` has not
    // begun. Other code could read the arguments at the same time only on a thread that a library's
    // constructor started.
    unsafe { runtime::replace_first_argument(constructor.count, constructor.arguments, program) };
}

/// Sends the outcome to the parent and returns the code to exit with. A copy that the function made
/// by `fork` sends nothing: the parent waits for the process that it started.
fn report(mut outcome: Outcome) -> i32 {
    if let Outcome::Panicked(panic) = &mut outcome {
        // The parent knows it, and it may be too long for a message.
        panic.process.clear();
    }
    let code = if matches!(outcome, Outcome::Returned(_)) { 0 } else { FAILED };
    let Some(Reporter { control, .. }) = REPORTER.get().filter(|reporter| reporter.forks == forks()) else {
        return code;
    };
    match control.send(Report::Outcome(outcome)).map_err(|error| error.reason) {
        Ok(()) => code,
        // The parent died or dropped its `Process`, so it does not need the outcome.
        Err(SendErrorReason::Disconnected) => code,
        Err(error) => {
            let error = EncodeError::new(error_chain(&error));
            if let Err(error) = control.send(Report::Outcome(Outcome::UnencodableResult(error))) {
                // The function may have closed the descriptor, as helpers for daemons do.
                let (name, why) = (current::name(), error_chain(&error.reason));
                let _ = writeln!(io::stderr(), "process '{name}' cannot send its result to its parent: {why}");
            }
            FAILED
        }
    }
}

fn not_started(control: &Sender<Report>, why: String) -> ! {
    let _ = control.send(Report::NotStarted(why));
    exit(FAILED);
}
