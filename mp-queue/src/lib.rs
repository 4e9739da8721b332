//! Queues between many processes. Nothing is in this crate yet.
//!
//! It is the place for `Queue<T>` and `JoinableQueue<T>`: bounded, first in first out, many
//! producers and many consumers, over a ring in shared memory, in which a producer that is killed
//! half-way leaves nothing.
//!
//! Until they are here, `mp_core::pipe` serves several senders and several receivers, each with a
//! duplicate of its end.
