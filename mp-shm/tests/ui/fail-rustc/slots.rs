//! Of a lock that cannot be made, zeros are no lock either.

use mp_shm::ShmSafe;
use mp_sync::{RobustSemaphore, RwLock};

const _: bool = <RwLock<u8, 5>>::LAYOUT.is_zeroable();
const _: bool = <[RobustSemaphore<132>; 2]>::LAYOUT.is_zeroable();

fn main() {}
