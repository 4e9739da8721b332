//! Python's `multiprocessing.connection` at the other end, each version of it that is here, in
//! either direction.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use mp_listener::{Address, AuthenticationError, ByteConnection, Client, ConnectError, Listener, RecvError};
use mp_testing::python::{self, Program};
use mp_testing::scenario;
use serde_json::{Value, json};

/// There are many Pythons to start, one after another.
const PATIENT: Duration = Duration::from_secs(240);

const KEY: &[u8] = b"a key of \xff\x00 any bytes";

/// What Python's own handshake is from this version on; before it is HMAC-MD5.
fn is_modern(python: &PathBuf) -> bool {
    let mut program = Program::start(python, "import sys; print(sys.version_info >= (3, 12))", &[]);
    program.line() == "True"
}

/// `listen` or `connect`, kind of address, address, key in hexadecimal. It answers messages until
/// an empty one comes.
const PEER: &str = r#"
import json, sys
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client, Listener

role, kind, name, key = sys.argv[1:]
key = bytes.fromhex(key) or None
address = {"unix": lambda: name, "abstract": lambda: "\0" + name, "tcp": lambda: ("127.0.0.1", int(name))}[kind]()
try:
    if role == "listen":
        with Listener(address, authkey=key) as listener:
            print(listener.address[1] if kind == "tcp" else "ready", flush=True)
            connection = listener.accept()
    else:
        connection = Client(address, authkey=key)
except AuthenticationError as error:
    print("AuthenticationError", flush=True)
    sys.exit(0)

while True:
    message = connection.recv_bytes()
    if message == b"end":
        break
    if message[:1] == b"{":
        value = json.loads(message)
        connection.send_bytes(json.dumps({"python": value, "keys": sorted(value)}).encode())
    else:
        connection.send_bytes(message[::-1])
connection.close()
print("done", flush=True)
"#;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The kind and the name of an address, as the script takes them.
fn arguments(address: &Address) -> [String; 2] {
    match address {
        Address::Unix(path) => ["unix".to_owned(), path.to_str().unwrap().to_owned()],
        Address::Abstract(name) => ["abstract".to_owned(), String::from_utf8(name.clone()).unwrap()],
        Address::Tcp(address) => ["tcp".to_owned(), address.port().to_string()],
        other => panic!("{other}"),
    }
}

fn start(python: &PathBuf, role: &str, address: &Address, key: &[u8]) -> Program {
    let [kind, name] = arguments(address);
    Program::start(python, PEER, &[role, &kind, &name, &hex(key)])
}

/// One of each kind, and its key, once none; the file is in `folder`.
fn addresses(folder: &tempfile::TempDir) -> [(Address, &'static [u8]); 4] {
    let name = format!("mp-core-test-{}", std::process::id());
    [
        (Address::Unix(folder.path().join("socket")), KEY),
        (Address::Abstract(name.into_bytes()), KEY),
        (Address::Tcp(([127, 0, 0, 1], 0).into()), KEY),
        (Address::Tcp(([127, 0, 0, 1], 0).into()), b""),
    ]
}

fn accept(listener: &Listener) -> ByteConnection {
    listener.accept().unwrap().authenticate().unwrap()
}

/// Bytes and JSON to Python and back.
fn talk(mut connection: ByteConnection) {
    for length in [0, 1, 16_384, 16_385, 70_000, 3 << 20] {
        let message: Vec<u8> = (0..length).map(|at| (at * 31 % 251) as u8).collect();
        connection.send_bytes(&message).unwrap();
        let mut answer = connection.recv_bytes().unwrap();
        answer.reverse();
        assert!(answer == message, "{length} bytes");
    }
    let value = json!({ "text": "Grüße", "list": [1, -2.5, null, true], "object": { "a": {} } });
    connection.send_json(&value).unwrap();
    let answer: Value = connection.recv_json().unwrap();
    assert_eq!(answer, json!({ "python": value, "keys": ["list", "object", "text"] }));
    connection.send_bytes(b"end").unwrap();
    assert!(matches!(connection.recv_bytes(), Err(RecvError::Disconnected)));
}

scenario!(python_connects_and_talks, PATIENT, {
    for python in python::all() {
        let folder = tempfile::tempdir().unwrap();
        for (address, key) in addresses(&folder) {
            let builder = Listener::builder();
            let builder = if key.is_empty() { builder } else { builder.key(key) };
            let listener = builder.bind(&address).unwrap();
            let mut peer = start(&python, "connect", listener.address(), key);
            talk(accept(&listener));
            assert_eq!(peer.line(), "done", "{}", python.display());
            assert!(peer.wait().success());
        }
    }
});

scenario!(python_listens_and_talks, PATIENT, {
    for python in python::all() {
        let folder = tempfile::tempdir().unwrap();
        for (address, key) in addresses(&folder) {
            let mut peer = start(&python, "listen", &address, key);
            let ready = peer.line();
            let address = match &address {
                Address::Tcp(_) => Address::from(("127.0.0.1", ready.parse().unwrap())),
                other => other.clone(),
            };
            let client = Client::builder();
            let client = if key.is_empty() { client } else { client.key(key) };
            talk(client.connect(address).unwrap());
            assert_eq!(peer.line(), "done", "{}", python.display());
            assert!(peer.wait().success());
        }
    }
});

scenario!(a_wrong_key_is_an_authentication_error_on_both_sides, PATIENT, {
    for python in python::all() {
        let folder = tempfile::tempdir().unwrap();
        let address = Address::Unix(folder.path().join("socket"));

        let mut peer = start(&python, "listen", &address, KEY);
        assert_eq!(peer.line(), "ready");
        let error = Client::connect_with_key(&address, b"wrong").unwrap_err();
        let rejected = matches!(error, ConnectError::Authentication { source: AuthenticationError::Rejected, .. });
        assert!(rejected, "{error:?}");
        assert_eq!(peer.line(), "AuthenticationError");
        assert!(peer.wait().success());

        let listener = Listener::bind_with_key(&address, b"wrong").unwrap();
        let mut peer = start(&python, "connect", &address, KEY);
        let error = listener.accept().unwrap().authenticate().unwrap_err();
        assert!(matches!(error, AuthenticationError::WrongKey), "{error:?}");
        assert_eq!(peer.line(), "AuthenticationError");
        assert!(peer.wait().success());
    }
});

scenario!(the_legacy_digest_can_be_refused, PATIENT, {
    for python in python::all() {
        let modern = is_modern(&python);
        let folder = tempfile::tempdir().unwrap();
        let address = Address::Unix(folder.path().join("socket"));

        let listener = Listener::builder().key(KEY).legacy_digest(false).bind(&address).unwrap();
        let mut peer = start(&python, "connect", &address, KEY);
        match listener.accept().unwrap().authenticate() {
            Ok(connection) => {
                assert!(modern, "{}", python.display());
                talk(connection);
            }
            Err(AuthenticationError::LegacyDigest) => assert!(!modern),
            Err(error) => panic!("{error:?}"),
        }
        assert_eq!(peer.line(), if modern { "done" } else { "AuthenticationError" });
        assert!(peer.wait().success());
        drop(listener);

        let mut peer = start(&python, "listen", &address, KEY);
        assert_eq!(peer.line(), "ready");
        match Client::builder().key(KEY).legacy_digest(false).connect(&address) {
            Ok(connection) => {
                assert!(modern, "{}", python.display());
                talk(connection);
                assert_eq!(peer.line(), "done");
            }
            Err(ConnectError::Authentication { source: AuthenticationError::LegacyDigest, .. }) => assert!(!modern),
            Err(error) => panic!("{error:?}"),
        }
    }
});

scenario!(python_sends_more_than_2_gib_at_once, PATIENT, {
    // It is not kept here, and in Python it is the page of zeros again and again.
    const SCRIPT: &str = r#"
import mmap, sys
from multiprocessing.connection import Client

connection = Client(sys.argv[1])
connection.send_bytes(mmap.mmap(-1, (1 << 31) + 5, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
connection.send_bytes(b"next")
connection.recv_bytes()
"#;
    mp_core::set_message_limit(1 << 20);
    for python in python::all().into_iter().take(1) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let listener = Listener::bind(&path).unwrap();
        let peer = Program::start(&python, SCRIPT, &[path.to_str().unwrap()]);
        let mut connection = accept(&listener);
        match connection.recv_bytes() {
            Err(RecvError::TooLarge { length, limit }) => assert_eq!((length, limit), ((1 << 31) + 5, 1 << 20)),
            other => panic!("{other:?}"),
        }
        assert_eq!(connection.recv_bytes().unwrap(), b"next");
        connection.send_bytes(b"").unwrap();
        assert!(peer.wait().success());
    }
});

scenario!(python_reads_the_long_header, PATIENT, {
    for python in python::all() {
        let folder = tempfile::tempdir().unwrap();
        let address = Address::Unix(folder.path().join("socket"));
        let mut peer = start(&python, "listen", &address, b"");
        assert_eq!(peer.line(), "ready");
        let mut stream = UnixStream::connect(folder.path().join("socket")).unwrap();
        // As a message of more than 2 GiB begins; the unit tests hold that it does.
        stream.write_all(&[&[0xff; 4][..], &5_u64.to_be_bytes(), b"hello"].concat()).unwrap();
        let mut connection = ByteConnection::from(stream);
        assert_eq!(connection.recv_bytes().unwrap(), b"olleh");
        connection.send_bytes(b"end").unwrap();
        assert_eq!(peer.line(), "done");
    }
});

scenario!(a_python_that_is_killed_in_a_message_is_told_from_one_that_ends, PATIENT, {
    const SCRIPT: &str = r#"
import os, signal, struct, sys
from multiprocessing.connection import Client

connection = Client(sys.argv[1])
connection.send_bytes(b"whole")
connection._send(struct.pack("!i", 100) + b"a part")
os.kill(os.getpid(), signal.SIGKILL)
"#;
    for python in python::all() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let listener = Listener::bind(&path).unwrap();
        let peer = Program::start(&python, SCRIPT, &[path.to_str().unwrap()]);
        let mut connection = accept(&listener);
        assert_eq!(connection.recv_bytes().unwrap(), b"whole");
        assert!(matches!(connection.recv_bytes(), Err(RecvError::Truncated)));
        assert!(matches!(connection.recv_bytes(), Err(RecvError::Disconnected)));
        assert!(!peer.wait().success());
    }
});
