//! What a process keeps between the functions that it runs.

use std::any::{Any, TypeId, type_name};
use std::cell::RefCell;
use std::collections::HashMap;

thread_local! {
    /// A value of each type; `None` while a function has it.
    static STATES: RefCell<HashMap<TypeId, Option<Box<dyn Any>>>> = RefCell::default();
}

/// Lends this thread's value of a type to `run`.
///
/// # Panics
///
/// If a function that has not returned has the value.
pub fn with_state<T: Default + 'static, R>(run: impl FnOnce(&mut T) -> R) -> R {
    let id = TypeId::of::<T>();
    // At the end of a thread its values may be gone already; the function gets another one then.
    let kept = STATES.try_with(|states| states.borrow_mut().get_mut(&id).map(Option::take)).ok().flatten();
    let value = match kept {
        Some(Some(value)) => value,
        Some(None) => panic!("the state `{}` is in use by a function that has not returned", type_name::<T>()),
        None => Box::<T>::default(),
    };
    keep(id, None);
    let mut lent = Lent { id, value: Some(value) };
    match lent.value.as_mut().and_then(|value| value.downcast_mut()) {
        Some(value) => run(value),
        None => unreachable!("it is of the type that it is kept under"),
    }
}

/// A value that goes back when this is dropped, after a panic as well.
struct Lent {
    id: TypeId,
    value: Option<Box<dyn Any>>,
}

impl Drop for Lent {
    fn drop(&mut self) {
        keep(self.id, self.value.take());
    }
}

fn keep(id: TypeId, value: Option<Box<dyn Any>>) {
    let _ = STATES.try_with(|states| states.borrow_mut().insert(id, value));
}
