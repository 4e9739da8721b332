//! Redis, over a unix socket: what people take instead of a manager. It has to be installed.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::manager::{Access, KEYS};
use crate::measure::{Contender, Role, Run};
use crate::partner::failed;

/// A server with nothing on disk. It ends with this value.
struct Server {
    process: Child,
    directory: PathBuf,
}

impl Server {
    fn start() -> io::Result<(Self, UnixStream)> {
        let directory = std::env::temp_dir().join(format!("mp-bench-redis-{}", std::process::id()));
        std::fs::create_dir_all(&directory)?;
        let socket = directory.join("socket");
        let process = Command::new("redis-server")
            .args(["--port", "0", "--save", "", "--appendonly", "no", "--unixsocket"])
            .arg(&socket)
            .current_dir(&directory)
            .stdout(Stdio::null())
            .spawn();
        let process = process.inspect_err(|_| remove(&directory));
        let process = process.map_err(|error| io::Error::new(error.kind(), format!("redis-server: {error}")))?;
        let server = Self { process, directory };
        for _ in 0..500 {
            match UnixStream::connect(&socket) {
                Ok(stream) => return Ok((server, stream)),
                Err(_) => sleep(Duration::from_millis(10)),
            }
        }
        Err(failed("redis-server does not listen"))
    }
}

fn remove(directory: &Path) {
    if let Err(error) = std::fs::remove_dir_all(directory) {
        eprintln!("{}: {error}", directory.display());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Err(error) = self.process.kill().and_then(|()| self.process.wait()) {
            eprintln!("redis-server cannot be ended: {error}");
        }
        remove(&self.directory);
    }
}

/// Sends one command, and reads its answer.
fn ask(stream: &mut BufReader<UnixStream>, parts: &[&str]) -> io::Result<()> {
    let mut command = format!("*{}\r\n", parts.len());
    for part in parts {
        command += &format!("${}\r\n{part}\r\n", part.len());
    }
    stream.get_mut().write_all(command.as_bytes())?;
    let mut line = String::new();
    stream.read_line(&mut line)?;
    match line.strip_prefix('$').map(|length| length.trim().parse::<usize>()) {
        Some(Ok(length)) => stream.read_exact(&mut vec![0; length + 2]),
        // No value is a negative length.
        Some(Err(_)) => Ok(()),
        None if line.starts_with('-') => Err(failed(line.trim())),
        None => Ok(()),
    }
}

fn run(access: Access) -> io::Result<Run> {
    let (server, stream) = Server::start()?;
    let mut stream = BufReader::new(stream);
    for key in 0..KEYS {
        ask(&mut stream, &["SET", &key.to_string(), &key.to_string()])?;
    }
    Ok(Box::new(move |operations| {
        let _server = &server;
        let start = Instant::now();
        for number in 0..u64::from(operations) {
            let (key, value) = ((number % KEYS).to_string(), number.to_string());
            match access {
                Access::Get => ask(&mut stream, &["GET", &key])?,
                // With the value from before, as our `insert` returns it.
                Access::Insert => ask(&mut stream, &["SET", &key, &value, "GET"])?,
            }
        }
        Ok(start.elapsed())
    }))
}

pub(super) fn contender(access: Access) -> Contender {
    Contender::new(Role::Peer, "Redis, over a unix socket", run(access))
}
