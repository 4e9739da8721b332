//! Memory that several processes share. Nothing is in this crate yet.
//!
//! It is the place for `Shared<T>`, `Value<T>` and `Array<T>`, which are locked; `Buffer<T>`, which has one owner at a time;
//! `FrozenBuffer<T>`, which nobody can write any more; and `SharedMemory` and `ShareableList`, which are found by name and have the
//! layout of CPython's.
//!
//! Until they are here, values travel as messages of `mp-core`. One longer than 64 KiB is encoded into anonymous memory that is
//! sealed and passed on as a descriptor, so the socket in between copies none of it.
