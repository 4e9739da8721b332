//! With the feature `tracing`: what becomes of processes is told as events.
#![cfg(feature = "tracing")]

use std::fmt::Debug;
use std::sync::Mutex;

use mp_core::{Builder, ExitStatus, Stdio, process_fn};
use mp_testing::{eventually, nothing, run_for_ever, scenario};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

static EVENTS: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Writes events down, one a line.
struct Scribe;

impl Subscriber for Scribe {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "mp_core::process"
    }

    fn event(&self, event: &Event<'_>) {
        let mut line = Line(String::new());
        event.record(&mut line);
        // A listener may well ask after the processes that it hears of.
        let _ = mp_core::active_children();
        EVENTS.lock().unwrap().push(line.0);
    }

    fn new_span(&self, _span: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _span: &Id, _values: &Record<'_>) {}

    fn record_follows_from(&self, _span: &Id, _follows: &Id) {}

    fn enter(&self, _span: &Id) {}

    fn exit(&self, _span: &Id) {}
}

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0 += &format!("{}={value:?} ", field.name());
    }
}

fn heard(parts: &[&str]) -> usize {
    let events = EVENTS.lock().unwrap();
    events.iter().filter(|event| parts.iter().all(|part| event.contains(part))).count()
}

#[process_fn]
fn listen_and_start_one() -> Vec<String> {
    tracing::subscriber::set_global_default(Scribe).unwrap();
    nothing::spawn().unwrap().join().unwrap();
    EVENTS.lock().unwrap().clone()
}

scenario!(starts_signals_and_ends_are_told, {
    tracing::subscriber::set_global_default(Scribe).unwrap();
    let process = Builder::new().name("victim").spawn(run_for_ever::call()).unwrap();
    let pid = format!("pid={} ", process.pid());
    assert_eq!(heard(&["process started", "victim", &pid, "run_for_ever"]), 1);
    process.kill().unwrap();
    assert_eq!(heard(&["signal sent", "victim", &pid, "signal=9"]), 1);
    eventually("it has ended", || process.exit_status().is_some());
    assert_eq!(process.exit_status(), Some(ExitStatus::Signal { signal: 9, core_dumped: false }));
    process.join().unwrap_err();
    assert_eq!(heard(&["process ended", "victim", &pid, "SIGKILL"]), 1);

    let refused = Builder::new().name("victim").current_dir("/nowhere").stderr(Stdio::null()).spawn(nothing::call());
    refused.unwrap_err();
    assert_eq!(heard(&["process not started", "victim", "nothing", "directory"]), 1);

    // One that was let go of is told of when it is reaped.
    Builder::new().name("forgotten").spawn(nothing::call()).unwrap().detach();
    eventually("it was reaped", || {
        nothing::spawn().unwrap().join().unwrap();
        heard(&["process ended", "forgotten", "exit code 0"]) == 1
    });

    let below = listen_and_start_one::spawn().unwrap().join().unwrap();
    assert_eq!(below.iter().filter(|event| event.contains("process started")).count(), 1, "{below:#?}");
});
