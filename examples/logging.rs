//! Children and workers whose lines of log name their process.
//!
//! `cargo run --example logging`
//!
//! `main` never runs in a child, so what it sets up is not there. A function with the attribute
//! `on_start` runs in each.

use std::time::Duration;

use mp_core::{Builder, current, process_fn};
use mp_pool::Pool;
use tracing_subscriber::fmt::format::{Format, Writer};
use tracing_subscriber::fmt::time::FormatTime;

/// Writes the name of the process where the time would be.
struct ProcessName;

impl FormatTime for ProcessName {
    fn format_time(&self, writer: &mut Writer<'_>) -> std::fmt::Result {
        write!(writer, "{:<12}", current().name())
    }
}

#[mp_core::on_start]
fn set_up() {
    let format = Format::default().with_timer(ProcessName).with_target(false);
    tracing_subscriber::fmt().event_format(format).with_ansi(false).init();
}

#[process_fn]
fn check(number: u32) -> bool {
    tracing::info!(number, "checking");
    std::thread::sleep(Duration::from_millis(20));
    number % 3 == 0
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    set_up();
    tracing::info!("starting");
    Builder::new().name("child").spawn(check::call(1))?.join()?;
    let found = Pool::builder().workers(2).name("worker").build()?.map::<check>(2..6)?;
    tracing::info!(found = found.iter().filter(|found| **found).count(), "done");
    Ok(())
}
