//! Locks that live in shared memory. Nothing is in this crate yet.
//!
//! It is the place for `Mutex<T>`, `ReentrantMutex<T>`, `Condvar`, `Semaphore`, `Event` and `Barrier`: plain values without a pointer in
//! them, which work in any memory that several processes have mapped, and which tell the next locker that their owner has died
//! instead of blocking it for ever.
//!
//! Until they are here, processes coordinate by the messages of `mp-core`: `pipe`, `duplex` and `wait`.
