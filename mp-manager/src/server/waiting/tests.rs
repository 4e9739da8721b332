use super::*;

#[test]
fn only_its_holder_releases_a_lock() {
    let mut lock = Waiting::new(Initial::Lock);
    let mut answers = Answers::new();
    let [owner, stranger] = [1, 2].map(|client| Waiter { client, call: 1 });
    lock.apply(Operation::Acquire(1), owner, &mut answers).expect("it waits");
    let Some((_, Body::Locked(Held { token, .. }))) = answers.pop() else { panic!("it was free") };
    lock.apply(Operation::Acquire(1), stranger, &mut answers).expect("it waits");
    let released = lock.apply(Operation::Release(1), stranger, &mut answers);
    assert!(matches!(released, Err(CallError::WrongType { .. })), "it is no semaphore");
    for token in [token, 0, token + 1, u64::MAX] {
        let released = lock.apply(Operation::Unlock(token), Waiter { call: 2, ..stranger }, &mut answers);
        assert!(matches!(released, Err(CallError::NotHeld)));
        let slept = lock.apply(Operation::Sleep(token), Waiter { call: 3, ..stranger }, &mut answers);
        assert!(matches!(slept, Err(CallError::NotHeld)));
        assert!(answers.is_empty(), "nobody else got it");
    }
    lock.apply(Operation::Unlock(token), Waiter { call: 2, ..owner }, &mut answers).expect("it has no answer");
    assert!(matches!(answers[..], [(who, Body::Locked(Held { owner_died: false, .. }))] if who == stranger));
}
