//! The ends of connections, alone and in a crowd.

mod connection;
mod crowd;
mod shared_ends;
