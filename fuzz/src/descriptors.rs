//! Descriptors of every kind that a peer could send, described by a few bytes.

use std::fs::File;
use std::io::{IoSlice, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType, sendmsg, socket_with,
    socketpair,
};

/// What a memory file can be grown to, beyond what is written into it.
const HOLE: u64 = 1 << 40;

/// Takes an input apart. What is not there is zero.
pub struct Script<'a>(pub &'a [u8]);

impl<'a> Script<'a> {
    pub fn byte(&mut self) -> u8 {
        self.bytes(1).first().copied().unwrap_or(0)
    }

    pub fn word(&mut self) -> usize {
        usize::from(u16::from_le_bytes([self.byte(), self.byte()]))
    }

    /// At most `length` bytes.
    pub fn bytes(&mut self, length: usize) -> &'a [u8] {
        let (head, tail) = self.0.split_at(length.min(self.0.len()));
        self.0 = tail;
        head
    }

    pub fn is_at_end(&self) -> bool {
        self.0.is_empty()
    }
}

/// A descriptor, and what has to stay open beside it.
pub struct Beside {
    pub fd: OwnedFd,
    _far: Option<OwnedFd>,
    /// The bytes of memory that it brings along.
    pub weight: usize,
}

impl Beside {
    fn plain(fd: impl Into<OwnedFd>) -> Self {
        Self { fd: fd.into(), _far: None, weight: 0 }
    }
}

pub fn pair(kind: SocketType) -> (OwnedFd, OwnedFd) {
    socketpair(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None).expect("a pair of sockets")
}

/// Makes what the next bytes describe.
pub fn make(script: &mut Script<'_>) -> Beside {
    match script.byte() % 13 {
        0 => Beside::plain(File::open("/dev/null").expect("it exists")),
        1 => Beside::plain(rustix::pipe::pipe().expect("a pipe").0),
        2 => Beside::plain(rustix::pipe::pipe().expect("a pipe").1),
        3 => memory(script, SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL),
        4 => {
            let seals = SealFlags::from_bits_truncate(script.byte().into());
            memory(script, seals)
        }
        5 => {
            let (near, far) = pair(SocketType::SEQPACKET);
            Beside { fd: near, _far: Some(far), weight: 0 }
        }
        6 => Beside::plain(pair(SocketType::SEQPACKET).0),
        7 => Beside::plain(pair(SocketType::STREAM).0),
        8 => Beside::plain(File::open("/").expect("it exists")),
        9 => Beside::plain(
            socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).expect("a socket"),
        ),
        10 => {
            let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING | MemfdFlags::HUGETLB;
            let file = memfd_create("fuzz", flags).or_else(|_| memfd_create("fuzz", MemfdFlags::CLOEXEC));
            let file = file.expect("a memory file");
            // The kernel may have made one that cannot be sealed.
            let _ = fcntl_add_seals(&file, SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW);
            Beside::plain(file)
        }
        _ => bundle(script),
    }
}

fn memory(script: &mut Script<'_>, seals: SealFlags) -> Beside {
    let file = memfd_create("fuzz", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).expect("a memory file");
    let mut file = File::from(file);
    let (length, repeat, hole) = (script.word(), script.byte(), script.byte());
    let bytes = script.bytes(length);
    let times = if bytes.len() < 1 << 12 { usize::from(repeat).max(1) } else { 1 };
    for _ in 0..times {
        file.write_all(bytes).expect("room for it");
    }
    if hole % 8 == 1 {
        ftruncate(&file, HOLE).expect("a hole takes no room");
    }
    // What contradicts itself is refused, which leaves a file with fewer seals.
    let _ = fcntl_add_seals(&file, seals);
    Beside { fd: file.into(), _far: None, weight: bytes.len() * times }
}

/// A socket that holds packets of descriptors.
fn bundle(script: &mut Script<'_>) -> Beside {
    let (near, far) = pair(SocketType::SEQPACKET);
    let null = File::open("/dev/null").expect("it exists");
    let packets = script.byte();
    for _ in 0..packets % 4 {
        let (count, length) = (script.byte(), script.byte());
        // One bundle in itself is a loop, which the kernel has to collect.
        let inside = if count == 255 { far.as_fd() } else { null.as_fd() };
        send(near.as_fd(), &[0; 2][..usize::from(length % 3)], &vec![inside; usize::from(count) % 254]);
    }
    let open = packets & 0x80 != 0;
    Beside { fd: far, _far: open.then_some(near), weight: 0 }
}

/// Sends one packet if there is room for it.
pub fn send(socket: BorrowedFd<'_>, packet: &[u8], beside: &[BorrowedFd<'_>]) {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(253))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !beside.is_empty() {
        assert!(ancillary.push(SendAncillaryMessage::ScmRights(beside)));
    }
    let _ = sendmsg(socket, &[IoSlice::new(packet)], &mut ancillary, SendFlags::NOSIGNAL | SendFlags::DONTWAIT);
}
