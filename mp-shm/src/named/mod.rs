//! Memory with a name in `/dev/shm`, compatible with C's `shm_open` and Python's
//! `multiprocessing.shared_memory`.
//!
//! The kernel does not remove the name of a segment whose creator was killed. The file does not say
//! which process created it, or whether it should stay. So the creator makes a mark: the
//! *companion*, another name of the same file, `mp-shm.` and 16 digits.
//!
//! | the creator | names of the file | if it is killed then |
//! |---|---|---|
//! | has opened the companion, which makes the file | companion | swept |
//! | has allocated and filled it | companion | swept |
//! | has linked the name: the segment appears, whole | companion, name | both swept, once no process uses it |
//! | has kept it: the companion is unlinked | name | stays |
//! | has unlinked the name, in its drop | companion | swept, once no process uses it |
//! | has unlinked the companion | | the kernel frees it with its last user |
//!
//! 1. A file with a companion ends with its creator; one without stays. While the creator lives,
//!    only the creator removes the companion.
//! 2. The creator has the file open from before it has its second name until after both names are
//!    removed. So no other process gets a lease on it while the creator lives. The one exception is
//!    the moment within the system call between making the file and opening it: if a sweeper
//!    removes the companion then, linking the name fails, and the creator begins again.
//! 3. A process that uses the segment, in any language, has it open or mapped. A sweeper removes
//!    names only under a lease for writing, which the kernel grants only while no other process has
//!    the file open. While a sweeper holds the lease, new users wait in `open`, and then find a
//!    file without a name. (If the sweeper is stopped, the kernel breaks the lease after 45
//!    seconds. Then the users have the memory, and it later loses its name.)
//! 4. Under the lease the sweeper checks the companion again, so a segment that was kept meanwhile
//!    stays. It removes only names of the same file, so another file that took the name meanwhile
//!    stays too.
//! 5. The companion is removed last. If a sweeper is killed, the next one does the rest.
//!
//! Two sweepers can prevent each other from getting the lease. Then the segment stays until the
//! next sweep.

mod companion;
mod creation;
mod error;
mod list;
mod memory;
mod name;
mod serialize;
mod sweep;
#[allow(unsafe_code, reason = "slices of memory that other processes can write, whose safety the caller guarantees")]
mod view;

pub use error::SharedMemoryError;
pub use list::{Item, Items, ShareableList, ShareableListError};
pub use memory::SharedMemory;
pub use name::NameError;
