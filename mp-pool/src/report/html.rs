//! The report as a page of its own, with a timeline.

use std::fmt::Write;
use std::time::Duration;

use super::{Bar, Report, Short};

/// In pixels, where the window is wide enough: the width of the timeline, the margin beside it, and
/// the height of a row.
const WIDTH: f64 = 1_200.0;
const MARGIN: f64 = 48.0;
const ROW: f64 = 22.0;

/// How many marks the axis has at most.
const MARKS: f64 = 12.0;

const STYLE: &str = "
:root { color-scheme: light dark; --line: #8886; --life: #8882; --bad: #d92626; }
body { font: 14px/1.4 system-ui, sans-serif; margin: 2em; }
pre { font: 12px/1.5 ui-monospace, monospace; overflow-x: auto; }
div { overflow-x: auto; }
svg { width: 100%; min-width: 900px; max-width: 1288px; }
svg text { font: 11px system-ui, sans-serif; fill: currentColor; }
.axis { stroke: var(--line); }
.life { fill: var(--life); }
.now { fill: none; stroke: currentColor; stroke-dasharray: 3 2; opacity: .6; }
.failed { stroke: var(--bad); stroke-width: 1.5; }
.end { stroke: var(--bad); stroke-width: 2.5; fill: none; }
.key span { display: inline-block; margin-right: 1.5em; }
.key i { display: inline-block; width: .9em; height: .9em; margin-right: .4em; vertical-align: -.1em; }
";

impl Report {
    /// Returns the report as an HTML page that needs nothing else: a timeline, with the workers as
    /// rows and the tasks as bars, and below it what [`Display`](std::fmt::Display) writes.
    ///
    /// Tasks that panicked are framed in red, and a red cross is where a worker crashed or was
    /// killed. A bar says what it is when the pointer rests on it. A dashed frame is a task that
    /// still runs.
    pub fn html(&self) -> String {
        let mut page = String::new();
        // Writing to a string does not fail.
        let _ = self.write(&mut page);
        page
    }

    fn write(&self, page: &mut String) -> std::fmt::Result {
        let elapsed = self.elapsed.as_secs_f64().max(1e-9);
        let x = |at: Duration| MARGIN + WIDTH * (at.as_secs_f64() / elapsed).min(1.0);
        let y = |place: usize| ROW * (place as f64 + 1.0);
        let height = y(self.workers.len()) + 4.0;
        let summary = Escaped(&self.summary()).to_string();
        writeln!(page, "<!DOCTYPE html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<title>{summary}</title>")?;
        writeln!(page, "<style>{STYLE}</style>\n<h1>Pool report</h1>\n<p>{summary}</p>\n<p class=\"key\">")?;
        for (id, function) in self.functions.iter().enumerate() {
            let name = Escaped(function.name);
            writeln!(page, "<span><i style=\"background: {}\"></i>{name}</span>", colour(Some(id)))?;
        }
        let width = MARGIN + WIDTH + 40.0;
        writeln!(page, "</p>\n<div><svg viewBox=\"0 0 {width} {height}\" role=\"img\" aria-label=\"timeline\">")?;
        let step = step(elapsed);
        for mark in 0..=(elapsed / step) as u32 {
            let at = Duration::from_secs_f64(step * f64::from(mark));
            let x = x(at);
            writeln!(page, "<path class=\"axis\" d=\"M{x:.1} {ROW}V{height}\"/>")?;
            let label = if mark == 0 { "0".to_owned() } else { Short(at).to_string() };
            writeln!(page, "<text x=\"{x:.1}\" y=\"14\" text-anchor=\"middle\">{label}</text>")?;
        }
        let ended = self.ends.iter().map(|end| (end.place, end.number, end.started, end.ended));
        let alive = self.lives.0.iter().map(|(place, number, started)| (*place, *number, *started, self.elapsed));
        for (place, number, from, to) in ended.chain(alive) {
            rect(page, "life", x(from), x(to), y(place))?;
            writeln!(page, "><title>worker {number}</title></rect>")?;
        }
        let mut last = vec![Duration::ZERO; self.workers.len()];
        for bar in &self.lives.1 {
            let (start, end) = (Duration::from_nanos(bar.start), Duration::from_nanos(bar.end));
            rect(page, if bar.failed > 0 { "failed" } else { "" }, x(start), x(end), y(bar.place))?;
            writeln!(page, " fill=\"{}\"><title>{}</title></rect>", colour(bar.function), self.title(bar))?;
            if let Some(last) = last.get_mut(bar.place) {
                *last = end;
            }
        }
        for (place, worker) in self.workers.iter().enumerate() {
            writeln!(page, "<text x=\"4\" y=\"{:.1}\">{place}</text>", y(place) + 15.0)?;
            if let Some(task) = worker.running {
                rect(page, "now", x(last[place]), x(self.elapsed), y(place))?;
                writeln!(page, "><title>{} runs</title></rect>", Escaped(&task.to_string()))?;
            }
        }
        for end in self.ends.iter().filter(|end| end.failed) {
            let (x, y) = (x(end.ended), y(end.place) + ROW / 2.0);
            write!(page, "<path class=\"end\" d=\"M{:.1} {:.1}l10 10m-10 0l10 -10\">", x - 5.0, y - 5.0)?;
            writeln!(page, "<title>worker {}: {}</title></path>", end.number, Escaped(&end.why()))?;
        }
        writeln!(page, "</svg></div>\n<pre>{}</pre>\n</html>", Escaped(&self.to_string()))
    }

    fn title(&self, bar: &Bar) -> String {
        let name = bar.function.and_then(|id| self.functions.get(id)).map_or("several functions", |it| it.name);
        let (start, took) = (Duration::from_nanos(bar.start), Duration::from_nanos(bar.end.saturating_sub(bar.start)));
        let which = match bar.calls {
            1 => format!("{name}[{}]", bar.index),
            calls => format!("{calls} tasks of {name}"),
        };
        let failed = if bar.failed > 0 { format!(", {} failed", bar.failed) } else { String::new() };
        Escaped(&format!("{which}: {} at {}{failed}", Short(took), Short(start))).to_string()
    }
}

/// Writes a rectangle without its end, at least a third of a pixel wide.
fn rect(page: &mut String, class: &str, from: f64, to: f64, y: f64) -> std::fmt::Result {
    let (width, height) = ((to - from).max(0.3), ROW - 4.0);
    write!(
        page,
        "<rect class=\"{class}\" x=\"{from:.1}\" y=\"{:.1}\" width=\"{width:.1}\" height=\"{height}\"",
        y + 2.0
    )
}

/// The time between two marks of the axis: 1, 2 or 5 of a power of ten.
fn step(elapsed: f64) -> f64 {
    let least = elapsed / MARKS;
    let power = 10f64.powf(least.log10().floor());
    [1.0, 2.0, 5.0].map(|factor| factor * power).into_iter().find(|step| *step >= least).unwrap_or(10.0 * power)
}

fn colour(function: Option<usize>) -> String {
    // By the golden angle, so that colours that follow each other are far apart.
    function.map_or("#888".to_owned(), |id| format!("hsl({:.0} 60% 55%)", (210.0 + 137.5 * id as f64) % 360.0))
}

/// Text in HTML.
struct Escaped<'a>(&'a str);

impl std::fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.chars().try_for_each(|character| match character {
            '<' => f.write_str("&lt;"),
            '>' => f.write_str("&gt;"),
            '&' => f.write_str("&amp;"),
            '"' => f.write_str("&quot;"),
            _ => f.write_char(character),
        })
    }
}
