//! What every error of this crate promises.

use std::error::Error;
use std::io;

use mp_listener::{Address, AuthenticationError, ConnectError, ParseAddressError, RecvError, SendError};

fn is_an_error<E: Error + Send + Sync + 'static>() {}

#[test]
fn every_error_is_one_that_goes_anywhere() {
    is_an_error::<AuthenticationError>();
    is_an_error::<ConnectError>();
    is_an_error::<ParseAddressError>();
    is_an_error::<RecvError>();
    is_an_error::<SendError>();
}

fn system() -> io::Error {
    io::Error::from_raw_os_error(libc::EMFILE)
}

fn json() -> serde_json::Error {
    serde_json::from_str::<u8>("no").unwrap_err()
}

fn address() -> Address {
    Address::Host("localhost".to_owned(), 1)
}

fn every_error() -> Vec<Box<dyn Error>> {
    vec![
        Box::new(RecvError::Disconnected),
        Box::new(RecvError::Truncated),
        Box::new(RecvError::Closed),
        Box::new(RecvError::Malformed("the reason")),
        Box::new(RecvError::TooLarge { length: 2, limit: 1 }),
        Box::new(RecvError::BufferTooShort(vec![1, 2])),
        Box::new(RecvError::Json(json())),
        Box::new(RecvError::Io(system())),
        Box::new(SendError::Disconnected),
        Box::new(SendError::Closed),
        Box::new(SendError::TimedOut),
        Box::new(SendError::TooLarge { length: 2, limit: 1 }),
        Box::new(SendError::Json(json())),
        Box::new(SendError::Io(system())),
        Box::new(AuthenticationError::WrongKey),
        Box::new(AuthenticationError::Rejected),
        Box::new(AuthenticationError::LegacyDigest),
        Box::new(AuthenticationError::Reflected),
        Box::new(AuthenticationError::Protocol("the reason")),
        Box::new(AuthenticationError::Disconnected),
        Box::new(AuthenticationError::TimedOut),
        Box::new(AuthenticationError::Io(system())),
        Box::new(ConnectError::Connect { address: address(), source: system() }),
        Box::new(ConnectError::Authentication { address: address(), source: AuthenticationError::Rejected }),
        Box::new("nowhere".parse::<Address>().unwrap_err()),
    ]
}

#[test]
fn every_error_is_a_short_phrase_that_says_why() {
    for error in every_error() {
        let text = error.to_string();
        let first = text.chars().next().expect("it says something");
        assert!(!first.is_uppercase(), "{text:?} begins with a capital");
        assert!(!text.ends_with(['.', '!', '\n']), "{text:?} ends as a sentence");
        // The reason is in the text, so that printing the error is enough.
        assert!(error.source().is_none(), "{text:?} leaves its reason to its source");
    }
}

#[test]
fn errors_of_the_system_can_be_told_apart() {
    let error = AuthenticationError::Io(io::ErrorKind::OutOfMemory.into());
    assert_eq!(io::Error::from(error).kind(), io::ErrorKind::OutOfMemory);
    assert_eq!(io::Error::from(AuthenticationError::TimedOut).kind(), io::ErrorKind::TimedOut);
    let error = ConnectError::Connect { address: address(), source: io::ErrorKind::OutOfMemory.into() };
    assert_eq!(io::Error::from(error).kind(), io::ErrorKind::OutOfMemory);
    let error = ConnectError::Authentication { address: address(), source: AuthenticationError::Rejected };
    assert_eq!(io::Error::from(error).kind(), io::ErrorKind::PermissionDenied);
}
