//! Files as memory of this process.

use std::io;
use std::ops::Range;
use std::os::fd::{AsRawFd, BorrowedFd};

use memmap2::{MmapOptions, MmapRaw};

/// Maps the bytes, to read and to write, with the pages that they begin and end in.
pub(crate) fn writable(file: BorrowedFd<'_>, bytes: Range<u64>) -> io::Result<MmapRaw> {
    options(bytes)?.map_raw(file.as_raw_fd())
}

/// Maps the bytes of a file, to read.
pub(crate) fn readable(file: BorrowedFd<'_>, bytes: Range<u64>) -> io::Result<MmapRaw> {
    // A private mapping, because kernels before 6.7 refuse a shared one of a file that is sealed
    // against writers, even to read. It shows the same pages.
    // SAFETY: nobody reads through the `Mmap`, which would have to be sure that the file does not
    // change: it becomes a raw mapping.
    let mapping = unsafe { options(bytes)?.map_copy_read_only(file.as_raw_fd()) }?;
    Ok(mapping.into())
}

/// Of at least one byte: there are no empty mappings.
fn options(bytes: Range<u64>) -> io::Result<MmapOptions> {
    let length = bytes.end.checked_sub(bytes.start).and_then(|length| usize::try_from(length).ok());
    match length {
        Some(length) if length > 0 => {
            let mut options = MmapOptions::new();
            options.offset(bytes.start).len(length);
            Ok(options)
        }
        _ => Err(io::ErrorKind::InvalidInput.into()),
    }
}
