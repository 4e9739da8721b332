//! Every primitive, between threads, between processes, and when its holder is killed.

mod barrier;
mod condvar;
mod event;
mod keys;
mod links;
mod memory;
mod mutex;
mod once_lock;
mod programs;
mod robust;
mod robust_semaphore;
mod rwlock;
mod semaphore;
mod uncontended;
