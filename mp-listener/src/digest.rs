//! The digests that a handshake can use, by the names that CPython gives them.

use hmac::digest::InvalidLength;
use hmac::{Hmac, KeyInit, Mac};
use md5::Md5;
use sha2::{Sha256, Sha384};

use crate::AuthKey;

/// A digest for HMAC. CPython knows two more, of SHA-3, and uses SHA-256 unless it is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Digest {
    /// The only digest of Python until 3.11.
    Md5,
    Sha256,
    Sha384,
}

/// Computes `$what` with the type of HMAC that a digest names.
macro_rules! with_mac {
    ($digest:expr, $key:expr, $message:expr, $mac:ident => $what:expr) => {
        match $digest {
            Digest::Md5 => begin::<Hmac<Md5>>($key, $message).map(|$mac| $what),
            Digest::Sha256 => begin::<Hmac<Sha256>>($key, $message).map(|$mac| $what),
            Digest::Sha384 => begin::<Hmac<Sha384>>($key, $message).map(|$mac| $what),
        }
    };
}

impl Digest {
    /// Splits a challenge or a response into its digest and what follows the digest's name.
    ///
    /// Python until 3.11 names none, and is recognised by the length: a challenge of 20 bytes, a
    /// response of 16.
    pub(crate) fn of(message: &[u8]) -> Option<(Self, &[u8])> {
        if matches!(message.len(), 16 | 20) {
            return Some((Self::Md5, message));
        }
        let named = message.strip_prefix(b"{")?;
        let (name, rest) = named.split_at(named.iter().position(|byte| *byte == b'}')?);
        let digest = match name {
            b"md5" => Self::Md5,
            b"sha256" => Self::Sha256,
            b"sha384" => Self::Sha384,
            _ => return None,
        };
        Some((digest, rest.get(1..)?))
    }

    /// The name before a challenge or a response of this digest.
    pub(crate) fn prefix(self) -> &'static [u8] {
        match self {
            Self::Md5 => b"{md5}",
            Self::Sha256 => b"{sha256}",
            Self::Sha384 => b"{sha384}",
        }
    }

    /// Computes the authentication code of `message`.
    pub(crate) fn sign(self, key: &AuthKey, message: &[u8]) -> Result<Vec<u8>, InvalidLength> {
        with_mac!(self, key, message, mac => mac.finalize().into_bytes().to_vec())
    }

    /// Tells whether `code` is the authentication code of `message`, in constant time.
    pub(crate) fn verify(self, key: &AuthKey, message: &[u8], code: &[u8]) -> Result<bool, InvalidLength> {
        with_mac!(self, key, message, mac => mac.verify_slice(code).is_ok())
    }
}

/// HMAC takes keys of every length, so this does not fail in practice.
fn begin<M: Mac + KeyInit>(key: &AuthKey, message: &[u8]) -> Result<M, InvalidLength> {
    let mut mac = <M as KeyInit>::new_from_slice(key.as_bytes())?;
    mac.update(message);
    Ok(mac)
}
