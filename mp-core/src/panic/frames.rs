//! Which frames of a backtrace are of interest: those of the function, without the machinery around
//! them.
//!
//! A backtrace is text, frame after frame from the inside out; std offers nothing else. Between two
//! functions of known names stand the frames to keep, as in what std itself prints: above the one
//! that every panic goes through is the hook, and below the one that calls the function is the boot
//! of the child. Where symbols are missing, neither is found and everything is kept.

use std::fmt::Write;

/// The last function of std's on the way from the panic to its hook.
const END: &str = "__rust_end_short_backtrace";

/// The functions that call what a thread is there for: std's and ours.
const BEGIN: &str = "__rust_begin_short_backtrace";

/// What brings a panic to its hook; it stands next to the function that panicked.
const MACHINERY: [&str; 3] = ["rust_begin_unwind", "core::panicking::", "std::panicking::"];

/// Runs a function whose frames, and those of what it calls, are the interesting ones.
///
/// Its name is what std's own hook looks for, which also prints backtraces of functions that run
/// under our care, outside children.
#[inline(never)]
pub(crate) fn __rust_begin_short_backtrace<R>(function: impl FnOnce() -> R) -> R {
    let result = function();
    // Something is left to do, so that the call above cannot take the place of this one on the
    // stack.
    std::hint::black_box(());
    result
}

/// Tells whether the environment asks for every frame.
pub(super) fn all_are_wanted() -> bool {
    ["RUST_LIB_BACKTRACE", "RUST_BACKTRACE"]
        .iter()
        .any(|name| std::env::var_os(name).is_some_and(|value| value == "full"))
}

/// Cuts the text of a backtrace down to the frames of interest, numbered anew.
pub(super) fn short(backtrace: &str) -> String {
    let mut frames = split(backtrace);
    if let Some(end) = frames.iter().position(|frame| frame.calls.contains(END)) {
        frames.drain(..=end);
        let machinery =
            frames.iter().take_while(|frame| MACHINERY.iter().any(|part| frame.calls.contains(part))).count();
        frames.drain(..machinery);
    }
    if let Some(begin) = frames.iter().position(|frame| frame.calls.contains(BEGIN)) {
        frames.truncate(begin);
    }
    let mut text = String::new();
    for (number, frame) in frames.iter().enumerate() {
        // Writing to a `String` does not fail.
        let _ = writeln!(text, "{number:>4}: {}", frame.calls);
        for line in &frame.more {
            let _ = writeln!(text, "{line}");
        }
    }
    text
}

struct Frame<'a> {
    /// The function.
    calls: &'a str,
    /// Its place, as it is printed.
    more: Vec<&'a str>,
}

fn split(backtrace: &str) -> Vec<Frame<'_>> {
    let mut frames: Vec<Frame<'_>> = Vec::new();
    for line in backtrace.lines() {
        match line.trim_start().split_once(": ") {
            Some((number, calls)) if !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()) => {
                frames.push(Frame { calls, more: Vec::new() });
            }
            _ => {
                if let Some(frame) = frames.last_mut() {
                    frame.more.push(line);
                }
            }
        }
    }
    frames
}

#[cfg(test)]
mod tests {
    use super::short;

    const WHOLE: &str = "   0: std::backtrace::Backtrace::create
   1: mp_core::panic::install_hook::{{closure}}
             at ./src/panic.rs:60:25
   2: std::sys::backtrace::__rust_end_short_backtrace
   3: __rustc::rust_begin_unwind
   4: core::panicking::panic_fmt
  10: program::divide
             at ./src/main.rs:7:9
  11: program::panicking::twice
  12: mp_core::panic::frames::__rust_begin_short_backtrace
             at ./src/panic/frames.rs:25:18
  13: mp_core::boot::child::run
";

    #[test]
    fn the_frames_of_the_function_are_left() {
        let expected = "   0: program::divide\n             at ./src/main.rs:7:9\n   1: program::panicking::twice\n";
        assert_eq!(short(WHOLE), expected);
    }

    #[test]
    fn without_the_names_that_are_known_everything_is_left() {
        let stripped = "   0: <unknown>\n   1: <unknown>\n";
        assert_eq!(short(stripped), stripped);
        assert_eq!(short(""), "");
    }
}
