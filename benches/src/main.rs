//! `mp-bench [--quick] [--json FILE] [--list] [FILTER]...`: see README.md.

use std::process::ExitCode;

use mp_bench::measure::Scale;
use mp_bench::{report, rows};

/// What the command line asks for.
#[derive(Default)]
struct Arguments {
    quick: bool,
    list: bool,
    json: Option<String>,
    filters: Vec<String>,
}

impl Arguments {
    fn parse() -> Result<Self, String> {
        let mut arguments = Self::default();
        let mut given = std::env::args().skip(1);
        while let Some(argument) = given.next() {
            match argument.as_str() {
                "--quick" => arguments.quick = true,
                "--list" => arguments.list = true,
                "--json" => arguments.json = Some(given.next().ok_or("--json needs the name of a file")?),
                option if option.starts_with('-') => return Err(format!("there is no option {option}")),
                _ => arguments.filters.push(argument),
            }
        }
        Ok(arguments)
    }

    /// A row is wanted if its name begins with one of the filters, or if there are none.
    fn wants(&self, name: &str) -> bool {
        self.filters.is_empty() || self.filters.iter().any(|filter| name.starts_with(filter.as_str()))
    }
}

fn main() -> ExitCode {
    // Started by the row that measures how long this takes.
    if std::env::args_os().nth(1).is_some_and(|argument| argument == rows::EXIT) {
        return ExitCode::SUCCESS;
    }
    mp_bench::init();
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("mp-bench: {why}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), String> {
    let arguments = Arguments::parse()?;
    let rows: Vec<_> = rows::all().into_iter().filter(|row| arguments.wants(&row.name)).collect();
    if rows.is_empty() {
        return Err(format!("no row begins with {}", arguments.filters.join(" or ")));
    }
    if arguments.list {
        rows.iter().for_each(|row| println!("{}", row.name));
        return Ok(());
    }
    if cfg!(debug_assertions) {
        eprintln!("mp-bench: this is a build for debugging; its figures say nothing");
    }
    report::print_head();
    let mut lines = Vec::new();
    for row in rows {
        let samples =
            row.measure(Scale { quick: arguments.quick }).map_err(|error| format!("{}: {error}", row.name))?;
        if samples.is_empty() {
            println!("{:<26} left out: it takes more time or memory than there is", row.name);
        }
        let of_row = report::lines(&row.name, &samples);
        of_row.iter().for_each(report::print);
        lines.extend(of_row);
    }
    if let Some(path) = arguments.json {
        let text = serde_json::to_string_pretty(&lines).map_err(|error| error.to_string())?;
        std::fs::write(&path, text).map_err(|error| format!("{path}: {error}"))?;
    }
    // Without a peer the rest still says something; a limit is always there.
    match lines.iter().find(|line| line.role == "limit" && line.not_measured.is_some()) {
        Some(line) => Err(format!("{}: something that always works did not", line.row)),
        None => Ok(()),
    }
}
