//! Large messages that go from hand to hand, without standing anywhere as a whole in between.
//!
//! A message that nobody waits for has to be put into a memory file, so that its sender can go on and a receiver that looks
//! without waiting finds it complete. If a receiver does wait, for as long as it takes, sender and receiver can work
//! at the same time instead, through a stream of its own for each message: its lane.
//!
//! | step | sender | receiver |
//! |---|---|---|
//! | 1 | offers one end of the lane, in a packet | |
//! | 2 | waits for an answer, not long | waiting without a deadline: answers with one byte. Else: closes the end |
//! | 3 | no answer, or a closed end: says that the offer is withdrawn, and puts the message into a memory file | goes on with the next packet |
//! | 4 | an answer: sends frames, the last of which says how it ended | decodes them as they come |
//! | 5 | | refuses the rest: says so by one byte, and closes the end. Gives it up, or dies: closes the end |
//! | 6 | a refusal: the message was received. A closed end: puts the message into a memory file after all | |
//!
//! A receiver gives a message up that does not get on while others wait behind it: its sender may be stopped, or take its
//! time to encode.
//!
//! A frame is a header of eight bytes, and as many bytes of the message as it says; its handles travel beside the header.
//!
//! | part | bytes | meaning |
//! |---|---|---|
//! | kind | 1 | 0: a part of the message; 1: the end; 2: the message could not be encoded, so there is none; 3: the offer is withdrawn |
//! | handles | 1 | how many handles come with the header |
//! | zero | 2 | |
//! | length | 4 | how many bytes of the message follow |
//!
//! 1. A receiver never looks at a message that did not end: death in the middle is `Truncated`, and a message that could not be
//!    encoded never was.
//! 2. Handles come before the bytes that mention them, so that they can be decoded as they come.
//! 3. Only a receiver that has no deadline accepts, so nothing that promises not to wait does.
//! 4. What a frame announces is never allocated before it arrives.
//! 5. A receiver that has not seen the end of a message has not delivered it, so its sender may send it again.
//! 6. While a thread sends through a lane it opens no other, and does not wait for its turn to send: the receiver that it would
//!    wait for may be the one at the end of the lane.

mod arriving;
mod frame;
mod sending;

pub(super) use arriving::{Arriving, Offered, accept};
pub(super) use sending::{Sending, Sent, is_inside};

/// What a receiver says: that it accepts an offer, or that it refuses the rest of a message.
const WORD: [u8; 1] = [1];
