//! The messages of a parent and its child: one from the parent, and one from the child, over the
//! control socket.

use serde::{Deserialize, Serialize};

use super::OwnSettings;
use crate::call::EncodedCall;
use crate::current::Identity;
use crate::descriptor::SharedFd;
use crate::outcome::Outcome;

/// From the parent: the identity of the child, and the call that it runs. A copy of a fork server
/// gets it with the request for the copy.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Start {
    pub(crate) identity: Identity,
    pub(crate) call: EncodedCall,
    pub(crate) lifeline: SharedFd,
    /// Whether the child lives on when its parent ends.
    pub(crate) outlive_parent: bool,
    /// The soft and the hard limit of the stack, if the builder set them.
    pub(crate) stack: Option<(u64, u64)>,
    /// The parent's first argument, if the child's first argument is its title.
    #[serde(with = "serde_bytes")]
    pub(crate) program: Option<Vec<u8>>,
    pub(crate) message_limit: u64,
    pub(crate) own: OwnSettings,
}

/// From the child: how the call ended. A child that is killed sends none.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Report {
    /// The function ran, or could not be called.
    Outcome(Outcome),
    /// The process did not become a child.
    NotStarted(String),
    /// The first message of a process that a fork server has made: it exists, and begins.
    Forked { pid: i32, pidfd: SharedFd },
    /// A fork server could not make the process, or the process could not be given a setting.
    NotForked { setting: Option<String>, error: Option<i32>, text: String },
}
