//! Clients and listeners that do not follow the handshake.
#![cfg(feature = "listener")]

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use mp_core::{
    AcceptError, Address, AuthenticationError, ByteConnection, Client, ConnectError, Listener, RecvError, wait,
};
use support::leaks::{Resources, descriptors};
use support::{PATIENCE, scenario, watched};

/// A listener at a port, and that port.
fn listener(handshake_timeout: Duration) -> (Listener, std::net::SocketAddr) {
    let builder = Listener::builder().key(b"key").handshake_timeout(handshake_timeout);
    let listener = builder.bind(Address::Tcp(([127, 0, 0, 1], 0).into())).unwrap();
    match *listener.address() {
        Address::Tcp(address) => (listener, address),
        ref other => panic!("{other}"),
    }
}

fn failure(result: Result<ByteConnection, AcceptError>) -> AuthenticationError {
    match result {
        Err(AcceptError::Authentication(error)) => error,
        other => panic!("{other:?}"),
    }
}

#[test]
fn silent_clients_keep_nobody_waiting() {
    watched(|| {
        let (listener, address) = listener(Duration::MAX);
        let silent: Vec<_> = (0..10).map(|_| TcpStream::connect(address).unwrap()).collect();
        thread::scope(|scope| {
            let good = scope.spawn(|| Client::connect_with_key(address, b"key").unwrap());
            let server = listener.accept().unwrap();
            server.send_bytes(b"hello").unwrap();
            assert_eq!(good.join().unwrap().recv_bytes().unwrap(), b"hello");
        });
        // They are told apart from others only by never coming through.
        assert!(listener.accept_timeout(Duration::from_millis(20)).unwrap().is_none());
        drop(silent);
        for _ in 0..10 {
            assert!(matches!(failure(listener.accept()), AuthenticationError::Disconnected));
        }
        assert!(listener.accept_timeout(Duration::ZERO).unwrap().is_none());
    });
}

#[test]
fn a_silent_client_is_late_in_the_end_and_so_is_one_that_sends_a_byte_now_and_then() {
    watched(|| {
        let limit = Duration::from_millis(100);
        let (listener, address) = listener(limit);
        let start = Instant::now();
        let mut silent = TcpStream::connect(address).unwrap();
        assert!(matches!(failure(listener.accept()), AuthenticationError::TimedOut));
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
                // At some point the listener is no longer there.
                let _ = slow.write_all(b"x");
            }
        });
        assert!(matches!(failure(listener.accept()), AuthenticationError::TimedOut));
        stop.send(()).unwrap();
        sender.join().unwrap();
    });
}

#[test]
fn a_late_client_makes_the_listener_ready() {
    watched(|| {
        let (listener, address) = listener(Duration::from_millis(50));
        let _silent = TcpStream::connect(address).unwrap();
        assert_eq!(wait(&[&listener], Some(PATIENCE)).unwrap(), [0]);
        // It is let in, and has its time from now on.
        assert!(listener.accept_timeout(Duration::ZERO).unwrap().is_none());
        assert_eq!(wait(&[&listener], Some(PATIENCE)).unwrap(), [0]);
        let late = listener.accept_timeout(Duration::ZERO).map(Option::unwrap);
        assert!(matches!(failure(late), AuthenticationError::TimedOut));
        assert!(wait(&[&listener], Some(Duration::ZERO)).unwrap().is_empty());
    });
}

#[test]
fn accept_timeout_holds_whatever_clients_do() {
    watched(|| {
        let (listener, address) = listener(Duration::MAX);
        let (stop, stopped) = mpsc::channel::<()>();
        let busy = thread::spawn(move || {
            let mut streams: Vec<_> = (0..4).map(|_| TcpStream::connect(address).unwrap()).collect();
            streams.iter_mut().for_each(|stream| stream.write_all(&200_u32.to_be_bytes()).unwrap());
            while matches!(stopped.try_recv(), Err(mpsc::TryRecvError::Empty)) {
                for stream in &mut streams {
                    let _ = stream.write(b"x");
                }
            }
        });
        // Each of the four ends with what is no response, and until then there is always something to do.
        for _ in 0..20 {
            match listener.accept_timeout(Duration::from_millis(1)) {
                Ok(None) => {}
                other => assert!(matches!(failure(other.map(Option::unwrap)), AuthenticationError::Protocol(_))),
            }
        }
        stop.send(()).unwrap();
        busy.join().unwrap();
    });
}

#[test]
fn nonsense_ends_the_handshake_at_once() {
    watched(|| {
        let (listener, address) = listener(Duration::MAX);
        let long = [&257_u32.to_be_bytes()[..], &[b'x'; 257]].concat();
        let huge = [&[0xff; 4][..], &u64::MAX.to_be_bytes()].concat();
        let nonsense: [&[u8]; 6] =
            [b"GET / HTTP/1.1\r\n\r\n", b"\xff\xff\xff\xfe", b"\0\0\0\0", b"\0\0\0\x09#WELCOME#", &long, &huge];
        for bytes in nonsense {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.write_all(bytes).unwrap();
            let error = failure(listener.accept());
            assert!(matches!(error, AuthenticationError::Protocol(_)), "{bytes:?}: {error:?}");
        }
        // The end in the middle of a message.
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(b"\0\0\0\x30{sha256}").unwrap();
        drop(stream);
        assert!(matches!(failure(listener.accept()), AuthenticationError::Disconnected));
    });
}

#[test]
fn a_client_gives_up_on_a_listener_that_makes_no_sense() {
    watched(|| {
        let fake = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = fake.local_addr().unwrap();
        let answer = |bytes: &'static [u8], timeout| {
            thread::scope(|scope| {
                scope.spawn(|| {
                    let (mut stream, _) = fake.accept().unwrap();
                    stream.write_all(bytes).unwrap();
                    // Until the client goes.
                    let _ = stream.read_to_end(&mut Vec::new());
                });
                match Client::builder().key(b"key").timeout(timeout).connect(address) {
                    Err(ConnectError::Authentication { source, .. }) => source,
                    other => panic!("{other:?}"),
                }
            })
        };
        let error = answer(b"HTTP/1.1 400 Bad Request\r\n\r\n", PATIENCE);
        assert!(matches!(error, AuthenticationError::Protocol(_)), "{error:?}");
        let error = answer(b"\0\0\0\x0b#CHALLENGE#", PATIENCE);
        assert!(matches!(error, AuthenticationError::Protocol(_)), "{error:?}");
        let error = answer(b"\0\0\0\x1f#CHALLENGE#01234567890123456789", Duration::from_millis(50));
        assert!(matches!(error, AuthenticationError::TimedOut), "{error:?}");
        let error = answer(b"", Duration::from_millis(50));
        assert!(matches!(error, AuthenticationError::TimedOut), "{error:?}");
    });
}

#[test]
fn two_clients_do_not_answer_for_each_other() {
    watched(|| {
        // Without the key, it gives to the second client what the first one asks.
        let fake = Listener::bind(Address::Abstract(Vec::new())).unwrap();
        let address = fake.address().clone();
        let connect = || {
            let address = address.clone();
            thread::spawn(move || match Client::connect_with_key(address, b"key") {
                Err(ConnectError::Authentication { source, .. }) => source,
                other => panic!("{other:?}"),
            })
        };
        let first = connect();
        let to_first = fake.accept().unwrap();
        to_first.send_bytes(b"#CHALLENGE#01234567890123456789").unwrap();
        to_first.recv_bytes().unwrap();
        to_first.send_bytes(b"#WELCOME#").unwrap();
        let question = to_first.recv_bytes().unwrap();
        assert!(question.starts_with(b"#CHALLENGE#{sha256}"));
        let second = connect();
        let to_second = fake.accept().unwrap();
        to_second.send_bytes(&question).unwrap();
        assert!(matches!(to_second.recv_bytes(), Err(RecvError::Disconnected)));
        assert!(matches!(second.join().unwrap(), AuthenticationError::Reflected));
        drop(to_first);
        assert!(matches!(first.join().unwrap(), AuthenticationError::Disconnected));
    });
}

#[test]
fn more_silent_clients_than_there_are_places_wait_for_one_and_hold_no_more_descriptors() {
    scenario!(more_silent_clients_than_there_are_places_wait_for_one_and_hold_no_more_descriptors, {
        let before = Resources::of_this_process();
        let (listener, address) = listener(Duration::from_millis(300));
        let own = descriptors().len();
        let silent: Vec<_> = (0..100).map(|_| TcpStream::connect(address).unwrap()).collect();
        thread::scope(|scope| {
            // It is behind all of them in the queue.
            let good = scope.spawn(|| Client::builder().key(b"key").timeout(PATIENCE).connect(address).unwrap());
            let mut late = 0;
            let server = loop {
                match listener.accept() {
                    Ok(connection) => break connection,
                    Err(error) => assert!(matches!(failure(Err(error)), AuthenticationError::TimedOut)),
                }
                late += 1;
                // The hundred streams here, the good one, those in their handshakes.
                assert!(descriptors().len() <= own + 100 + 1 + 64);
            };
            assert!(late >= 100 - 63, "{late}");
            server.send_bytes(b"hello").unwrap();
            assert_eq!(good.join().unwrap().recv_bytes().unwrap(), b"hello");
        });
        drop((silent, listener));
        assert_eq!(Resources::of_this_process(), before);
    });
}

#[test]
fn without_descriptors_accepting_is_an_error_and_goes_on_afterwards() {
    scenario!(without_descriptors_accepting_is_an_error_and_goes_on_afterwards, {
        use rustix::process::{Resource, getrlimit, setrlimit};
        let (listener, address) = listener(Duration::MAX);
        let client = TcpStream::connect(address).unwrap();
        let limits = getrlimit(Resource::Nofile);
        let mut none = limits;
        none.current = Some(0);
        setrlimit(Resource::Nofile, none).unwrap();
        let error = listener.accept().unwrap_err();
        setrlimit(Resource::Nofile, limits).unwrap();
        assert!(matches!(&error, AcceptError::Io(error) if error.raw_os_error() == Some(libc::EMFILE)), "{error:?}");
        drop(client);
        assert!(matches!(failure(listener.accept()), AuthenticationError::Disconnected));
        assert!(listener.as_fd().try_clone_to_owned().is_ok());
    });
}
