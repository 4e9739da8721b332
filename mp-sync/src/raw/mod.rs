//! The locks without the values that they protect: a few words of shared memory each, and the rules
//! by which all processes change them.
//!
//! Zero bytes are a new, unlocked lock. No word is trusted: whatever another process writes there,
//! the worst result is a wait that ends wrongly or never, and never an access outside of the lock.

pub(crate) mod barrier;
pub(crate) mod condvar;
pub(crate) mod event;
pub(crate) mod mutex;
pub(crate) mod once;
pub(crate) mod rwlock;
pub(crate) mod semaphore;
pub(crate) mod slots;

/// Lets loom run `body` in every order with up to two preemptions, or as many as
/// `LOOM_MAX_PREEMPTIONS` says. Three take minutes.
#[cfg(all(test, loom))]
pub(crate) fn model(body: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound.get_or_insert(2);
    builder.check(body);
}
