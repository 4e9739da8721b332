//! CPython's multiprocessing, by a script that measures itself: it is told how many operations to
//! carry out, and answers how many nanoseconds they took.

use std::io::{self, BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use crate::measure::Run;
use crate::partner::failed;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/peers/peer.py");

/// The script ends when its input does.
struct Script {
    process: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Script {
    fn run(&mut self, operations: u32) -> io::Result<Duration> {
        let input = self.input.as_mut().ok_or(io::ErrorKind::NotConnected)?;
        writeln!(input, "{operations}")?;
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        let nanoseconds = line.trim().parse().map_err(|_| failed(format!("the script says {line:?}")))?;
        Ok(Duration::from_nanos(nanoseconds))
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        self.input = None;
        if let Err(error) = self.process.wait() {
            eprintln!("the script cannot be waited for: {error}");
        }
    }
}

pub(super) fn script(arguments: &[&str]) -> io::Result<Run> {
    script_of(SCRIPT, arguments)
}

pub(super) fn script_of(file: &str, arguments: &[&str]) -> io::Result<Run> {
    let mut process = Command::new("python3")
        .arg(file)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| io::Error::new(error.kind(), format!("python3: {error}")))?;
    let input = process.stdin.take();
    let output = process.stdout.take().ok_or(io::ErrorKind::NotConnected)?;
    let mut script = Script { process, input, output: BufReader::new(output) };
    Ok(Box::new(move |operations| script.run(operations)))
}
