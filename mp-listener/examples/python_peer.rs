//! A program in Rust and a program in Python that work for each other: requests and answers of
//! JSON.
//!
//! `cargo run -p mp-listener --example python_peer --features json`

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use mp_listener::{Address, AuthKey, Listener};
use serde_json::{Value, json};

/// What Python does: it connects, and counts the words of each text that it gets.
const SCRIPT: &str = r#"
import json, sys
from multiprocessing.connection import Client

address, key = sys.argv[1], sys.stdin.buffer.read()
with Client("\0" + address, authkey=key) as connection:
    while True:
        try:
            request = json.loads(connection.recv_bytes())
        except EOFError:
            break
        words = request["text"].split()
        answer = {"words": len(words), "longest": max(words, key=len)}
        connection.send_bytes(json.dumps(answer).encode())
"#;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let key = AuthKey::random()?;
    // The kernel chooses a name that is free.
    let listener = Listener::bind_with_key(Address::Abstract(Vec::new()), &key)?;
    let Address::Abstract(name) = listener.address() else { unreachable!("it was bound to one") };

    let mut python = Command::new("python3");
    python.args(["-c", SCRIPT]).arg(std::str::from_utf8(name)?).stdin(Stdio::piped());
    let mut python = python.spawn()?;
    // Not among the arguments, which everyone can see.
    python.stdin.take().ok_or("it has no standard input")?.write_all(key.as_bytes())?;

    let incoming = listener.accept_timeout(Duration::from_secs(20))?.ok_or("python3 did not connect")?;
    let mut connection = incoming.authenticate()?;
    for text in ["to be or not to be", "multiprocessing"] {
        connection.send_json(&json!({ "text": text }))?;
        let answer: Value = connection.recv_json()?;
        println!("{text:?} has {} words, the longest is {}", answer["words"], answer["longest"]);
    }
    drop(connection);
    python.wait()?;
    Ok(())
}
