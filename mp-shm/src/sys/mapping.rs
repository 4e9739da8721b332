//! Mapping files.

use std::io;
use std::ops::Range;
use std::os::fd::{AsRawFd, BorrowedFd};

use memmap2::{MmapOptions, MmapRaw};

/// Maps bytes of a file for reading and writing.
pub(crate) fn writable(file: BorrowedFd<'_>, bytes: Range<u64>) -> io::Result<MmapRaw> {
    options(bytes)?.map_raw(file.as_raw_fd())
}

/// Maps bytes of a file for reading.
pub(crate) fn readable(file: BorrowedFd<'_>, bytes: Range<u64>) -> io::Result<MmapRaw> {
    // A private mapping, because kernels before 6.7 refuse a shared one of a file that is sealed
    // against writing, even for reading. It shows the same pages. SAFETY: the `Mmap`, whose content
    // must not change, is at once converted to a raw mapping and never read through.
    let mapping = unsafe { options(bytes)?.map_copy_read_only(file.as_raw_fd()) }?;
    Ok(mapping.into())
}

/// The length is at least one byte, because there are no empty mappings.
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
