//! What goes through a lane: see the table of the [module](super).

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, OwnedFd};

use crate::sys::socket::{self, MAX_HANDLES};

pub(super) const HEADER: usize = 8;

pub(super) const KIND_PART: u8 = 0;
pub(super) const KIND_END: u8 = 1;
pub(super) const KIND_ABORT: u8 = 2;
pub(super) const KIND_WITHDRAWN: u8 = 3;

/// The most bytes of a message in one frame.
const MOST_BYTES: usize = u32::MAX as usize;

/// Sends a frame, or several if one cannot hold everything; the last one is of `kind`.
pub(super) fn send_frame(lane: &OwnedFd, kind: u8, bytes: &[u8], handles: &[OwnedFd]) -> io::Result<()> {
    let mut handles = handles;
    while handles.len() > MAX_HANDLES {
        let (some, rest) = handles.split_at(MAX_HANDLES);
        send_one_frame(lane, KIND_PART, &[], some)?;
        handles = rest;
    }
    let mut bytes = bytes;
    while bytes.len() > MOST_BYTES {
        let (some, rest) = bytes.split_at(MOST_BYTES);
        send_one_frame(lane, KIND_PART, some, handles)?;
        (bytes, handles) = (rest, &[]);
    }
    send_one_frame(lane, kind, bytes, handles)
}

fn send_one_frame(lane: &OwnedFd, kind: u8, bytes: &[u8], handles: &[OwnedFd]) -> io::Result<()> {
    let mut header = [kind, handles.len() as u8, 0, 0, 0, 0, 0, 0];
    header[4..].copy_from_slice(&(bytes.len() as u32).to_le_bytes());
    let handles: Vec<_> = handles.iter().map(AsFd::as_fd).collect();
    socket::send_all(lane.as_fd(), [IoSlice::new(&header), IoSlice::new(bytes)], &handles)
}
