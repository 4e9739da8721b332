//! Ends of connections, and files, inside values: as arguments, as results, and over other
//! connections.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use mp_core::raw::Message;
use mp_core::{Connection, Fd, Receiver, RecvError, Sender, duplex, pipe, process_fn};
use mp_testing::leaks::Resources;
use mp_testing::{PATIENCE, scenario};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

#[derive(Debug, Serialize, Deserialize)]
struct Open(#[serde(with = "mp_core::fd")] File);

#[derive(Serialize, Deserialize)]
struct Stream {
    name: String,
    #[serde(with = "mp_core::fd")]
    stream: UnixStream,
}

/// Writes its number into each file that there is, and gives them back in reverse.
#[process_fn]
fn sign(first: Fd<File>, second: Option<Fd<OwnedFd>>, more: Vec<Fd<File>>, none: Option<Fd<File>>) -> Vec<Fd<File>> {
    let second = second.map(|fd| Fd(File::from(fd.into_inner())));
    let mut files: Vec<_> = [first].into_iter().chain(second).chain(more).chain(none).collect();
    for (number, file) in files.iter_mut().enumerate() {
        write!(file, "file {number}").unwrap();
    }
    files.reverse();
    files
}

scenario!(files_are_arguments_and_results_of_any_shape, {
    let files: Vec<_> = (0..4).map(|_| tempfile::tempfile().unwrap()).collect();
    let copy = |index: usize| files[index].try_clone().unwrap();
    let more = vec![Fd(copy(2)), copy(3).into()];
    let back = sign::spawn(Fd(copy(0)), Some(Fd(copy(1).into())), more, None).unwrap().join().unwrap();
    assert_eq!(back.len(), 4);
    for (number, mut file) in back.into_iter().rev().enumerate() {
        file.rewind().unwrap();
        assert_eq!(std::io::read_to_string(&mut *file).unwrap(), format!("file {number}"));
        // The same file, not a copy of it.
        drop(file);
        let mut original = &files[number];
        original.rewind().unwrap();
        assert_eq!(std::io::read_to_string(original).unwrap(), format!("file {number}"));
    }
});

#[derive(Serialize, Deserialize)]
enum Order {
    Double(u32, Sender<u32>),
    Both { numbers: Option<Receiver<u32>>, answers: Vec<Sender<u32>>, named: BTreeMap<String, Sender<u32>> },
    Stop,
}

#[process_fn]
fn obey(orders: Receiver<Order>) -> u32 {
    let mut obeyed = 0;
    for order in &orders {
        match order.unwrap() {
            Order::Double(number, answer) => answer.send(number * 2).unwrap(),
            Order::Both { numbers, answers, named } => {
                for (number, answer) in numbers.unwrap().iter().zip(answers.iter().chain(named.values())) {
                    answer.send(number.unwrap()).unwrap();
                }
            }
            Order::Stop => break,
        }
        obeyed += 1;
    }
    obeyed
}

scenario!(ends_travel_over_other_connections, {
    let (orders, receiver) = pipe().unwrap();
    let process = obey::spawn(receiver).unwrap();
    for number in 0..20 {
        let (sender, answer) = pipe().unwrap();
        orders.send(Order::Double(number, sender)).unwrap();
        assert_eq!(answer.recv().unwrap(), number * 2);
        assert!(matches!(answer.recv(), Err(RecvError::Disconnected)));
    }
    orders.send(Order::Stop).unwrap();
    assert_eq!(process.join().unwrap(), 20);
});

scenario!(ends_travel_inside_of_any_shape, {
    let (orders, receiver) = pipe().unwrap();
    let process = obey::spawn(receiver).unwrap();
    let (numbers, theirs) = pipe().unwrap();
    let (answers, answer): (Vec<_>, Vec<_>) = (0..3).map(|_| pipe().unwrap()).unzip();
    let (last, last_answer) = pipe().unwrap();
    let named = BTreeMap::from([("last".to_owned(), last)]);
    orders.send(Order::Both { numbers: Some(theirs), answers, named }).unwrap();
    (10..14).for_each(|number| numbers.send(number).unwrap());
    drop(numbers);
    let received: Vec<u32> = answer.iter().chain([&last_answer]).map(|answer| answer.recv().unwrap()).collect();
    assert_eq!(received, [10, 11, 12, 13]);
    drop(orders);
    assert_eq!(process.join().unwrap(), 1);
});

type Duplex = (Connection<u8, u16>, Connection<u16, u8>);

#[process_fn]
fn make_ends() -> (Sender<String>, Receiver<String>, Option<Duplex>) {
    let (sender, receiver) = pipe().unwrap();
    let (left, right) = duplex().unwrap();
    sender.send("from a process that is gone".to_owned()).unwrap();
    (sender, receiver, Some((left, right)))
}

scenario!(ends_come_back_as_results, {
    let (sender, receiver, connections) = make_ends::spawn().unwrap().join().unwrap();
    assert_eq!(receiver.recv().unwrap(), "from a process that is gone");
    sender.send("from here".to_owned()).unwrap();
    assert_eq!(receiver.recv().unwrap(), "from here");
    let (left, right) = connections.unwrap();
    left.send(8).unwrap();
    assert_eq!(right.recv().unwrap(), 8);
    drop(sender);
    assert!(matches!(receiver.recv(), Err(RecvError::Disconnected)));
});

#[process_fn]
fn pass_on(through: Connection<Receiver<u32>, Receiver<u32>>) {
    let end = through.recv().unwrap();
    through.send(end).unwrap();
}

scenario!(an_end_goes_away_and_back_with_what_is_in_it, {
    let (sender, receiver) = pipe().unwrap();
    sender.send(1).unwrap();
    let (mine, theirs) = duplex().unwrap();
    let process = pass_on::spawn(theirs).unwrap();
    mine.send(receiver).unwrap();
    let receiver = mine.recv().unwrap();
    sender.send(2).unwrap();
    assert_eq!((receiver.recv().unwrap(), receiver.recv().unwrap()), (1, 2));
    process.join().unwrap();
});

scenario!(an_end_belongs_to_its_receiver_alone, {
    let (sender, receiver) = pipe::<u32>().unwrap();
    let (carrier, carried) = pipe().unwrap();
    carrier.send(sender).unwrap();
    let sender: Sender<u32> = carried.recv().unwrap();
    drop(sender);
    assert!(matches!(receiver.recv(), Err(RecvError::Disconnected)));
    // By reference it is duplicated.
    let (sender, receiver) = pipe::<u32>().unwrap();
    carrier.send_ref(&sender).unwrap();
    drop(sender);
    let sender = carried.recv().unwrap();
    sender.send(5).unwrap();
    assert_eq!(receiver.recv().unwrap(), 5);
});

scenario!(an_end_travels_over_itself, {
    #[derive(Serialize, Deserialize)]
    struct Recursive(Option<Box<Sender<Recursive>>>);
    let (sender, receiver) = pipe::<Recursive>().unwrap();
    sender.send(Recursive(Some(Box::new(sender.try_clone().unwrap())))).unwrap();
    drop(sender);
    let Recursive(Some(sender)) = receiver.recv().unwrap() else { panic!("the end is missing") };
    sender.send(Recursive(None)).unwrap();
    drop(sender);
    assert!(receiver.recv().unwrap().0.is_none());
    assert!(matches!(receiver.recv(), Err(RecvError::Disconnected)));
});

#[process_fn]
fn append(mut open: Open, stream: Stream, large: ByteBuf) -> (Open, usize) {
    let mut text = String::new();
    (&stream.stream).read_to_string(&mut text).unwrap();
    write!(open.0, "{}: {text}", stream.name).unwrap();
    (open, large.len())
}

scenario!(files_and_sockets_travel_with_large_values, {
    let file = tempfile::tempfile().unwrap();
    let (mut mine, theirs) = UnixStream::pair().unwrap();
    mine.write_all(b"hello").unwrap();
    drop(mine);
    let stream = Stream { name: "stream".to_owned(), stream: theirs };
    let large = ByteBuf::from(vec![0; 200_000]);
    let process = append::spawn(Open(file.try_clone().unwrap()), stream, large).unwrap();
    let (mut back, length) = process.join().unwrap();
    assert_eq!(length, 200_000);
    let mut text = String::new();
    back.0.rewind().unwrap();
    back.0.read_to_string(&mut text).unwrap();
    assert_eq!(text, "stream: hello");
});

#[process_fn]
fn read_all(files: Vec<Open>) -> Vec<u32> {
    files
        .into_iter()
        .map(|mut file| {
            let mut bytes = [0; 4];
            file.0.read_exact(&mut bytes).unwrap();
            u32::from_le_bytes(bytes)
        })
        .collect()
}

#[process_fn]
fn give_back(files: Vec<Open>) -> Vec<Open> {
    files
}

/// Files of which each holds its number.
fn numbered(count: u32) -> Vec<Open> {
    (0..count)
        .map(|number| {
            let mut file: File = rustix::fs::memfd_create("numbered", rustix::fs::MemfdFlags::CLOEXEC).unwrap().into();
            file.write_all(&number.to_le_bytes()).unwrap();
            file.rewind().unwrap();
            Open(file)
        })
        .collect()
}

/// Makes room for `count` descriptors, or tells that the machine has none.
fn room_for(count: u64) -> bool {
    let limit = getrlimit(Resource::Nofile);
    let enough = limit.maximum.is_none_or(|maximum| maximum >= count);
    if enough && limit.current.is_some_and(|current| current < count) {
        setrlimit(Resource::Nofile, Rlimit { current: Some(count), maximum: limit.maximum }).unwrap();
    }
    enough
}

scenario!(more_handles_than_one_packet_takes_arrive_in_order, {
    // The sender holds each three times while it sends: in the value, and twice encoded.
    if !room_for(4_000) {
        println!("not tested: this process may not have 4,000 descriptors");
        return;
    }
    for count in [1, 249, 250, 251, 252, 253, 254, 300, 503, 504, 1_000] {
        let expected: Vec<u32> = (0..count).collect();
        assert_eq!(read_all::spawn(numbered(count)).unwrap().join().unwrap(), expected);
        let (sender, receiver) = pipe().unwrap();
        sender.send(numbered(count)).unwrap();
        assert_eq!(read_all(receiver.recv().unwrap()), expected);
    }
    let back = give_back::spawn(numbered(300)).unwrap().join().unwrap();
    assert_eq!(read_all(back), (0..300).collect::<Vec<_>>());
});

scenario!(a_message_that_is_not_decoded_closes_what_it_carries, {
    let before = Resources::of_this_process();
    let (carrier, carried) = pipe::<(String, Vec<Open>)>().unwrap();
    carrier.send(("text".to_owned(), numbered(300))).unwrap();
    drop((carrier, carried));
    drop(Message::encode(&numbered(3)).unwrap());
    // One that cannot be decoded likewise.
    let (carrier, files) = pipe::<Vec<Open>>().unwrap();
    let carried: Receiver<Vec<String>> = Message::encode(&files).unwrap().decode().unwrap();
    drop(files);
    carrier.send(numbered(300)).unwrap();
    assert!(matches!(carried.recv(), Err(RecvError::Decode(_))));
    carrier.send(numbered(2)).unwrap();
    assert!(matches!(carried.recv_bytes(), Err(RecvError::Decode(_))));
    drop((carrier, carried));
    assert_eq!(Resources::of_this_process(), before);
});

scenario!(what_is_no_connection_is_not_taken_for_one, {
    let (stream, _peer) = UnixStream::pair().unwrap();
    let file: OwnedFd = File::open("/dev/null").unwrap().into();
    for fd in [stream.into(), file] {
        let error = Message::encode(&Open(fd.into())).unwrap().decode::<Sender<u8>>().unwrap_err();
        assert!(error.to_string().contains("not a socket of this library"), "{error}");
    }
});

scenario!(what_is_received_is_not_inherited, {
    let (sender, receiver) = pipe().unwrap();
    sender.send(numbered(2)).unwrap();
    for file in receiver.recv().unwrap() {
        let flags = rustix::io::fcntl_getfd(file.0.as_fd()).unwrap();
        assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
    }
});

#[process_fn]
fn forward(messages: Receiver<Message>, onwards: Sender<Message>) -> u64 {
    let lengths = messages.iter().map(|message| {
        let message = message.unwrap();
        let length = message.encoded_len();
        onwards.send(message).unwrap();
        length
    });
    lengths.sum()
}

scenario!(a_message_passes_through_a_process_that_does_not_know_what_it_is, {
    let (sender, theirs) = pipe().unwrap();
    let (onwards, receiver) = pipe().unwrap();
    let process = forward::spawn(theirs, onwards).unwrap();
    let mut total = 0;
    for size in [0, 16 << 10, 64 << 10, 1 << 20] {
        let message = Message::encode(&(ByteBuf::from(vec![5; size]), numbered(2))).unwrap();
        total += message.encoded_len();
        sender.send(message).unwrap();
        let message: Message = receiver.recv_timeout(PATIENCE).unwrap().unwrap();
        let (bytes, files): (ByteBuf, Vec<Open>) = message.decode().unwrap();
        assert!(bytes.len() == size && bytes.iter().all(|&byte| byte == 5));
        assert_eq!(read_all(files), [0, 1]);
    }
    drop(sender);
    assert_eq!(process.join().unwrap(), total);
});
