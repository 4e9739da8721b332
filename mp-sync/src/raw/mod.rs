//! The locks without what they protect: a few words of shared memory each, and the rules by which
//! all processes change them.
//!
//! All-zero bytes are a new, unlocked one. No word is trusted: whatever another process wrote
//! there, the worst that follows is a wait that ends wrongly or not at all, never an access outside
//! of the lock itself.

pub(crate) mod barrier;
pub(crate) mod condvar;
pub(crate) mod event;
pub(crate) mod mutex;
pub(crate) mod once;
pub(crate) mod rwlock;
pub(crate) mod semaphore;
pub(crate) mod slots;

/// Has loom run it in every order with up to two preemptions, or as many as `LOOM_MAX_PREEMPTIONS`
/// says: three take minutes.
#[cfg(all(test, loom))]
fn model(body: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound.get_or_insert(2);
    builder.check(body);
}
