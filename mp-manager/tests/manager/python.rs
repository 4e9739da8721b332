//! Objects that programs in Python use, by the client in the directory of the examples.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use mp_manager::{List, Manager};
use mp_testing::scenario;
use serde::{Deserialize, Serialize};

const KEY: &str = "a key for Python";

#[derive(Serialize, Deserialize, Clone)]
pub(crate) struct Entry {
    name: String,
    scores: Vec<f64>,
}

#[derive(Default)]
pub(crate) struct Table {
    entries: BTreeMap<String, Entry>,
    calls: u64,
}

#[mp_manager::shared(json)]
impl Table {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn add(&mut self, entry: Entry, by: Option<f64>) -> usize {
        let kept = self.entries.entry(entry.name.clone()).or_insert(entry);
        kept.scores.extend(by);
        kept.scores.len()
    }

    pub(crate) fn best(&self) -> Option<Entry> {
        self.entries.values().max_by(|a, b| a.scores.len().cmp(&b.scores.len())).cloned()
    }

    pub(crate) fn call(&mut self) -> u64 {
        self.calls += 1;
        self.calls
    }

    pub(crate) fn fail(&self) {
        panic!("as it was told");
    }
}

fn python_is_there() -> bool {
    let found = Command::new("python3").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    let is_there = found.is_ok_and(|status| status.success());
    if !is_there {
        eprintln!("left out: there is no python3");
    }
    is_there
}

fn client(socket: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new("python3");
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/client.py")).arg(socket).args(arguments);
    command.env("MP_KEY", KEY).env("PYTHONDONTWRITEBYTECODE", "1");
    command
}

fn text(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    (text(&output.stdout), text(&output.stderr))
}

scenario!(a_program_in_python_calls_methods_with_json, {
    if !python_is_there() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("socket");
    let manager = Manager::spawn().unwrap();
    let table = TableProxy::new(&manager).unwrap();
    manager.publish("table", &table).unwrap();
    manager.publish("list", &List::<u64>::new(&manager).unwrap()).unwrap();
    manager.listen(socket.as_path(), KEY.as_bytes()).unwrap();
    let run = |arguments: &[&str]| text(&client(&socket, arguments).output().unwrap());

    assert_eq!(run(&["table", "best"]).0, "null");
    assert_eq!(run(&["table", "add", r#"{"name": "ada", "scores": [1.5]}"#, "2.5"]), ("2".to_owned(), String::new()));
    assert_eq!(run(&["table", "best"]).0, r#"{"name": "ada", "scores": [1.5, 2.5]}"#);
    assert_eq!(table.best().unwrap().unwrap().scores, [1.5, 2.5]);
    for (arguments, expected) in [
        (&["table", "nothing"][..], "`table` has only the methods add, best, call, fail"),
        (&["nothing", "best"], "the server has no such object"),
        (&["list", "pop"], "which has no `#[shared(json)]`"),
        (&["table", "add", "7", "8"], "the arguments: invalid type: integer `7`"),
        (&["table", "call", "1"], "the arguments:"),
        (&["table", "fail"], "as it was told"),
    ] {
        let (value, error) = run(arguments);
        assert!(value.is_empty() && error.contains(expected), "{arguments:?}: {error}");
    }

    // Every call is atomic, whoever makes it.
    let pythons: Vec<_> = (0..6).map(|_| client(&socket, &["table", "call"]).stdout(Stdio::null()).spawn()).collect();
    (0..100).for_each(|_| assert!(table.call().unwrap() > 0));
    pythons.into_iter().for_each(|python| assert!(python.unwrap().wait().unwrap().success()));
    assert_eq!(table.call().unwrap(), 107);
    let (_, error) = text(&client(&socket, &["table", "best"]).env("MP_KEY", "another").output().unwrap());
    assert!(error.contains("AuthenticationError"), "{error}");
});
