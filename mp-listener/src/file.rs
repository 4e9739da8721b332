//! The file of a unix socket.

use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use mp_core::raw::forks;

/// Removes the file when dropped, if it is still the one that was bound. A copy of the process,
/// made by `fork`, leaves it to the original.
pub(crate) struct SocketFile {
    /// An absolute path, because the working directory may change.
    path: PathBuf,
    device: u64,
    inode: u64,
    forks: u32,
}

impl SocketFile {
    /// Takes ownership of the file that was just bound.
    pub(crate) fn bound(path: &Path) -> io::Result<Self> {
        let path = std::path::absolute(path)?;
        let metadata = path.symlink_metadata()?;
        Ok(Self { path, device: metadata.dev(), inode: metadata.ino(), forks: forks() })
    }

    fn is_ours(&self) -> bool {
        self.path.symlink_metadata().is_ok_and(|metadata| {
            metadata.file_type().is_socket() && (metadata.dev(), metadata.ino()) == (self.device, self.inode)
        })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.forks == forks() && self.is_ours() {
            // A drop cannot report an error.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}
