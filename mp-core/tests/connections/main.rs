//! The ends of connections, alone and in a crowd.

mod connection;
mod crowd;
mod large_messages;
mod shared_ends;
