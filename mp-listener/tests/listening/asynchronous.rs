//! Clients, handshakes and messages that tasks wait for.

use std::io::{Read, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::pin::pin;
use std::thread;

use crate::reactor::async_scenario;
use futures_lite::future::{or, poll_once, zip};
use mp_listener::{Address, AuthKey, ByteConnection, Client, Listener, RecvError, SendError};
use pollster::block_on;

/// Connects to a listener with an abstract name, and says nothing.
fn silent(listener: &Listener) -> UnixStream {
    let Address::Abstract(name) = listener.address() else { panic!("{listener:?}") };
    UnixStream::connect_addr(&SocketAddr::from_abstract_name(name).unwrap()).unwrap()
}

async_scenario!(a_listener_and_its_connections_are_awaited, {
    let key = AuthKey::random().unwrap();
    let listener = Listener::bind_with_key(Address::Abstract(Vec::new()), &key).unwrap();
    let mut accepts = pin!(listener.accept_async());
    assert!(block_on(poll_once(&mut accepts)).is_none());
    let (mut client, mut server) = thread::scope(|scope| {
        let client = scope.spawn(|| Client::connect_with_key(listener.address(), &key).unwrap());
        let server = block_on(async { accepts.await.unwrap().authenticate_async().await.unwrap() });
        (client.join().unwrap(), server)
    });
    {
        let mut message = pin!(server.recv_bytes_async());
        assert!(block_on(poll_once(&mut message)).is_none());
        client.send_bytes(b"hello").unwrap();
        assert_eq!(block_on(message).unwrap(), b"hello");
    }
    // More than there is room for.
    let large = vec![7; 4 << 20];
    let (sent, received) = block_on(zip(server.send_bytes_async(&large), client.recv_bytes_async()));
    sent.unwrap();
    assert!(received.unwrap() == large);
    drop(server);
    assert!(matches!(block_on(client.recv_bytes_async()), Err(RecvError::Disconnected)));
});

async_scenario!(a_silent_client_holds_up_no_task_but_its_own, {
    let listener = Listener::bind_with_key(Address::Abstract(Vec::new()), b"key").unwrap();
    let _silent = silent(&listener);
    let late = async { Err(listener.accept().unwrap().authenticate_async().await) };
    thread::scope(|scope| {
        let client = scope.spawn(|| Client::connect_with_key(listener.address(), b"key").unwrap());
        let good = async { Ok(listener.accept_async().await.unwrap().authenticate_async().await.unwrap()) };
        // Both tasks are on this thread.
        let mut server = block_on(or(late, good)).unwrap();
        server.send_bytes(b"hello").unwrap();
        assert_eq!(client.join().unwrap().recv_bytes().unwrap(), b"hello");
    });
});

async_scenario!(a_handshake_that_is_dropped_ends_the_connection, {
    let listener = Listener::bind_with_key(Address::Abstract(Vec::new()), b"key").unwrap();
    let mut silent = silent(&listener);
    let handshake = async { Some(listener.accept().unwrap().authenticate_async().await) };
    // As a time limit of an executor does.
    assert!(block_on(or(handshake, async { None })).is_none());
    silent.read_to_end(&mut Vec::new()).unwrap();
});

async_scenario!(a_future_that_is_dropped_in_the_middle_of_a_message_closes_the_connection, {
    let bare = || {
        let (peer, stream) = UnixStream::pair().unwrap();
        (peer, ByteConnection::from(stream))
    };
    let (mut peer, mut connection) = bare();
    // Before it nothing is lost.
    assert!(block_on(poll_once(connection.recv_bytes_async())).is_none());
    peer.write_all(&[0, 0, 0, 4, b'p']).unwrap();
    assert!(block_on(poll_once(connection.recv_bytes_async())).is_none());
    assert_eq!(peer.read(&mut [0]).unwrap(), 0);
    assert!(matches!(block_on(connection.recv_bytes_async()), Err(RecvError::Closed)));

    let (mut peer, mut connection) = bare();
    assert!(block_on(poll_once(connection.send_bytes_async(&[7; 4 << 20]))).is_none());
    assert!(matches!(connection.send_bytes(b""), Err(SendError::Closed)));
    peer.read_to_end(&mut Vec::new()).unwrap();
});

#[test]
fn futures_can_go_to_other_threads() {
    fn goes<T: Send>(_: T) {}
    let listener = Listener::bind(Address::Abstract(Vec::new())).unwrap();
    goes(listener.accept_async());
    let mut client = Client::connect(listener.address()).unwrap();
    goes(client.recv_bytes_async());
    goes(client.send_bytes_async(b""));
    goes(listener.accept().unwrap().authenticate_async());
}
