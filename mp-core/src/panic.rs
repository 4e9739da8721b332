//! The message, place and backtrace of a panic.
//!
//! `catch_unwind` returns the payload, which holds only the message. Only the panic hook knows the
//! place and the backtrace, so a child's hook keeps them in a thread-local variable for `describe`.

mod frames;

use std::any::Any;
use std::backtrace::{Backtrace, BacktraceStatus};
use std::cell::Cell;
use std::io::Write;
use std::panic::{self, PanicHookInfo};

use crate::outcome::{Outcome, Panic};
use crate::{current, sys};
pub(crate) use frames::__rust_begin_short_backtrace as call_as_first_frame;

thread_local! {
    /// The last panic of this thread, as the hook saw it.
    static LAST: Cell<Option<Panic>> = const { Cell::new(None) };
}

/// Describes the panic of `function` that `catch_unwind` just caught on this thread.
pub(crate) fn describe(payload: Box<dyn Any + Send>, function: &str) -> Panic {
    let message = message(&*payload);
    // Dropping a payload runs the user's code, which may panic again.
    let dropped = panic::catch_unwind(panic::AssertUnwindSafe(|| drop(payload)));
    if let Err(again) = dropped {
        std::mem::forget(again);
    }
    match LAST.try_with(Cell::take).ok().flatten() {
        // The kept panic may be an older one, which the function itself caught.
        Some(last) if last.message == message => last,
        _ => Panic::new(message, None, None),
    }
    .of(function)
}

fn message(payload: &(dyn Any + Send)) -> String {
    if let Some(text) = payload.downcast_ref::<&'static str>() {
        (*text).to_owned()
    } else if let Some(text) = payload.downcast_ref::<String>() {
        text.clone()
    } else {
        "Box<dyn Any>".to_owned()
    }
}

/// Installs the panic hook of a child. It keeps the panic for `describe` and prints it on stderr
/// with the process's name.
///
/// The previous hook prints those of other threads. If panics abort the process, it calls `abort`
/// with the outcome of the first thread, because nothing can run after the hook.
pub(crate) fn install_hook(abort: fn(Outcome)) {
    let previous = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        let backtrace = Backtrace::capture();
        let full = frames::all_are_wanted();
        let panic = remember(info, &backtrace, full);
        if sys::runtime::is_main_thread() {
            report(&panic, &backtrace, full);
            if cfg!(panic = "abort") {
                abort(Outcome::Panicked(panic.clone()));
            }
        } else {
            previous(info);
        }
        // The thread may be ending, and the variable be gone.
        let _ = LAST.try_with(|last| last.set(Some(panic)));
    }));
}

fn remember(info: &PanicHookInfo<'_>, backtrace: &Backtrace, full: bool) -> Panic {
    let text = (backtrace.status() == BacktraceStatus::Captured)
        .then(|| if full { format!("{backtrace:#}") } else { frames::short(&backtrace.to_string()) });
    Panic::new(message(info.payload()), info.location().map(ToString::to_string), text)
}

fn report(panic: &Panic, backtrace: &Backtrace, full: bool) {
    let location = panic.location.as_deref().unwrap_or("an unknown place");
    let name = current::name();
    let pid = std::process::id();
    let mut text = format!("\nprocess '{name}' ({pid}) panicked at {location}:\n{}\n", panic.message);
    match (&panic.backtrace, backtrace.status()) {
        (Some(backtrace), _) => {
            text.push_str(&format!("stack backtrace:\n{backtrace}"));
            if !full {
                text.push_str("note: some frames are left out, run with `RUST_BACKTRACE=full` to see them all\n");
            }
        }
        (None, BacktraceStatus::Disabled) => {
            text.push_str("note: run with `RUST_BACKTRACE=1` environment variable to display a backtrace\n");
        }
        (None, _) => {}
    }
    // A closed stderr must not turn one panic into two.
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
}
