//! The ring in shared memory: who owns which bytes, and what is in them.

#[allow(unsafe_code, reason = "it copies into memory that other processes have mapped, and out of it")]
pub(crate) mod access;
pub(crate) mod index;
pub(crate) mod tasks;
#[cfg(test)]
#[allow(unsafe_code, reason = "a ring in ordinary memory")]
mod tests;
