//! Where to listen, and what to connect to.

use std::fmt;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use rustix::net::addr::SocketAddrArg;
use rustix::net::{AddressFamily, SocketAddrAny, SocketAddrUnix};

/// Where a [`Listener`](crate::Listener) listens and what a [`Client`](crate::Client) connects to.
///
/// A `Path` (`Path::new("/run/app/socket")`), a `SocketAddr`, and a host with a port
/// (`("localhost", 6000)`) convert into an address. A text has to be parsed,
/// `text.parse::<Address>()?`, because it may not be an address. [`parse`](str::parse) reads and
/// `Display` writes these forms:
///
/// | text | address | Python's `address` |
/// |---|---|---|
/// | with a slash: `/run/app/socket`, `./socket` | [`Unix`](Self::Unix) | `"/run/app/socket"` |
/// | `@name` | [`Abstract`](Self::Abstract) | `"\0name"` |
/// | `127.0.0.1:6000`, `[::1]:6000` | [`Tcp`](Self::Tcp) | `("127.0.0.1", 6000)` |
/// | `localhost:6000`, `[fe80::1%eth0]:6000` | [`Host`](Self::Host) | `("localhost", 6000)` |
///
/// Parsing the written form gives the same place or an error. `Display` adds a `./` to a relative
/// path that would be ambiguous, and a `Host` that is a number is parsed as [`Tcp`](Self::Tcp). In
/// a path or name that is not UTF-8, invalid bytes are written as U+FFFD, and a text with U+FFFD
/// cannot be parsed. The same applies to a slash, or an `@` at the beginning, in the name of a
/// host. The flow label of IPv6 is not written.
///
/// # Examples
///
/// ```
/// use mp_listener::Address;
///
/// assert_eq!("/run/app/socket".parse::<Address>()?, Address::Unix("/run/app/socket".into()));
/// assert_eq!("@app".parse::<Address>()?, Address::Abstract(b"app".to_vec()));
/// assert_eq!("127.0.0.1:6000".parse::<Address>()?, Address::Tcp(([127, 0, 0, 1], 6000).into()));
/// assert_eq!("localhost:6000".parse::<Address>()?.to_string(), "localhost:6000");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Address {
    /// A file that is a unix socket. Its path is at most 107 bytes long.
    Unix(PathBuf),
    /// A name of Linux's abstract namespace, at most 107 bytes long. It is not a file, so it does
    /// not have to be removed. **Every user of the machine can connect to it**, so use a key. If a
    /// listener has the empty name, the kernel chooses a free one.
    Abstract(Vec<u8>),
    /// An internet address and port. If a listener has port 0, the kernel chooses a free one.
    Tcp(SocketAddr),
    /// The name of a host and a port. The name is looked up at each use, and can have several
    /// addresses, in the order of the system's resolver. A listener uses only the first one that
    /// can be bound. A client tries one after another, and divides its remaining time evenly among
    /// the remaining addresses.
    Host(String, u16),
}

/// The size of the kernel's `sockaddr_un`, in bytes.
const LONGEST: usize = size_of::<AddressFamily>() + 108;

impl Address {
    /// Returns the socket addresses, at least one.
    pub(crate) fn resolve(&self) -> io::Result<Vec<SocketAddrAny>> {
        let unix = |address: Result<SocketAddrUnix, _>| Ok(vec![address.map_err(io::Error::from)?.as_any()]);
        match self {
            Self::Unix(path) if path.as_os_str().is_empty() => {
                Err(io::Error::new(io::ErrorKind::InvalidInput, "the path of a socket is empty"))
            }
            Self::Unix(path) => unix(SocketAddrUnix::new(path)),
            Self::Abstract(name) if name.is_empty() => Ok(vec![SocketAddrUnix::new_unnamed().as_any()]),
            Self::Abstract(name) => unix(SocketAddrUnix::new_abstract_name(name)),
            Self::Tcp(address) => Ok(vec![SocketAddrAny::from(*address)]),
            Self::Host(host, port) => {
                let found: Vec<_> = (host.as_str(), *port).to_socket_addrs()?.map(SocketAddrAny::from).collect();
                if found.is_empty() {
                    return Err(io::Error::new(io::ErrorKind::NotFound, "the host has no address"));
                }
                Ok(found)
            }
        }
    }

    /// Converts an address from the kernel. Returns `None` for a socket without a name, or with a
    /// name that this type cannot represent.
    pub(crate) fn from_kernel(address: SocketAddrAny) -> Option<Self> {
        // rustix takes the shortest path for an abstract name, and panics for the longest one, of
        // 108 bytes, which the peer may have.
        let length = address.addr_len() as usize;
        if length <= size_of::<AddressFamily>() || length > LONGEST {
            return None;
        }
        if let Ok(address) = SocketAddr::try_from(address.clone()) {
            return Some(Self::Tcp(address));
        }
        let unix = SocketAddrUnix::try_from(address).ok()?;
        match (unix.path_bytes(), unix.abstract_name()) {
            (Some(path), _) => Some(Self::Unix(std::ffi::OsString::from_vec(path.to_vec()).into())),
            (None, Some(name)) => Some(Self::Abstract(name.to_vec())),
            (None, None) => None,
        }
    }
}

impl From<&Path> for Address {
    fn from(path: &Path) -> Self {
        Self::Unix(path.to_owned())
    }
}

impl From<&PathBuf> for Address {
    fn from(path: &PathBuf) -> Self {
        Self::Unix(path.clone())
    }
}

impl From<PathBuf> for Address {
    fn from(path: PathBuf) -> Self {
        Self::Unix(path)
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Self::Tcp(address)
    }
}

impl From<(&str, u16)> for Address {
    fn from((host, port): (&str, u16)) -> Self {
        match host.parse() {
            Ok(ip) => Self::Tcp(SocketAddr::new(ip, port)),
            Err(_) => Self::Host(host.to_owned(), port),
        }
    }
}

impl From<&Address> for Address {
    fn from(address: &Address) -> Self {
        address.clone()
    }
}

/// Replaces bytes that are not text, here and in the standard library.
const UNWRITABLE: &str = "\u{fffd}";

/// A text is not an address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an address: expected a path with a slash, `@name` or `host:port`")]
pub struct ParseAddressError(String);

impl FromStr for Address {
    type Err = ParseAddressError;

    fn from_str(text: &str) -> Result<Self, ParseAddressError> {
        let refused = || ParseAddressError(text.to_owned());
        if text.contains(UNWRITABLE) {
            return Err(refused());
        }
        if let Some(name) = text.strip_prefix('@') {
            return Ok(Self::Abstract(name.as_bytes().to_vec()));
        }
        if text.contains('/') {
            return Ok(Self::Unix(text.into()));
        }
        if let Ok(address) = text.parse() {
            return Ok(Self::Tcp(address));
        }
        let (host, port) = text.rsplit_once(':').ok_or_else(refused)?;
        let bracketed =
            host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).filter(|host| host.contains(':'));
        if host.is_empty() || bracketed.is_none() && host.contains(':') {
            return Err(refused());
        }
        let host = bracketed.unwrap_or(host);
        Ok(Self::Host(host.to_owned(), port.parse().map_err(|_| refused())?))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => {
                let bytes = path.as_os_str().as_bytes();
                let is_plain = bytes.is_empty() || bytes.contains(&b'/') && !bytes.starts_with(b"@");
                write!(f, "{}{}", if is_plain { "" } else { "./" }, path.display())
            }
            Self::Abstract(name) => write!(f, "@{}", String::from_utf8_lossy(name)),
            Self::Tcp(address) => address.fmt(f),
            Self::Host(host, port) => {
                // Both would be parsed as other addresses. No host has such a name.
                let mut host = host.replace('/', UNWRITABLE);
                if host.starts_with('@') {
                    host.replace_range(..1, UNWRITABLE);
                }
                if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
            }
        }
    }
}
