//! Cuts a backtrace down to the frames of the function that panicked and its callers in the child's
//! function.
//!
//! std gives a backtrace as text only, with the innermost frame first. The frames to keep are
//! between two functions of known names, as in what std itself prints. The frames before the first
//! one are those of the panic hook, and the frames after the second one are those of the child's
//! boot. If the executable has no symbols, neither is found and every frame is kept.

use std::fmt::Write;

/// The last function of std between a panic and its hook.
const END: &str = "__rust_end_short_backtrace";

/// The name of the functions, std's and ours, that call the function of a thread or a child.
const BEGIN: &str = "__rust_begin_short_backtrace";

/// Functions between the one that panicked and the panic hook.
const MACHINERY: [&str; 3] = ["rust_begin_unwind", "core::panicking::", "std::panicking::"];

/// Runs a function whose backtrace begins here.
///
/// std's own panic hook looks for this name. It prints the backtraces of functions that run outside
/// of children.
#[inline(never)]
pub(crate) fn __rust_begin_short_backtrace<R>(function: impl FnOnce() -> R) -> R {
    let result = function();
    // This prevents a tail call, which would remove this function from the stack.
    std::hint::black_box(());
    result
}

/// Tells whether the environment asks for all frames.
pub(super) fn all_are_wanted() -> bool {
    ["RUST_LIB_BACKTRACE", "RUST_BACKTRACE"]
        .iter()
        .any(|name| std::env::var_os(name).is_some_and(|value| value == "full"))
}

/// Cuts the text of a backtrace down to the frames to keep, and numbers them from 0.
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
    /// The lines that give its place.
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
