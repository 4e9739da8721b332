//! How fast mp-core is, as ratios to what the kernel allows and to other libraries, measured in one
//! run.
//!
//! | module | holds |
//! |---|---|
//! | [`measure`] | rounds in which everybody takes a turn, and what they amount to |
//! | [`report`] | the table and the JSON |
//! | [`rows`] | what is measured |
//! | [`partner`] | the process at the other end |
//! | [`raw`] | the kernel's interface without a library: the limits |
//! | `peers` | other libraries and CPython, with the feature of that name |

#![deny(unsafe_code)]

pub mod locks;
pub mod measure;
pub mod partner;
#[cfg(feature = "peers")]
mod peers;
#[allow(unsafe_code, reason = "posix_spawn and the clock of an executable that has not begun")]
pub mod raw;
pub mod report;
pub mod rows;

/// Makes this process what it was started as, if another library started it. To be called first.
pub fn init() {
    #[cfg(feature = "peers")]
    peers::init();
}
