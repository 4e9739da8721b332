//! The locks without what they protect: a few words of shared memory each, and the rules by which all processes change them.
//!
//! All-zero bytes are a new, unlocked one. No word is trusted: whatever another process wrote there, the worst that follows is a wait
//! that ends wrongly or not at all, never an access outside of the lock itself.
pub(crate) mod mutex;
pub(crate) mod condvar;
