//! The secret of both sides.

use std::{fmt, io};

use rustix::rand::{GetRandomFlags, getrandom};
use zeroize::Zeroizing;

/// The secret by which the two sides of a connection authenticate each other, like Python's
/// `authkey`.
///
/// It has at least one byte. `b"..."` and `text.as_bytes()` convert into a key. A key is only as
/// strong as its bytes are hard to guess: a program that sees a handshake, or poses as a listener,
/// can try words against it offline. [`random`](Self::random) makes a key that cannot be guessed.
///
/// `Debug` does not show a key, and keys cannot be compared. Dropping a key overwrites its memory
/// with zeros. If you make it from a `Vec`, it takes the memory; otherwise you have to overwrite
/// the original bytes yourself.
///
/// # Examples
///
/// ```
/// use mp_listener::AuthKey;
///
/// let key = AuthKey::from(b"secret password");
/// assert_eq!(format!("{key:?}"), "AuthKey(..)");
/// assert_eq!(key.as_bytes(), b"secret password");
/// ```
#[derive(Clone)]
pub struct AuthKey(Zeroizing<Vec<u8>>);

impl AuthKey {
    /// Makes a key of 32 bytes from the operating system's random numbers.
    ///
    /// # Errors
    ///
    /// Fails if the operating system cannot supply random numbers.
    ///
    /// # Examples
    ///
    /// ```
    /// let key = mp_listener::AuthKey::random()?;
    /// assert_eq!(key.as_bytes().len(), 32);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn random() -> io::Result<Self> {
        let mut key = Zeroizing::new(vec![0; 32]);
        fill_randomly(&mut key)?;
        Ok(Self(key))
    }

    /// Returns the bytes, to pass them to the other side over a secret channel.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Fills `bytes` with unpredictable random numbers.
pub(crate) fn fill_randomly(mut bytes: &mut [u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let filled = rustix::io::retry_on_intr(|| getrandom(&mut *bytes, GetRandomFlags::empty()))?;
        bytes = &mut bytes[filled..];
    }
    Ok(())
}

impl From<Vec<u8>> for AuthKey {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }
}

impl From<&[u8]> for AuthKey {
    fn from(bytes: &[u8]) -> Self {
        Self::from(bytes.to_vec())
    }
}

impl<const N: usize> From<&[u8; N]> for AuthKey {
    fn from(bytes: &[u8; N]) -> Self {
        Self::from(bytes.to_vec())
    }
}

impl From<&AuthKey> for AuthKey {
    fn from(key: &AuthKey) -> Self {
        key.clone()
    }
}

impl fmt::Debug for AuthKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AuthKey(..)")
    }
}
