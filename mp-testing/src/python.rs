//! The Pythons of this machine, as peers.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};

/// Set where a machine without Python is an error: in continuous integration.
const REQUIRED: &str = "MP_TEST_REQUIRE_PYTHON";

/// Returns the `python3` of the path and those that pyenv has installed, one for each version from
/// 3.8 on: before that, long messages had another form.
///
/// Without any, the result is empty and a message says that the test is skipped; if
/// `MP_TEST_REQUIRE_PYTHON` is set, the test fails.
pub fn all() -> Vec<PathBuf> {
    let mut candidates = vec![PathBuf::from("python3")];
    if let Some(home) = std::env::var_os("HOME") {
        let versions = fs::read_dir(PathBuf::from(home).join(".pyenv/versions")).into_iter().flatten().flatten();
        candidates.extend(versions.map(|version| version.path().join("bin/python3")));
    }
    let mut versions = BTreeSet::new();
    // Behind a shim stands the real one, to be started without it from now on.
    let found = candidates.iter().filter_map(|candidate| {
        let script = "import sys, multiprocessing.connection\nassert sys.version_info >= (3, 8)\nprint(sys.version)\nprint(sys.executable)";
        let output = Command::new(candidate).args(["-c", script]).stderr(Stdio::null()).output().ok()?;
        let text = String::from_utf8(output.stdout).ok().filter(|_| output.status.success())?;
        let executable = text.lines().last()?.to_owned();
        versions.insert(text.lines().next()?.to_owned()).then(|| PathBuf::from(executable))
    });
    let found: Vec<_> = found.collect();
    assert!(!found.is_empty() || std::env::var_os(REQUIRED).is_none(), "there is no python3, and {REQUIRED} is set");
    if found.is_empty() {
        eprintln!("SKIPPED: there is no python3 to test with");
    }
    found
}

/// A running Python program.
pub struct Program {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Program {
    /// Starts `script`, whose arguments are in `sys.argv[1:]`.
    pub fn start(python: &PathBuf, script: &str, arguments: &[&str]) -> Self {
        let mut command = Command::new(python);
        command.args(["-c", script]).args(arguments).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Self { child, output }
    }

    /// Returns the next line that it prints; empty at the end.
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// Waits until it ends.
    pub fn wait(mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // After a failed assertion it may wait for something that will not come.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
