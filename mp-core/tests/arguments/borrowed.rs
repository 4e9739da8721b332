//! Functions that take references: the caller lends what it has, the other process owns what
//! arrives and lends it in turn.

use std::ffi::{CStr, OsStr};
use std::fmt::Debug;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use mp_core::{Builder, Call, JoinError, Process, ProcessFn, Receiver, Sender, SpawnError, pipe, process_fn};
use mp_testing::{PATIENCE, scenario};
use serde::{Deserialize, Serialize, de, ser};

/// There is no way to copy one.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct NotClone {
    name: String,
    inner: Option<Box<NotClone>>,
}

#[process_fn]
fn describe(text: &str, numbers: &[i64], data: &[u8], one: &NotClone, owned: NotClone, list: &Vec<bool>) -> String {
    format!("{text:?} {numbers:?} {data:?} {one:?} {owned:?} {list:?}")
}

#[process_fn]
fn unsized_types(
    path: &Path,
    os: &OsStr,
    c: &CStr,
    array: &[u8; 3],
    structs: &[NotClone],
) -> (usize, Vec<u8>, Vec<u8>, u8, usize) {
    (path.components().count(), os.as_bytes().to_vec(), c.to_bytes().to_vec(), array[2], structs.len())
}

#[process_fn]
fn length_and_sum(data: &[u8]) -> (usize, u64) {
    (data.len(), data.iter().map(|byte| u64::from(*byte)).sum())
}

#[process_fn]
fn wait_then_return(go: Receiver<()>, text: &str) -> String {
    go.recv().unwrap();
    text.to_owned()
}

#[process_fn]
fn say(to: &Sender<String>, what: &str) {
    to.send(what.to_owned()).unwrap();
}

fn not_clone(name: &str) -> NotClone {
    NotClone { name: name.to_owned(), inner: None }
}

#[track_caller]
fn value_of<T: de::DeserializeOwned + Debug>(mut process: Process<T>) -> T {
    process.join_timeout(PATIENCE).unwrap().expect("it ends in time")
}

scenario!(what_is_lent_arrives, {
    let one = NotClone { name: "one".to_owned(), inner: Some(Box::new(not_clone("inner"))) };
    let here = describe("ü", &[1, -1], b"\0\xFF", &one, not_clone("owned"), &vec![true]);
    let there = describe::spawn("ü", &[1, -1], b"\0\xFF", &one, not_clone("owned"), &vec![true]).unwrap();
    assert_eq!(value_of(there), here);
    assert_eq!(one.inner.unwrap().name, "inner", "and it is still here");
});

scenario!(types_without_a_size_arrive, {
    let os = OsStr::from_bytes(b"not \xFF UTF-8");
    let there = unsized_types::spawn(Path::new("/a/b"), os, c"C", &[1, 2, 3], &[not_clone("a")]).unwrap();
    assert_eq!(value_of(there), (3, os.as_bytes().to_vec(), b"C".to_vec(), 3, 1));
});

scenario!(bytes_of_every_size_arrive, {
    const KIB: usize = 1 << 10;
    for size in [0, 1, 254, 255, 16 * KIB - 9, 64 * KIB, 256 * KIB + 1, (1 << 20) + 3, 8 << 20] {
        let mut data = vec![1_u8; size];
        data.iter_mut().step_by(7).for_each(|byte| *byte = 255);
        assert_eq!(value_of(length_and_sum::spawn(&data).unwrap()), length_and_sum(&data));
    }
});

scenario!(the_borrow_ends_when_the_process_has_started, {
    let (go, wait) = pipe().unwrap();
    let mut text = "before".to_owned();
    let process = wait_then_return::spawn(wait, &text).unwrap();
    text.replace_range(.., "after");
    drop(text);
    go.send(()).unwrap();
    assert_eq!(value_of(process), "before");
});

scenario!(a_lent_handle_is_duplicated, {
    let (sender, receiver) = pipe().unwrap();
    value_of(say::spawn(&sender, "from there").unwrap());
    sender.send("from here".to_owned()).unwrap();
    drop(sender);
    assert_eq!(receiver.iter().map(Result::unwrap).collect::<Vec<_>>(), ["from there", "from here"]);
});

scenario!(a_call_holds_the_references, {
    let text = "to be".to_owned();
    let one = not_clone("one");
    let call: Call<compare, (&str, &NotClone, u8)> = compare::call(&text, &one, 7);
    assert!(format!("{call:?}").contains(r#"("to be", NotClone { name: "one", inner: None }, 7)"#), "{call:?}");
    fn can_go_to_another_thread(_: &(impl Send + Sync)) {}
    can_go_to_another_thread(&call);
    let (same_text, same_one, _) = call.clone().into_arguments();
    assert!(std::ptr::eq(same_text, text.as_str()) && std::ptr::eq(same_one, &one));
    assert_eq!(call.clone().run(), 13);
    let encoded = call.encode().unwrap();
    assert_eq!((encoded.function(), encoded.has_descriptors()), (compare::NAME, false));
    assert_eq!(encoded.run().decode::<usize>().unwrap(), 13);
    assert_eq!(value_of(Builder::new().spawn(call.clone()).unwrap()), 13);
    assert_eq!(value_of(Builder::new().spawn(call).unwrap()), 13);
});

#[process_fn]
fn compare(text: &str, one: &NotClone, n: u8) -> usize {
    text.len() + one.name.len() + usize::from(n) - 2
}

scenario!(a_call_can_own_what_the_function_borrows, {
    fn make() -> Call<compare> {
        Call::new(("to be".to_owned(), not_clone("one"), 7))
    }
    let _: (String, NotClone, u8) = make().into_arguments();
    assert_eq!(make().run(), 13);
    assert_eq!(value_of(Builder::new().spawn(make()).unwrap()), 13);
    assert_eq!(compare::invoke(("to be".to_owned(), not_clone("one"), 7)), 13);
});

struct Stubborn;

impl Serialize for Stubborn {
    fn serialize<S: ser::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(ser::Error::custom("not today"))
    }
}

impl<'de> Deserialize<'de> for Stubborn {
    fn deserialize<D: de::Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Ok(Self)
    }
}

#[process_fn]
fn takes_stubborn(_text: &str, _one: &Stubborn, _more: &[Stubborn]) {}

#[derive(Debug, Serialize)]
struct Spoilt;

impl<'de> Deserialize<'de> for Spoilt {
    fn deserialize<D: de::Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Err(de::Error::custom("spoilt on the way"))
    }
}

#[process_fn]
fn takes_spoilt(_one: &Spoilt, _text: &str) {}

scenario!(what_cannot_be_encoded_is_an_error_of_spawn, {
    let spawned = takes_stubborn::spawn("", &Stubborn, &[]);
    assert!(matches!(spawned, Err(SpawnError::Encode(error)) if error.to_string().ends_with(": not today")));
    let spawned = Builder::new().spawn(takes_stubborn::call("", &Stubborn, &[]));
    assert!(matches!(spawned, Err(SpawnError::Encode(_))));
    mp_core::set_message_limit(1 << 20);
    let spawned = length_and_sum::spawn(&vec![0; 2 << 20]);
    assert!(matches!(spawned, Err(SpawnError::Encode(error)) if error.is_too_large()));
    assert_eq!(value_of(length_and_sum::spawn(&[7; 1 << 19]).unwrap()).0, 1 << 19);
});

scenario!(what_cannot_be_decoded_is_an_error_of_join, {
    let joined = takes_spoilt::spawn(&Spoilt, "").unwrap().join();
    assert!(matches!(joined, Err(JoinError::Decode(error)) if error.to_string().contains("spoilt on the way")));
});

/// The line of the `panic!` in [`refuse`].
const LINE: u32 = line!() + 4;

#[process_fn]
fn refuse(text: &str) {
    panic!("cannot do {text}");
}

scenario!(a_panic_has_its_place, {
    match refuse::spawn("that").unwrap().join() {
        Err(JoinError::Panicked(panic)) => {
            assert_eq!(panic.message, "cannot do that");
            assert_eq!(panic.location, Some(format!("{}:{LINE}:5", file!())));
        }
        other => panic!("it did not panic: {other:?}"),
    }
});
