//! Listening, connecting and authenticating, both sides in Rust.

use std::ffi::OsStr;
use std::fs;
use std::net::TcpListener;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use mp_core::{Builder, process_fn, wait};
use mp_listener::{Address, AuthKey, AuthenticationError, ByteConnection, Client, ConnectError, Listener, RecvError};
use mp_testing::faults::Random;
use mp_testing::{PATIENCE, eventually, run_for_ever, scenario, watched};

fn anywhere() -> Address {
    Address::Abstract(Vec::new())
}

/// One of each kind; the file is in `folder`.
fn addresses(folder: &Path) -> [Address; 6] {
    [
        Address::Unix(folder.join("socket")),
        Address::Abstract(format!("mp-core-test {}", std::process::id()).into_bytes()),
        anywhere(),
        Address::Tcp(([127, 0, 0, 1], 0).into()),
        Address::Tcp("[::1]:0".parse().unwrap()),
        Address::Host("localhost".to_owned(), 0),
    ]
}

/// Accepts a client that does its handshake.
fn accept(listener: &Listener) -> ByteConnection {
    listener.accept().unwrap().authenticate().unwrap()
}

/// Both ends of a connection.
fn connected(listener: &Listener, client: impl FnOnce() -> ByteConnection + Send) -> (ByteConnection, ByteConnection) {
    thread::scope(|scope| {
        let client = scope.spawn(client);
        let server = accept(listener);
        (server, client.join().unwrap())
    })
}

#[test]
fn every_kind_of_address_connects_with_a_key_and_without() {
    watched(|| {
        for key in [None, Some(AuthKey::random().unwrap())] {
            let folder = tempfile::tempdir().unwrap();
            for address in addresses(folder.path()) {
                let (mut listens, mut connects) = (Listener::builder(), Client::builder());
                if let Some(key) = &key {
                    (listens, connects) = (listens.key(key), connects.key(key));
                }
                let listener = match listens.bind(&address) {
                    Err(error) if address.to_string() == "[::1]:0" => {
                        eprintln!("no IPv6 here: {error}");
                        continue;
                    }
                    listener => listener.unwrap(),
                };
                let place = listener.address().clone();
                assert!(!matches!(&place, Address::Tcp(address) if address.port() == 0));
                assert!(!matches!(&place, Address::Abstract(name) if name.is_empty()));
                let (mut server, mut client) = connected(&listener, || connects.connect(&place).unwrap());
                server.send_bytes(b"from the server").unwrap();
                client.send_bytes(b"from the client").unwrap();
                assert_eq!(client.recv_bytes().unwrap(), b"from the server");
                assert_eq!(server.recv_bytes().unwrap(), b"from the client");
                assert_eq!(client.peer_address().unwrap(), Some(place));
                let peer = server.peer_address().unwrap();
                assert_eq!(peer.is_some(), matches!(listener.address(), Address::Tcp(_)), "{peer:?}");
            }
        }
    });
}

#[test]
fn a_client_may_have_a_name_of_any_length() {
    use rustix::net::{AddressFamily, SocketAddrUnix, SocketType, bind, connect, socket};
    watched(|| {
        let folder = tempfile::tempdir().unwrap();
        let listener = Listener::bind(anywhere()).unwrap();
        let Address::Abstract(place) = listener.address() else { panic!() };
        let shortest = folder.path().join("x").to_str().unwrap().to_owned();
        // The kernel ends the longest one with a byte more than the structure has.
        let longest = format!("{shortest:x<108}");
        for (name, known) in [(shortest, true), (longest, false)] {
            let client = socket(AddressFamily::UNIX, SocketType::STREAM, None).unwrap();
            bind(&client, &SocketAddrUnix::new(name.as_str()).unwrap()).unwrap();
            connect(&client, &SocketAddrUnix::new_abstract_name(place).unwrap()).unwrap();
            let peer = listener.accept().unwrap().peer_address().unwrap();
            assert_eq!(peer, known.then(|| Address::Unix(name.into())));
        }
    });
}

#[test]
fn another_key_is_an_authentication_error_on_both_sides_and_the_listener_goes_on() {
    watched(|| {
        let listener = Listener::bind_with_key(anywhere(), b"right").unwrap();
        let address = listener.address().clone();
        thread::scope(|scope| {
            let address = &address;
            let wrong = scope.spawn(move || Client::connect_with_key(address, b"wrong").unwrap_err());
            let error = listener.accept().unwrap().authenticate().unwrap_err();
            assert!(matches!(error, AuthenticationError::WrongKey), "{error:?}");
            let error = wrong.join().unwrap();
            let rejected = matches!(error, ConnectError::Authentication { source: AuthenticationError::Rejected, .. });
            assert!(rejected, "{error:?}");
            let right = scope.spawn(move || Client::connect_with_key(address, b"right").unwrap());
            let mut server = accept(&listener);
            right.join().unwrap().send_bytes(b"hello").unwrap();
            assert_eq!(server.recv_bytes().unwrap(), b"hello");
        });
    });
}

#[test]
fn a_key_on_one_side_only_ends_in_an_error() {
    watched(|| {
        let short = Duration::from_millis(50);
        // Only the client has one: nobody asks it anything.
        let listener = Listener::bind(anywhere()).unwrap();
        let error = Client::builder().key(b"key").timeout(short).connect(listener.address()).unwrap_err();
        let late = matches!(error, ConnectError::Authentication { source: AuthenticationError::TimedOut, .. });
        assert!(late, "{error:?}");
        drop(listener.accept().unwrap());
        // Only the listener has one: the client sees the question.
        let listener = Listener::bind_with_key(anywhere(), b"key").unwrap();
        let mut client = Client::connect(listener.address()).unwrap();
        let error = listener.accept().unwrap().authenticate_timeout(short).unwrap_err();
        assert!(matches!(error, AuthenticationError::TimedOut), "{error:?}");
        assert!(error.to_string().ends_with("is an authentication key set on both sides?"), "{error}");
        assert!(client.recv_bytes().unwrap().starts_with(b"#CHALLENGE#{sha256}"));
        assert!(matches!(client.recv_bytes(), Err(RecvError::Disconnected)));
    });
}

#[test]
fn an_empty_key_is_refused_before_anything_happens() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let error = Listener::bind_with_key(&path, b"").unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
    assert!(!path.exists());
    let error = Client::connect_with_key(&path, b"").unwrap_err();
    assert_eq!(std::io::Error::from(error).kind(), std::io::ErrorKind::InvalidInput);
}

#[test]
fn a_key_does_not_print() {
    let key = AuthKey::from(b"secret");
    let texts = [
        format!("{key:?} {key:#?}"),
        format!("{:?}", Listener::builder().key(&key)),
        format!("{:?}", Client::builder().key(&key)),
        format!("{:?}", Listener::bind_with_key(anywhere(), &key).unwrap()),
    ];
    for text in texts {
        assert!(!text.contains("secret") && !text.contains("115, 101"), "{text}");
    }
    assert_ne!(AuthKey::random().unwrap().as_bytes(), AuthKey::random().unwrap().as_bytes());
}

#[test]
fn the_file_is_its_users_alone_and_goes_with_the_listener() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let listener = Listener::bind(&path).unwrap();
    let metadata = fs::symlink_metadata(&path).unwrap();
    assert!(metadata.file_type().is_socket());
    assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
    drop(listener);
    assert!(!path.exists());
    let listener = Listener::builder().mode(0o700).bind(&path).unwrap();
    assert_eq!(fs::symlink_metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
    drop(listener);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn a_file_that_is_not_the_listeners_own_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    fs::write(&path, "precious").unwrap();
    assert_eq!(Listener::bind(&path).unwrap_err().kind(), std::io::ErrorKind::AddrInUse);
    assert_eq!(fs::read(&path).unwrap(), b"precious");
    fs::remove_file(&path).unwrap();

    // What a process that was killed leaves behind, and what a process that lives has, look the
    // same.
    drop(UnixListener::bind(&path).unwrap());
    assert_eq!(Listener::bind(&path).unwrap_err().kind(), std::io::ErrorKind::AddrInUse);
    fs::remove_file(&path).unwrap();

    let listener = Listener::bind(&path).unwrap();
    assert_eq!(Listener::bind(&path).unwrap_err().kind(), std::io::ErrorKind::AddrInUse);
    // Another takes its place while it listens.
    fs::rename(&path, folder.path().join("moved")).unwrap();
    let second = Listener::bind(&path).unwrap();
    drop(listener);
    assert!(Client::connect(&path).is_ok());
    drop(second);
    assert!(!path.exists());
}

#[test]
fn nobody_there_is_an_error_at_once() {
    watched(|| {
        let folder = tempfile::tempdir().unwrap();
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        for address in
            [Address::Unix(folder.path().join("socket")), Address::Abstract(b"nobody".to_vec()), Address::Tcp(free)]
        {
            let error = Client::connect(&address).unwrap_err();
            assert!(error.to_string().contains(&address.to_string()), "{error}");
            assert!(matches!(error, ConnectError::Connect { .. }));
        }
        assert!(Client::connect(Address::Unix("x".repeat(200).into())).is_err());
        assert!(Listener::bind(Address::Unix("".into())).is_err());
        assert!(Listener::bind(Address::Unix("/nowhere/at/all".into())).is_err());
    });
}

#[test]
fn connecting_to_a_full_queue_ends_at_the_deadline() {
    watched(|| {
        for address in [anywhere(), Address::Tcp(([127, 0, 0, 1], 0).into())] {
            let listener = Listener::builder().backlog(0).bind(address).unwrap();
            let connect = |timeout| Client::builder().timeout(timeout).connect(listener.address());
            let mut waiting = Vec::new();
            let error = loop {
                match connect(Duration::from_millis(30)) {
                    Ok(connection) => waiting.push(connection),
                    Err(error) => break error,
                }
            };
            assert!(!waiting.is_empty());
            let ConnectError::Connect { source, .. } = error else { panic!("{error:?}") };
            assert_eq!(source.kind(), std::io::ErrorKind::TimedOut);
            // And succeeds as soon as there is a place.
            thread::scope(|scope| {
                let late = scope.spawn(|| connect(PATIENCE));
                for _ in 0..=waiting.len() {
                    accept(&listener);
                }
                late.join().unwrap().unwrap();
            });
        }
    });
}

#[test]
fn accepting_says_none_until_there_is_a_client() {
    watched(|| {
        let listener = Listener::bind_with_key(anywhere(), b"key").unwrap();
        let start = Instant::now();
        assert!(listener.accept_timeout(Duration::from_millis(20)).unwrap().is_none());
        assert!(start.elapsed() >= Duration::from_millis(20));
        assert!(listener.try_accept().unwrap().is_none());
        let address = listener.address().clone();
        let client = thread::spawn(move || Client::connect_with_key(address, b"key").unwrap());
        assert_eq!(wait(&[&listener], Some(PATIENCE)).unwrap(), [0]);
        let mut server = listener.try_accept().unwrap().unwrap().authenticate().unwrap();
        client.join().unwrap().send_bytes(b"hello").unwrap();
        assert_eq!(server.recv_bytes().unwrap(), b"hello");
        assert!(wait(&[&listener], Some(Duration::ZERO)).unwrap().is_empty());
    });
}

#[process_fn]
fn connect_and_count(address: String, key: Vec<u8>, number: u32) {
    let mut connection = Client::connect_with_key(address.parse::<Address>().unwrap(), key).unwrap();
    connection.send_bytes(&number.to_le_bytes()).unwrap();
    assert_eq!(connection.recv_bytes().unwrap(), (number * 2).to_le_bytes());
}

#[process_fn]
fn double(mut connection: ByteConnection) {
    let message = connection.recv_bytes().unwrap();
    let number = u32::from_le_bytes(message.try_into().unwrap());
    connection.send_bytes(&(number * 2).to_le_bytes()).unwrap();
}

scenario!(a_connection_is_an_argument_and_each_client_has_a_child, {
    let folder = tempfile::tempdir().unwrap();
    for address in [Address::Unix(folder.path().join("socket")), Address::Tcp(([127, 0, 0, 1], 0).into())] {
        let key = AuthKey::random().unwrap();
        let listener = Listener::bind_with_key(&address, &key).unwrap();
        let place = listener.address().to_string();
        let clients: Vec<_> = (0..8)
            .map(|number| connect_and_count::spawn(place.clone(), key.as_bytes().to_vec(), number).unwrap())
            .collect();
        let servers: Vec<_> = (0..8).map(|_| double::spawn(accept(&listener)).unwrap()).collect();
        clients.into_iter().chain(servers).for_each(|process| process.join().unwrap());
    }
});

#[test]
fn several_threads_accept_at_one_listener() {
    watched(|| {
        const CLIENTS: usize = 40;
        let listener = Listener::bind_with_key(anywhere(), b"key").unwrap();
        let address = listener.address().clone();
        thread::scope(|scope| {
            let (listener, address) = (&listener, &address);
            for _ in 0..4 {
                scope.spawn(move || {
                    for _ in 0..CLIENTS / 4 {
                        accept(listener).send_bytes(b"hello").unwrap();
                    }
                });
            }
            for _ in 0..4 {
                scope.spawn(move || {
                    for _ in 0..CLIENTS / 4 {
                        let mut client = Client::connect_with_key(address, b"key").unwrap();
                        assert_eq!(client.recv_bytes().unwrap(), b"hello");
                    }
                });
            }
        });
    });
}

#[process_fn]
fn connect_and_wait(address: String) {
    let mut connection = Client::connect_with_key(address.parse::<Address>().unwrap(), b"key").unwrap();
    let _ = connection.recv_bytes();
}

scenario!(whoever_dies_at_the_other_end_is_the_end, {
    let listener = Listener::bind_with_key(anywhere(), b"key").unwrap();
    let client = connect_and_wait::spawn(listener.address().to_string()).unwrap();
    let mut server = accept(&listener);
    assert!(!server.poll(Some(Duration::ZERO)).unwrap());
    client.kill().unwrap();
    assert!(matches!(server.recv_bytes(), Err(RecvError::Disconnected)));
    assert!(client.join().is_err());
});

#[process_fn]
fn listen_for_ever(path: String) {
    let _listener = Listener::bind(Path::new(&path)).unwrap();
    run_for_ever();
}

scenario!(what_a_killed_listener_leaves_is_in_use_until_it_is_removed, {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let process = Builder::new().spawn(listen_for_ever::call(path.to_str().unwrap().to_owned())).unwrap();
    eventually("it listens", || Client::connect(&path).is_ok());
    process.kill().unwrap();
    assert!(process.join().is_err());
    assert!(matches!(Client::connect(&path), Err(ConnectError::Connect { .. })));
    assert_eq!(Listener::bind(&path).unwrap_err().kind(), std::io::ErrorKind::AddrInUse);
    fs::remove_file(&path).unwrap();
    Listener::bind(&path).unwrap();
});

#[test]
fn addresses_are_read_as_they_are_written() {
    let both_ways = [
        ("/run/app/socket", Address::Unix("/run/app/socket".into())),
        ("./socket", Address::Unix("./socket".into())),
        ("@app", Address::Abstract(b"app".to_vec())),
        ("@", anywhere()),
        ("127.0.0.1:6000", Address::Tcp(([127, 0, 0, 1], 6000).into())),
        ("[::1]:6000", Address::Tcp("[::1]:6000".parse().unwrap())),
        ("localhost:6000", Address::Host("localhost".to_owned(), 6000)),
    ];
    for (text, address) in both_ways {
        assert_eq!(text.parse::<Address>().unwrap(), address);
        assert_eq!(address.to_string(), text);
    }
    assert_eq!(Address::Unix("socket".into()).to_string(), "./socket");
    assert_eq!(Address::from(("localhost", 1)), Address::Host("localhost".to_owned(), 1));
    assert_eq!(Address::from(("127.0.0.1", 1)), Address::Tcp(([127, 0, 0, 1], 1).into()));
    for text in ["", "socket", ":1", "host:", "host:port", "host:65536", "::1:80", "[::1]"] {
        assert!(text.parse::<Address>().unwrap_err().to_string().contains(&format!("{text:?}")));
    }
}

#[test]
fn what_is_written_is_read_as_the_same_place_or_not_at_all() {
    let unix = |path: &[u8]| Address::Unix(OsStr::from_bytes(path).into());
    let host = |name: &str| Address::Host(name.to_owned(), 5);
    let tcp = |text: &str| Address::Tcp(text.parse().unwrap());
    let cases = [
        // What is written is a path from the current directory, of the same file.
        (unix(b"@dir/sock"), "./@dir/sock", Some(unix(b"./@dir/sock"))),
        (unix(b"@sock"), "./@sock", Some(unix(b"./@sock"))),
        (unix(b"localhost:1"), "./localhost:1", Some(unix(b"./localhost:1"))),
        (unix(b"a/@sock"), "a/@sock", Some(unix(b"a/@sock"))),
        (unix("é/ö".as_bytes()), "é/ö", Some(unix("é/ö".as_bytes()))),
        (unix(b""), "", None),
        (unix(b"/\xff"), "/\u{fffd}", None),
        (unix("/\u{fffd}".as_bytes()), "/\u{fffd}", None),
        (Address::Abstract(b"a/b:5".to_vec()), "@a/b:5", Some(Address::Abstract(b"a/b:5".to_vec()))),
        (Address::Abstract(b"a\0b".to_vec()), "@a\0b", Some(Address::Abstract(b"a\0b".to_vec()))),
        (Address::Abstract(b"\xff".to_vec()), "@\u{fffd}", None),
        // The same place, whichever way.
        (host("::1"), "[::1]:5", Some(tcp("[::1]:5"))),
        (host("127.0.0.1"), "127.0.0.1:5", Some(tcp("127.0.0.1:5"))),
        (host("fe80::1%eth0"), "[fe80::1%eth0]:5", Some(host("fe80::1%eth0"))),
        (tcp("[fe80::1%3]:5"), "[fe80::1%3]:5", Some(tcp("[fe80::1%3]:5"))),
        (host("[::1]"), "[[::1]]:5", Some(host("[::1]"))),
        (host("[a]"), "[a]:5", Some(host("[a]"))),
        (host(""), ":5", None),
        (host("a/b"), "a\u{fffd}b:5", None),
        (host("@a"), "\u{fffd}a:5", None),
    ];
    for (address, text, read) in cases {
        assert_eq!(address.to_string(), text);
        assert_eq!(text.parse::<Address>().ok(), read, "{text}");
    }
}

/// The address that `address` may be read as once it was written.
fn in_text(address: &Address) -> Option<Address> {
    match address {
        Address::Unix(path) if path.to_str().is_none_or(|path| path.is_empty() || path.contains('\u{fffd}')) => None,
        Address::Unix(path) if path.as_os_str().as_bytes().first() == Some(&b'@') => {
            Some(Path::new(".").join(path).into())
        }
        Address::Unix(path) if !path.as_os_str().as_bytes().contains(&b'/') => Some(Path::new(".").join(path).into()),
        Address::Abstract(name) if !std::str::from_utf8(name).is_ok_and(|name| !name.contains('\u{fffd}')) => None,
        Address::Host(name, _) if name.is_empty() || name.contains(['/', '\u{fffd}']) || name.starts_with('@') => None,
        Address::Host(name, port) => {
            let number = if name.contains(':') { format!("[{name}]:{port}") } else { format!("{name}:{port}") };
            Some(number.parse().map_or_else(|_| address.clone(), Address::Tcp))
        }
        other => Some(other.clone()),
    }
}

#[test]
fn addresses_of_chance_are_read_as_they_were_written() {
    // The bytes that mean something, and few others, so that all come together.
    let alphabet: [&[u8]; 14] =
        [b"@", b"/", b".", b":", b"[", b"]", b"%", b"1", b"::1", b"a", b"\0", b"\xff", b"\xc3\xa9", b"\xef\xbf\xbd"];
    let mut random = Random::seeded(1);
    let mut read = 0;
    for _ in 0..50_000 {
        let length = random.below(6);
        let bytes: Vec<u8> = (0..length).flat_map(|_| random.of(&alphabet).to_vec()).collect();
        let port = random.below(1 << 16) as u16;
        let address = match random.below(3) {
            0 => Address::Unix(OsStr::from_bytes(&bytes).into()),
            1 => Address::Abstract(bytes),
            _ => Address::Host(String::from_utf8_lossy(&bytes).into_owned(), port),
        };
        let text = address.to_string();
        let again = text.parse::<Address>().ok();
        assert_eq!(again, in_text(&address), "{address:?} was written {text:?}");
        read += u32::from(again.is_some());
    }
    assert!(read > 10_000, "only {read} could be read");
}
