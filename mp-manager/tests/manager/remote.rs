//! Managers of other programs: over sockets that carry no descriptors.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use mp_core::{Fd, Sender, process_fn};
use mp_listener::{Address, AuthKey, Client, ConnectError, Listener};
use mp_manager::{CallError, Cell, List, Lock, LockError, Manager, Map, MapChange, Queue, Remote, RemoteError};
use mp_testing::victims::{Held, soon};
use mp_testing::{PATIENCE, PROMPTLY, eventually, scenario};
use rustix::process::{Pid, Signal, kill_process};

/// A process on a busy machine beats as often.
const BEAT: Duration = Duration::from_millis(500);

const KEY: &[u8] = b"a key that both sides have";

#[process_fn]
fn add(old: Option<u64>, by: u64) -> (Option<u64>, u64) {
    let new = old.unwrap_or(0) + by;
    (Some(new), new)
}

fn connect(address: &str) -> Remote {
    Remote::connect(address.parse::<Address>().unwrap(), KEY).unwrap()
}

fn signal(pid: u32, signal: Signal) {
    kill_process(Pid::from_raw(pid as i32).unwrap(), signal).unwrap();
}

/// What a program on another machine may do.
#[process_fn]
fn use_remotely(address: String, times: u64) {
    let remote = connect(&address);
    let totals = remote.get::<Map<u64, u64>>("totals").unwrap();
    for _ in 0..times {
        totals.modify::<add>(&1, 1).unwrap();
    }
    let own = List::new(&remote).unwrap();
    own.extend(0..100_u64).unwrap();
    assert!(own.iter().unwrap().map(Result::unwrap).eq(0..100));
    let long = Cell::new(&remote, vec![7_u8; 3 << 20]).unwrap();
    assert_eq!(long.get().unwrap().len(), 3 << 20);
    let queue = Queue::new(&remote).unwrap();
    queue.put("text".to_owned()).unwrap();
    assert_eq!(queue.get().unwrap(), "text");
    drop(Lock::new(&remote).unwrap().lock().unwrap());
    let wrong = remote.get::<Map<u64, String>>("totals").unwrap_err();
    assert!(matches!(wrong, CallError::WrongType { .. }), "{wrong:?}");
    assert_eq!(remote.get::<List<u64>>("nothing").unwrap_err(), CallError::NoSuchObject);
}

scenario!(programs_use_a_manager_over_unix_sockets_and_tcp, {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let manager = Manager::spawn().unwrap();
    let totals = Map::<u64, u64>::new(&manager).unwrap();
    manager.publish("totals", &totals).unwrap();
    let mut watch = totals.watch().unwrap();
    assert_eq!(watch.next(), Some(Ok(MapChange::Snapshot(Vec::new()))));
    let tcp = Address::Tcp(([127, 0, 0, 1], 0).into());
    let addresses = [Address::from(path.as_path()), Address::Abstract(Vec::new()), tcp];
    let addresses = addresses.map(|address| manager.listen(address, KEY).unwrap().to_string());
    let children: Vec<_> = addresses.iter().map(|address| use_remotely::spawn(address.clone(), 100).unwrap()).collect();
    children.into_iter().for_each(|child| child.join().unwrap());
    assert_eq!(totals.get(&1).unwrap(), Some(300));
    assert_eq!(watch.next(), Some(Ok(MapChange::Set(1, 1))));
    eventually("the objects of the programs go", || manager.objects().unwrap().len() == 1);
    manager.shutdown(Duration::ZERO).unwrap();
    assert!(!Path::exists(&path), "the socket is left behind");
    let error = Remote::connect(path, KEY).unwrap_err();
    assert!(matches!(error, RemoteError::Connect(ConnectError::Connect { .. })), "{error:?}");
    let text = error.to_string();
    assert!(text.contains("could not be reached") && text.contains("No such file"), "{text}");
    assert!(std::error::Error::source(&error).is_none());
});

#[process_fn]
fn push_and_exit(list: List<u64>) {
    list.push(2).unwrap();
    list.push(3).unwrap();
}

#[process_fn]
fn pass_on(address: String, done: Sender<()>) {
    let remote = connect(&address);
    let list = List::new(&remote).unwrap();
    let other = list.clone();
    list.push(1).unwrap();
    drop(list);
    // The list is held by this process only in what it has sent.
    push_and_exit::spawn(other).unwrap().join().unwrap();
    done.send(()).unwrap();
    std::thread::park();
}

// Python: a proxy used from another process asks for a key that it does not have.
scenario!(a_proxy_of_a_remote_object_travels_and_the_object_goes_with_the_last_one, {
    let manager = Manager::spawn().unwrap();
    let address = manager.listen(Address::Abstract(Vec::new()), KEY).unwrap().to_string();
    let child = Held::start(|there| pass_on::call(address.clone(), there));
    eventually("the list goes", || manager.objects().unwrap().is_empty());
    child.kill();
    let remote = connect(&address);
    let list = List::new(&remote).unwrap();
    push_and_exit::spawn(list.clone()).unwrap().join().unwrap();
    assert_eq!(list.snapshot().unwrap(), [2, 3]);
    assert_eq!(manager.objects().unwrap().len(), 1);
    drop(list);
    eventually("the list goes", || manager.objects().unwrap().is_empty());
});

#[process_fn]
fn lock_remotely(address: String, there: Sender<()>) {
    let remote = connect(&address);
    let _guard = remote.get::<Lock>("lock").unwrap().lock().unwrap();
    let _own = List::<u64>::new(&remote).unwrap();
    there.send(()).unwrap();
    loop {
        std::thread::park();
    }
}

scenario!(a_remote_process_that_is_killed_is_noticed_at_once, {
    let manager = Manager::spawn().unwrap();
    let lock = Lock::new(&manager).unwrap();
    manager.publish("lock", &lock).unwrap();
    let address = manager.listen(Address::Tcp(([127, 0, 0, 1], 0).into()), KEY).unwrap().to_string();
    for _ in 0..5 {
        let holder = Held::start(|there| lock_remotely::call(address.clone(), there));
        let begun = Instant::now();
        holder.kill();
        assert!(matches!(lock.lock(), Err(LockError::OwnerDied(_))));
        assert!(begun.elapsed() < PROMPTLY);
    }
    eventually("their objects go", || manager.objects().unwrap().len() == 1);
});

scenario!(a_silent_peer_is_noticed_by_its_missing_heartbeat, {
    let manager = Manager::builder().heartbeat(BEAT).spawn().unwrap();
    let lock = Lock::new(&manager).unwrap();
    manager.publish("lock", &lock).unwrap();
    let address = manager.listen(Address::Tcp(([127, 0, 0, 1], 0).into()), KEY).unwrap().to_string();
    let holder = Held::start(|there| lock_remotely::call(address.clone(), there));
    // As long as it beats, it keeps the lock.
    assert!(lock.lock_timeout(4 * BEAT).unwrap().is_none());
    signal(holder.pid(), Signal::STOP);
    let begun = Instant::now();
    assert!(matches!(lock.lock(), Err(LockError::OwnerDied(_))));
    assert!(begun.elapsed() < 3 * BEAT + PATIENCE / 2);
    signal(holder.pid(), Signal::CONT);
    holder.kill();
});

#[process_fn]
fn listen_and_stay(address: Sender<String>) {
    let manager = Manager::builder().heartbeat(BEAT).spawn().unwrap();
    manager.publish("list", &List::<u64>::new(&manager).unwrap()).unwrap();
    address.send(manager.listen(Address::Abstract(Vec::new()), KEY).unwrap().to_string()).unwrap();
    loop {
        std::thread::park();
    }
}

scenario!(a_silent_or_dead_manager_ends_every_call, {
    for how in [Signal::STOP, Signal::KILL] {
        let (sender, receiver) = mp_core::pipe().unwrap();
        let owner = listen_and_stay::spawn(sender).unwrap();
        let remote = connect(&soon(&receiver));
        let list = remote.get::<List<u64>>("list").unwrap();
        let queue = Queue::<u64>::new(&remote).unwrap();
        list.push(1).unwrap();
        let (begins, begun) = std::sync::mpsc::channel();
        let waiting = std::thread::spawn(move || {
            begins.send(()).unwrap();
            queue.get()
        });
        begun.recv().unwrap();
        signal(owner.pid(), how);
        let begun = Instant::now();
        // The call may begin after the end.
        let ended = waiting.join().unwrap();
        assert!(matches!(ended, Err(CallError::Disconnected { .. })), "{ended:?}");
        assert!(begun.elapsed() < if how == Signal::KILL { PROMPTLY } else { 3 * BEAT + PATIENCE / 2 });
        owner.kill().unwrap();
        assert!(owner.join().is_err());
        eventually("calls fail", || matches!(list.push(2), Err(CallError::Disconnected { .. })));
    }
});

scenario!(another_key_and_another_build_are_named, {
    let manager = Manager::here().unwrap();
    let address = manager.listen(Address::Abstract(Vec::new()), KEY).unwrap();
    let refused = Remote::connect(&address, b"another key").unwrap_err();
    assert!(matches!(refused, RemoteError::Connect(ConnectError::Authentication { .. })), "{refused:?}");
    // An old program at a new manager.
    let mut old = Client::connect_with_key(&address, KEY).unwrap();
    old.send_bytes(b"mp-manager 0.0.9, protocol 0").unwrap();
    assert!(old.recv_bytes().unwrap().starts_with(b"mp-manager "));
    assert!(old.recv_bytes().is_err(), "the connection goes on");
    // A new program at an old manager.
    let listener = Listener::bind_with_key(Address::Abstract(Vec::new()), KEY).unwrap();
    let address = listener.address().clone();
    let other = std::thread::spawn(move || {
        let mut connection = listener.accept().unwrap().authenticate().unwrap();
        connection.recv_bytes().unwrap();
        connection.send_bytes(b"mp-manager 0.0.9, protocol 0").unwrap();
    });
    match Remote::connect(address, KEY) {
        Err(RemoteError::Build { theirs, .. }) => assert_eq!(theirs, "mp-manager 0.0.9, protocol 0"),
        other => panic!("{other:?}"),
    }
    other.join().unwrap();
});

scenario!(descriptors_do_not_leave_the_machine_and_the_connection_goes_on, {
    let manager = Manager::spawn().unwrap();
    let files = Map::<u64, Fd<OwnedFd>>::new(&manager).unwrap();
    let null = || Fd(OwnedFd::from(std::fs::File::open("/dev/null").unwrap()));
    files.insert(1, null()).unwrap();
    manager.publish("files", &files).unwrap();
    let remote = connect(&manager.listen(Address::Abstract(Vec::new()), KEY).unwrap().to_string());
    let there = remote.get::<Map<u64, Fd<OwnedFd>>>("files").unwrap();
    let error = there.insert(2, null()).unwrap_err();
    assert!(matches!(&error, CallError::Encode(error) if error.to_string().contains("descriptors")), "{error:?}");
    assert!(matches!(there.get(&1), Err(CallError::Encode(_))));
    assert_eq!(there.len().unwrap(), 1);
    let inner = Map::<u64, Map<u64, u64>>::new(&remote).unwrap();
    assert!(matches!(inner.insert(1, Map::new(&remote).unwrap()), Err(CallError::Encode(_))));
    assert!(inner.is_empty().unwrap());
});

scenario!(an_address_that_other_machines_reach_has_to_be_asked_for, {
    let manager = Manager::here().unwrap();
    for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:0", "example.com:0"] {
        let refused = manager.listen(address.parse::<Address>().unwrap(), KEY).unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::InvalidInput, "{address}");
    }
    let address = manager.listen_publicly("0.0.0.0:0".parse::<Address>().unwrap(), AuthKey::from(KEY)).unwrap();
    let Address::Tcp(address) = address else { panic!("{address}") };
    connect(&format!("127.0.0.1:{}", address.port()));
});

// Python: a key plus pickle is code execution for whoever has the key.
scenario!(who_has_the_key_can_send_any_bytes_and_harms_only_its_own_connection, {
    let manager = Manager::spawn().unwrap();
    let map = Map::<u64, u64>::new(&manager).unwrap();
    manager.publish("map", &map).unwrap();
    let address = manager.listen(Address::Abstract(Vec::new()), KEY).unwrap();
    let mut random = mp_testing::faults::Random::new();
    let mut hello = Client::connect_with_key(&address, KEY).unwrap();
    hello.send_bytes(b"?").unwrap();
    let build = hello.recv_bytes().unwrap().split(|byte| *byte == b'\n').next().unwrap().to_vec();
    for _ in 0..50 {
        let mut connection = Client::connect_with_key(&address, KEY).unwrap();
        connection.send_bytes(&build).unwrap();
        connection.recv_bytes().unwrap();
        for _ in 0..random.below(5) {
            let bytes: Vec<u8> = (0..random.below(60)).map(|_| (random.next() % 20) as u8).collect();
            if connection.send_bytes(&bytes).is_err() {
                break;
            }
        }
    }
    let remote = connect(&address.to_string());
    remote.get::<Map<u64, u64>>("map").unwrap().insert(1, 2).unwrap();
    assert_eq!(map.get(&1).unwrap(), Some(2));
});
