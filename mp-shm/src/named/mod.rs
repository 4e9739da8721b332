//! Memory with a name in `/dev/shm`, as C's `shm_open` and Python's `multiprocessing.shared_memory`
//! have it.
//!
//! The kernel does not remove the name of a segment whose creator was killed, and nothing about the
//! file says who that was or whether it wanted the segment to stay. So the creator puts a mark
//! beside it: the *companion*, another name of the same file, `mp-shm.` and 16 digits.
//!
//! | the creator | names of the file | if it is killed then |
//! |---|---|---|
//! | has opened the companion, which makes the file | companion | swept |
//! | has allocated and filled it | companion | swept |
//! | has linked the name: the segment appears, whole | companion, name | both swept, once nobody uses it |
//! | has kept it: the companion is unlinked | name | stays |
//! | has unlinked the name, being dropped | companion | swept, once nobody uses it |
//! | has unlinked the companion | | the kernel frees it with its last user |
//!
//! 1. A file with a companion goes with its creator; one without stays. Only the creator removes
//!    the companion while it lives.
//! 2. The creator has the file open, from before it has its second name until after the last is
//!    gone. So nobody else gets a lease on it as long as it lives. The one exception is the moment
//!    between the kernel making the file and opening it, in one system call: a sweeper that comes
//!    then removes the companion, the link to the name fails, and the creator begins again.
//! 3. Whoever uses the segment has it open or mapped, in whatever language. A sweeper removes names
//!    only under a lease for writing, which the kernel gives while nobody else has it open. Under
//!    it, new users wait in `open`, and find a file without a name afterwards. (Of a sweeper that
//!    is stopped the kernel takes the lease away after 45 seconds. Then they have the memory, and
//!    it loses its name under them.)
//! 4. Under the lease the companion is looked at again, so what was kept meanwhile stays; and the
//!    other names are those that lead to the same file, so what was put under that name since is
//!    not touched.
//! 5. The companion is removed last. A sweeper that is killed leaves the rest to the next one.
//!
//! Two sweepers keep each other from getting the lease at times; then the segment stays until the
//! next sweep.

mod companion;
mod creation;
mod error;
mod list;
mod memory;
mod name;
mod sweep;
mod travel;
#[allow(unsafe_code, reason = "slices of memory that others can write, on the caller's word")]
mod view;

pub use error::SharedMemoryError;
pub use list::{Item, Items, ShareableList, ShareableListError};
pub use memory::SharedMemory;
pub use name::NameError;
