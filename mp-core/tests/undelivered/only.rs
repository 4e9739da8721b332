//! A value of which there is only one.

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use mp_core::fd;
use serde::{Deserialize, Deserializer, Serialize, Serializer, ser};

/// What its owner can tell of it, also after it was given away.
#[derive(Clone, Debug, Default)]
pub(crate) struct History {
    sent: Arc<AtomicBool>,
    encoded: Arc<AtomicU32>,
    undone: Arc<AtomicU32>,
}

impl History {
    /// Whether it is gone.
    pub(crate) fn is_sent(&self) -> bool {
        self.sent.load(Ordering::SeqCst)
    }

    /// How often it was encoded, and how often given back.
    pub(crate) fn counts(&self) -> (u32, u32) {
        (self.encoded.load(Ordering::SeqCst), self.undone.load(Ordering::SeqCst))
    }
}

/// A file that is given away by sending it.
#[derive(Debug)]
pub(crate) struct Only {
    file: File,
    history: History,
}

/// How many this process has received.
pub(crate) static RECEIVED: AtomicU32 = AtomicU32::new(0);

impl Only {
    /// With what can be told of it.
    pub(crate) fn new() -> (Self, History) {
        let history = History::default();
        (Self { file: File::open("/dev/null").unwrap(), history: history.clone() }, history)
    }

    /// Fails the test unless it is here, and whole.
    #[track_caller]
    pub(crate) fn check(&self) {
        assert!(!self.history.is_sent());
        assert_eq!(io::copy(&mut &self.file, &mut io::sink()).unwrap(), 0);
    }
}

impl Serialize for Only {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.history.sent.swap(true, Ordering::SeqCst) {
            return Err(ser::Error::custom("it was sent already"));
        }
        self.history.encoded.fetch_add(1, Ordering::SeqCst);
        let History { sent, undone, .. } = self.history.clone();
        fd::if_undelivered(move || {
            undone.fetch_add(1, Ordering::SeqCst);
            assert!(sent.swap(false, Ordering::SeqCst), "it was here already");
        });
        fd::serialize(&self.file, serializer)
    }
}

impl<'de> Deserialize<'de> for Only {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let file = fd::deserialize(deserializer)?;
        RECEIVED.fetch_add(1, Ordering::SeqCst);
        Ok(Self { file, history: History::default() })
    }
}
