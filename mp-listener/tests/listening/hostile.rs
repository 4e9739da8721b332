//! Clients and listeners that do not follow the handshake.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use mp_listener::{Address, AuthenticationError, ByteConnection, Client, ConnectError, Incoming, Listener, RecvError};
use mp_testing::{PATIENCE, scenario, watched};

/// A listener at a port, and that port.
fn listener() -> (Listener, SocketAddr) {
    let listener = Listener::bind_with_key(Address::Tcp(([127, 0, 0, 1], 0).into()), b"key").unwrap();
    match *listener.address() {
        Address::Tcp(address) => (listener, address),
        ref other => panic!("{other}"),
    }
}

/// Why a client is not authenticated, however long that takes.
fn failure(incoming: Incoming) -> AuthenticationError {
    incoming.authenticate_timeout(Duration::MAX).unwrap_err()
}

fn failure_of_client(result: Result<ByteConnection, ConnectError>) -> AuthenticationError {
    match result {
        Err(ConnectError::Authentication { source, .. }) => source,
        other => panic!("{other:?}"),
    }
}

scenario!(silent_clients_hold_no_other_up_and_leave_nothing, {
    let (listener, address) = listener();
    let silent: Vec<_> = (0..100).map(|_| TcpStream::connect(address).unwrap()).collect();
    thread::scope(|scope| {
        // It is behind all of them in the queue.
        let good = scope.spawn(|| Client::builder().key(b"key").timeout(PATIENCE).connect(address).unwrap());
        let (done, results) = mpsc::channel();
        for _ in 0..=silent.len() {
            let (incoming, done) = (listener.accept().unwrap(), done.clone());
            scope.spawn(move || done.send(incoming.authenticate_timeout(Duration::MAX)).unwrap());
        }
        let mut server = results.recv().unwrap().unwrap();
        server.send_bytes(b"hello").unwrap();
        assert_eq!(good.join().unwrap().recv_bytes().unwrap(), b"hello");
        drop(silent);
        for _ in 0..100 {
            assert!(matches!(results.recv().unwrap(), Err(AuthenticationError::Disconnected)));
        }
    });
});

#[test]
fn a_silent_client_is_late_in_the_end_and_so_is_one_that_sends_a_byte_now_and_then() {
    watched(|| {
        let limit = Duration::from_millis(100);
        let (listener, address) = listener();
        let mut silent = TcpStream::connect(address).unwrap();
        let start = Instant::now();
        let late = listener.accept().unwrap().authenticate_timeout(limit);
        assert!(matches!(late, Err(AuthenticationError::TimedOut)), "{late:?}");
        assert!(start.elapsed() >= limit);
        silent.read_to_end(&mut Vec::new()).unwrap();

        let mut slow = TcpStream::connect(address).unwrap();
        let (stop, stopped) = mpsc::channel::<()>();
        let sender = thread::spawn(move || {
            // All of a message but its last byte.
            slow.write_all(&256_u32.to_be_bytes()).unwrap();
            for _ in 0..255 {
                if stopped.recv_timeout(Duration::from_millis(5)).is_ok() {
                    break;
                }
                // At some point the listener has closed the connection.
                let _ = slow.write_all(b"x");
            }
        });
        let late = listener.accept().unwrap().authenticate_timeout(limit);
        assert!(matches!(late, Err(AuthenticationError::TimedOut)), "{late:?}");
        stop.send(()).unwrap();
        sender.join().unwrap();
    });
}

#[test]
fn nonsense_ends_the_handshake_at_once() {
    watched(|| {
        let (listener, address) = listener();
        let long = [&257_u32.to_be_bytes()[..], &[b'x'; 257]].concat();
        let huge = [&[0xff; 4][..], &u64::MAX.to_be_bytes()].concat();
        let nonsense: [&[u8]; 6] =
            [b"GET / HTTP/1.1\r\n\r\n", b"\xff\xff\xff\xfe", b"\0\0\0\0", b"\0\0\0\x09#WELCOME#", &long, &huge];
        for bytes in nonsense {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.write_all(bytes).unwrap();
            let error = failure(listener.accept().unwrap());
            assert!(matches!(error, AuthenticationError::Protocol(_)), "{bytes:?}: {error:?}");
        }
        // The end in the middle of a message.
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(b"\0\0\0\x30{sha256}").unwrap();
        drop(stream);
        assert!(matches!(failure(listener.accept().unwrap()), AuthenticationError::Disconnected));
    });
}

#[test]
fn a_client_gives_up_on_a_listener_that_makes_no_sense() {
    watched(|| {
        let fake = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = fake.local_addr().unwrap();
        let answer = |bytes: &'static [u8], timeout| {
            thread::scope(|scope| {
                scope.spawn(|| {
                    let (mut stream, _) = fake.accept().unwrap();
                    stream.write_all(bytes).unwrap();
                    // Until the client goes.
                    let _ = stream.read_to_end(&mut Vec::new());
                });
                failure_of_client(Client::builder().key(b"key").timeout(timeout).connect(address))
            })
        };
        let error = answer(b"HTTP/1.1 400 Bad Request\r\n\r\n", PATIENCE);
        assert!(matches!(error, AuthenticationError::Protocol(_)), "{error:?}");
        let error = answer(b"\0\0\0\x0b#CHALLENGE#", PATIENCE);
        assert!(matches!(error, AuthenticationError::Protocol(_)), "{error:?}");
        let error = answer(b"\0\0\0\x1f#CHALLENGE#01234567890123456789\0\0\0\x08#WELCOME", PATIENCE);
        assert!(matches!(error, AuthenticationError::Protocol(_)), "{error:?}");
        let error = answer(b"\0\0\0\x1f#CHALLENGE#01234567890123456789", Duration::from_millis(50));
        assert!(matches!(error, AuthenticationError::TimedOut), "{error:?}");
        let error = answer(b"", Duration::from_millis(50));
        assert!(matches!(error, AuthenticationError::TimedOut), "{error:?}");
    });
}

/// A listener without the key, and a client with it that connects; the listener welcomes it and
/// receives its question.
fn welcomed() -> (Listener, ByteConnection, Vec<u8>, thread::JoinHandle<AuthenticationError>) {
    let fake = Listener::bind(Address::Abstract(Vec::new())).unwrap();
    let (mut to_client, client) = connect(&fake);
    to_client.send_bytes(b"#CHALLENGE#01234567890123456789").unwrap();
    to_client.recv_bytes().unwrap();
    to_client.send_bytes(b"#WELCOME#").unwrap();
    let question = to_client.recv_bytes().unwrap();
    assert!(question.starts_with(b"#CHALLENGE#{sha256}"));
    (fake, to_client, question, client)
}

/// What a listener without a key has of a client with one, and why the client will fail.
fn connect(fake: &Listener) -> (ByteConnection, thread::JoinHandle<AuthenticationError>) {
    let address = fake.address().clone();
    let client = thread::spawn(move || failure_of_client(Client::connect_with_key(address, b"key")));
    (fake.accept().unwrap().authenticate().unwrap(), client)
}

#[test]
fn a_listener_that_welcomes_everybody_has_to_prove_its_key() {
    watched(|| {
        let (_fake, mut to_client, _, client) = welcomed();
        to_client.send_bytes(&[&b"{sha256}"[..], &[7; 32]].concat()).unwrap();
        assert_eq!(to_client.recv_bytes().unwrap(), b"#FAILURE#");
        assert!(matches!(client.join().unwrap(), AuthenticationError::WrongKey));
    });
}

#[test]
fn two_clients_do_not_answer_for_each_other() {
    watched(|| {
        // Without the key, it passes to the second client what the first one asks.
        let (fake, to_first, question, first) = welcomed();
        let (mut to_second, second) = connect(&fake);
        to_second.send_bytes(&question).unwrap();
        assert!(matches!(to_second.recv_bytes(), Err(RecvError::Disconnected)));
        assert!(matches!(second.join().unwrap(), AuthenticationError::Reflected));
        drop(to_first);
        assert!(matches!(first.join().unwrap(), AuthenticationError::Disconnected));
    });
}

#[test]
fn a_listener_does_not_answer_its_own_challenge() {
    watched(|| {
        let (listener, address) = listener();
        let mut to_listener = Client::connect(address).unwrap();
        let incoming = listener.accept().unwrap();
        let server = thread::spawn(|| failure(incoming));
        // A client that has the key answers, of which this one has none.
        let question = to_listener.recv_bytes().unwrap();
        let fake = Listener::bind(Address::Abstract(Vec::new())).unwrap();
        let (mut to_client, client) = connect(&fake);
        to_client.send_bytes(&question).unwrap();
        to_listener.send_bytes(&to_client.recv_bytes().unwrap()).unwrap();
        assert_eq!(to_listener.recv_bytes().unwrap(), b"#WELCOME#");
        to_listener.send_bytes(&question).unwrap();
        assert!(matches!(server.join().unwrap(), AuthenticationError::Reflected));
        drop(to_client);
        assert!(matches!(client.join().unwrap(), AuthenticationError::Disconnected));
    });
}

scenario!(without_descriptors_accepting_is_an_error_and_goes_on_afterwards, {
    use rustix::process::Resource;
    let (listener, address) = listener();
    let client = TcpStream::connect(address).unwrap();
    let error = mp_testing::limits::with_limit(Resource::Nofile, 0, || listener.accept().unwrap_err());
    assert_eq!(error.raw_os_error(), Some(libc::EMFILE), "{error:?}");
    drop(client);
    assert!(matches!(failure(listener.accept().unwrap()), AuthenticationError::Disconnected));
});
