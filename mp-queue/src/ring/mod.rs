//! A ring.

#[allow(unsafe_code, reason = "it copies into memory that other processes have mapped, and out of it")]
pub(crate) mod access;
pub(crate) mod index;
