//! Whatever a peer sends, receiving it is an error, closes what came with it, takes no memory, and
//! the next message arrives.

use std::fs::File;
use std::io::{IoSlice, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use mp_core::raw::Message;
use mp_core::{Receiver, RecvError};
use mp_testing::leaks::{Resources, status_kib};
use mp_testing::scenario;
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType, sendmsg, socket_with,
    socketpair,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

const INLINE: u8 = 0;
const FILE: u8 = 1;
const BUNDLE: u8 = 1;
const RECEIPT: u8 = 2;

/// Encoded as every handle is, so that a socket goes in and a receiver comes out.
#[derive(Serialize, Deserialize)]
struct Handle(#[serde(with = "mp_core::fd")] OwnedFd);

fn sockets(kind: SocketType) -> (OwnedFd, OwnedFd) {
    socketpair(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None).unwrap()
}

/// A socket to send anything over, and what receives it.
struct Attack<T> {
    raw: OwnedFd,
    receiver: Receiver<T>,
    before: Resources,
}

impl<T: DeserializeOwned + std::fmt::Debug> Attack<T> {
    fn new() -> Self {
        let (raw, theirs) = sockets(SocketType::SEQPACKET);
        let receiver = Message::encode(&Handle(theirs)).unwrap().decode().unwrap();
        Self { raw, receiver, before: Resources::of_this_process() }
    }

    /// Sends a packet, and returns what its receiver says.
    #[track_caller]
    fn send(&self, packet: &[u8], handles: &[BorrowedFd<'_>]) -> RecvError {
        send(&self.raw, packet, handles);
        match self.receiver.try_recv() {
            Err(error) => error,
            other => panic!("{packet:?} was taken for {other:?}"),
        }
    }

    /// Fails if a good message does not arrive, or something is left of the bad ones.
    #[track_caller]
    fn end(&self, good: &[u8]) {
        assert_eq!(Resources::of_this_process(), self.before);
        send(&self.raw, &packet(INLINE, 0, 0, good.len() as u64, good), &[]);
        self.receiver.try_recv().expect("a good message arrives").expect("it arrives at once");
    }
}

#[track_caller]
fn send(socket: &OwnedFd, packet: &[u8], handles: &[BorrowedFd<'_>]) {
    try_send(socket, packet, handles).unwrap();
}

fn try_send(socket: &OwnedFd, packet: &[u8], handles: &[BorrowedFd<'_>]) -> rustix::io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(253))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !handles.is_empty() {
        assert!(ancillary.push(SendAncillaryMessage::ScmRights(handles)));
    }
    sendmsg(socket, &[IoSlice::new(packet)], &mut ancillary, SendFlags::NOSIGNAL)
}

fn packet(kind: u8, flags: u8, handles: u32, length: u64, body: &[u8]) -> Vec<u8> {
    let mut packet = vec![kind, flags, 0, 0];
    packet.extend(handles.to_le_bytes());
    packet.extend(length.to_le_bytes());
    packet.extend(body);
    packet
}

fn null() -> OwnedFd {
    File::open("/dev/null").unwrap().into()
}

/// A memory file with these bytes.
fn memory(bytes: &[u8]) -> OwnedFd {
    let mut file: File = memfd_create("test", MemfdFlags::CLOEXEC).unwrap().into();
    file.write_all(bytes).unwrap();
    file.into()
}

scenario!(a_packet_that_ends_early_is_truncated, {
    let attack = Attack::<u32>::new();
    let whole = packet(INLINE, 0, 0, 4, &[1, 2, 3, 4]);
    for length in 1..whole.len() {
        assert!(matches!(attack.send(&whole[..length], &[]), RecvError::Truncated), "{length} bytes");
    }
    assert!(matches!(attack.send(&packet(INLINE, 0, 0, 1 << 30, &[1]), &[]), RecvError::Truncated));
    // A packet of nothing looks like the end.
    assert!(matches!(attack.send(&[], &[null().as_fd()]), RecvError::Disconnected));
    attack.end(&[0; 4]);
});

scenario!(a_packet_of_another_form_is_malformed, {
    let attack = Attack::<u32>::new();
    let malformed = |packet: &[u8], handles: &[BorrowedFd<'_>]| {
        let error = attack.send(packet, handles);
        assert!(matches!(error, RecvError::Malformed(_)), "{packet:?}: {error:?}");
    };
    malformed(&packet(INLINE, 0, 0, 3, &[1, 2, 3, 4]), &[]);
    malformed(&packet(2, 0, 0, 4, &[1, 2, 3, 4]), &[]);
    malformed(&packet(255, 0, 0, 4, &[1, 2, 3, 4]), &[]);
    for flags in [4, 8, 128, 255] {
        malformed(&packet(INLINE, flags, 0, 4, &[1, 2, 3, 4]), &[null().as_fd(), null().as_fd()]);
    }
    for reserved in [2, 3] {
        let mut packet = packet(INLINE, 0, 0, 4, &[1, 2, 3, 4]);
        packet[reserved] = 1;
        malformed(&packet, &[]);
    }
    malformed(&packet(FILE, 0, 0, 4, &[1, 2, 3, 4]), &[memory(&[0; 4]).as_fd()]);
    attack.end(&[0; 4]);
});

scenario!(an_announced_length_beyond_the_limit_is_too_large, {
    let attack = Attack::<ByteBuf>::new();
    let limit = mp_core::message_limit();
    for announced in [u64::MAX, limit + 1] {
        for (kind, handles) in [(INLINE, vec![]), (FILE, vec![memory(&[0; 4])])] {
            let handles: Vec<_> = handles.iter().map(AsFd::as_fd).collect();
            match attack.send(&packet(kind, 0, 0, announced, &[]), &handles) {
                RecvError::TooLarge { length, limit: of } => assert_eq!((length, of), (announced, limit)),
                other => panic!("{other:?}"),
            }
        }
    }
    attack.end(&[0; 8]);
});

scenario!(missing_and_surplus_descriptors_are_malformed, {
    let attack = Attack::<Vec<Opened>>::new();
    let (a, b) = (null(), null());
    let both = [a.as_fd(), b.as_fd()];
    let cases: [(u8, u8, u32, &[BorrowedFd<'_>]); 10] = [
        (INLINE, 0, 1, &[]),
        (INLINE, 0, u32::MAX, &both),
        (INLINE, 0, 0, &both),
        (INLINE, 0, 1, &both),
        (FILE, 0, 0, &[]),
        (INLINE, RECEIPT, 0, &[]),
        (INLINE, BUNDLE, 0, &[]),
        (INLINE, BUNDLE | RECEIPT, 0, &[a.as_fd()]),
        (FILE, RECEIPT, 0, &[a.as_fd()]),
        (INLINE, RECEIPT, 2, &both),
    ];
    for (kind, flags, count, handles) in cases {
        let body: &[u8] = if kind == INLINE { &[0; 8] } else { &[] };
        let error = attack.send(&packet(kind, flags, count, body.len() as u64, body), handles);
        assert!(matches!(error, RecvError::Malformed(_)), "{kind} {flags} {count}: {error:?}");
    }
    drop((a, b));
    attack.end(&[0; 8]);
});

#[derive(Debug, Serialize, Deserialize)]
struct Opened(#[serde(with = "mp_core::fd")] OwnedFd);

scenario!(handles_that_the_value_does_not_name_as_it_should_are_undecodable, {
    let attack = Attack::<Vec<Opened>>::new();
    let (a, b) = (null(), null());
    let both = [a.as_fd(), b.as_fd()];
    let indices = |indices: &[u32]| {
        let mut body = (indices.len() as u64).to_le_bytes().to_vec();
        indices.iter().for_each(|index| body.extend(index.to_le_bytes()));
        packet(INLINE, 0, 2, body.len() as u64, &body)
    };
    for wrong in [&[0][..], &[], &[0, 0], &[0, 2], &[0, u32::MAX], &[0, 1, 1]] {
        assert!(matches!(attack.send(&indices(wrong), &both), RecvError::Decode(_)), "{wrong:?}");
    }
    send(&attack.raw, &indices(&[1, 0]), &both);
    assert_eq!(attack.receiver.recv().unwrap().len(), 2);
    drop((a, b));
    attack.end(&[0; 8]);
});

scenario!(a_large_message_has_to_be_a_memory_file_that_is_long_enough, {
    let attack = Attack::<ByteBuf>::new();
    let bytes = [5, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5];
    let mut regular = tempfile::tempfile().unwrap();
    regular.write_all(&bytes).unwrap();
    let (reader, _writer) = rustix::pipe::pipe().unwrap();
    let (socket, _peer) = sockets(SocketType::SEQPACKET);
    let files = [
        memory(&bytes[..12]),
        memory(&[]),
        regular.into(),
        reader,
        socket,
        null(),
        File::open("/proc/self/exe").unwrap().into(),
        File::open("/").unwrap().into(),
        File::open("/proc/self/status").unwrap().into(),
    ];
    for file in &files {
        let error = attack.send(&packet(FILE, 0, 0, 13, &[]), &[file.as_fd()]);
        assert!(matches!(error, RecvError::Decode(_)), "{file:?}: {error:?}");
    }
    drop((files, _writer, _peer));
    let good = memory(&bytes);
    send(&attack.raw, &packet(FILE, 0, 0, 13, &[]), &[good.as_fd()]);
    assert_eq!(attack.receiver.recv().unwrap(), bytes[8..]);
    // What is in it is checked like anything else.
    for garbage in [[0xFF; 13], [6; 13]] {
        let file = memory(&garbage);
        let error = attack.send(&packet(FILE, 0, 0, 13, &[]), &[file.as_fd()]);
        assert!(matches!(error, RecvError::Decode(_)), "{error:?}");
    }
    drop(good);
    attack.end(&[0; 8]);
});

scenario!(a_bundle_of_handles_has_to_be_one, {
    let attack = Attack::<Vec<Opened>>::new();
    let body = [2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0];
    let with_bundle = packet(INLINE, BUNDLE, 2, 16, &body);
    let handle = null();
    let malformed = |what: &str, bundle: &OwnedFd| {
        let error = attack.send(&with_bundle, &[bundle.as_fd()]);
        assert!(matches!(error, RecvError::Malformed(_) | RecvError::Io(_)), "{what}: {error:?}");
    };
    malformed("a file", &handle);
    // It holds what a bundle should, but without the boundaries between packets.
    let (near, far) = sockets(SocketType::STREAM);
    send(&near, &[0], &[handle.as_fd(), handle.as_fd()]);
    malformed("a stream", &far);
    drop((near, far));
    let unconnected = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
    malformed("not connected", &unconnected);
    drop(unconnected);

    let (near, far) = sockets(SocketType::SEQPACKET);
    malformed("empty and open", &far);
    send(&near, &[0], &[handle.as_fd()]);
    malformed("one too few, and open", &far);
    send(&near, &[0], &[handle.as_fd()]);
    drop(near);
    malformed("one too few", &far);
    drop(far);

    let (near, far) = sockets(SocketType::SEQPACKET);
    send(&near, &[0], &[]);
    send(&near, &[0], &[handle.as_fd(), handle.as_fd()]);
    malformed("with a packet without handles", &far);
    drop((near, far));
    let (near, far) = sockets(SocketType::SEQPACKET);
    send(&near, &[0, 0], &[handle.as_fd(), handle.as_fd()]);
    malformed("with a packet that is too long", &far);
    drop((near, far));
    let (near, far) = sockets(SocketType::SEQPACKET);
    send(&near, &[0], &[handle.as_fd(); 3]);
    malformed("one too many", &far);
    drop((near, far));
    // A bundle that holds its own other end, which is a loop that the kernel has to collect.
    let (near, far) = sockets(SocketType::SEQPACKET);
    send(&near, &[0], &[far.as_fd()]);
    malformed("a loop", &far);
    drop((near, far));

    let (near, far) = sockets(SocketType::SEQPACKET);
    send(&near, &[0], &[handle.as_fd()]);
    send(&near, &[0], &[handle.as_fd()]);
    send(&attack.raw, &with_bundle, &[far.as_fd()]);
    assert_eq!(attack.receiver.recv().unwrap().len(), 2);
    drop((near, far, handle));
    attack.end(&[0; 8]);
});

scenario!(a_packet_longer_than_any_of_ours_is_an_error, {
    let attack = Attack::<ByteBuf>::new();
    let handle = null();
    let long = packet(INLINE, 0, 0, 206_000, &[0; 206_000]);
    assert!(matches!(attack.send(&long, &[handle.as_fd(); 253]), RecvError::Io(_) | RecvError::Malformed(_)));
    let most = packet(INLINE, 0, 0, 1, &[0]);
    assert!(matches!(attack.send(&most, &[handle.as_fd(); 253]), RecvError::Malformed(_)));
    drop(handle);
    attack.end(&[0; 8]);
});

scenario!(huge_numbers_inside_of_a_value_take_no_memory, {
    let attack = Attack::<Vec<Vec<[u64; 32]>>>::new();
    let before = status_kib("VmHWM");
    for length in [u64::MAX, u64::MAX / 256, 1 << 40, 1 << 30, 1 << 20] {
        let body = length.to_le_bytes();
        let nested = [1_u64.to_le_bytes(), body].concat();
        for body in [&body[..], &nested] {
            let error = attack.send(&packet(INLINE, 0, 0, body.len() as u64, body), &[]);
            assert!(matches!(error, RecvError::Decode(_)), "{error:?}");
        }
    }
    let grown = status_kib("VmHWM") - before;
    assert!(grown < 16 << 10, "{grown} KiB");
    attack.end(&[0; 8]);
});

/// The form of a message in a message: it is in a file, of this length, and has no receipt and no
/// descriptors.
type Nested<'a> = (u32, &'a Handle, u64, Option<()>, Vec<()>);

scenario!(messages_in_a_message_that_are_all_in_one_file_take_no_more_than_the_limit, {
    const LENGTH: usize = 1 << 20;
    mp_core::set_message_limit(4 * LENGTH as u64);
    let file = Handle(memory(&[7; LENGTH]));
    let before = status_kib("VmHWM");
    for _ in 0..2 {
        let nested: Vec<Nested<'_>> = vec![(1, &file, LENGTH as u64, None, Vec::new()); 300];
        let messages: Vec<Message> = Message::encode(&nested).unwrap().decode().unwrap();
        assert!(messages.iter().all(|message| message.encoded_len() == LENGTH as u64));
        assert_eq!(messages[299].to_vec().unwrap(), [7; LENGTH]);
    }
    let grown = status_kib("VmHWM") - before;
    assert!(grown < 16 << 10, "{grown} KiB");
});

/// Numbers that are the same in every run: xorshift64*.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

#[derive(Debug, Serialize, Deserialize)]
enum Anything {
    Unit,
    Text(String, Option<char>),
    Nested(Vec<Anything>),
    Handles { first: Opened, rest: Vec<Opened>, flag: bool },
    Boxed(Box<Anything>),
}

scenario!(packets_of_chance_are_errors_or_values_and_leave_nothing, {
    let attack = Attack::<Anything>::new();
    let (memory_file, handle) = (memory(&[7; 64]), null());
    let (near, far) = sockets(SocketType::SEQPACKET);
    let mut values = 0;
    for seed in 1..=20_000 {
        let mut random = Random(seed);
        // Mostly of the right form, so that some get far.
        let mut body = Vec::new();
        for _ in 0..random.below(if seed % 4 == 0 { 16 } else { 4 }) {
            let number = random.below(4);
            match random.below(4) {
                0 => body.extend(number.to_le_bytes()),
                1 | 2 => body.extend((number as u32).to_le_bytes()),
                _ => body.push(number as u8),
            }
        }
        let odd = |random: &mut Random| random.below(8) == 0;
        let announced = if odd(&mut random) { random.next() } else { body.len() as u64 };
        let kind = if odd(&mut random) { random.below(3) as u8 } else { INLINE };
        let flags = if odd(&mut random) { random.below(5) as u8 } else { 0 };
        let count = random.below(3);
        let said = if odd(&mut random) { random.below(4) } else { count };
        let mut packet = packet(kind, flags, said as u32, announced, &body);
        if seed % 200 == 0 {
            send(&near, &[0], &[handle.as_fd()]);
        }
        if random.below(16) == 0 {
            let place = random.below(packet.len() as u64) as usize;
            packet[place] = random.next() as u8;
        }
        let choices = [handle.as_fd(), memory_file.as_fd(), far.as_fd()];
        let handles: Vec<_> = (0..count).map(|_| choices[random.below(3) as usize]).collect();
        send(&attack.raw, &packet, &handles);
        if attack.receiver.try_recv().is_ok() {
            values += 1;
        }
    }
    assert!(values > 100, "only {values} packets were good enough to test anything");
    drop((memory_file, handle, near, far));
    attack.end(&[0; 4]);
});
