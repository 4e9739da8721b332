//! Zeros are no lock either, of a lock that cannot be made: whatever is in shared memory has a layout.

use mp_shm::ShmSafe;
use mp_sync::{RobustSemaphore, RwLock};

const _: bool = <RwLock<u8, 5>>::LAYOUT.has_locks();
const _: bool = <[RobustSemaphore<132>; 2]>::LAYOUT.has_locks();

fn main() {}
