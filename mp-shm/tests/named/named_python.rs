//! Python's `multiprocessing.shared_memory` at the other end, each version of it that is here, in
//! either direction.

use std::path::PathBuf;
use std::time::Duration;

use crate::names::{all_of, exists, marks_of, own};
use mp_core::{Sender, pipe, process_fn};
use mp_shm::{Item, ShareableList, SharedMemory, SharedMemoryError};
use mp_testing::python::{self, Program};
use mp_testing::{PATIENCE, eventually, scenario};

/// There are many Pythons to start, one after another.
const PATIENT: Duration = Duration::from_secs(240);

/// `untracked` opens memory without the resource tracker, which would unlink it; `step` waits until
/// the first byte of the memory whose name is the first argument is a number.
const PRELUDE: &str = r#"
import sys, time
from multiprocessing import resource_tracker
from multiprocessing.shared_memory import SharedMemory, ShareableList

def untrack(memory):
    resource_tracker.unregister(memory._name, "shared_memory")
    return memory

def untracked(name):
    if sys.version_info >= (3, 13):
        return SharedMemory(name, track=False)
    return untrack(SharedMemory(name))

steps = untracked(sys.argv[1])

def step(number):
    deadline = time.monotonic() + 20
    while steps.buf[0] != number:
        assert time.monotonic() < deadline, number
        time.sleep(0.001)

def say(*words):
    print(*words, flush=True)

VALUES = [None, True, False, -2**63, 2**63 - 1, -1.5, "", "spam", "gr\u00fcn", b"", b"\xff\x01", b"exactly8", "twelve chars"]
"#;

/// The same as `VALUES`.
fn values() -> Vec<Item> {
    let mut values = vec![Item::None, true.into(), false.into(), i64::MIN.into(), i64::MAX.into(), (-1.5).into()];
    values.extend(["", "spam", "grün"].map(Item::from));
    values.extend([&b""[..], b"\xff\x01", b"exactly8"].map(Item::from));
    values.push("twelve chars".into());
    values
}

/// A Python program, and the number that it waits for.
struct Peer {
    program: Program,
    steps: SharedMemory,
}

impl Peer {
    fn start(python: &PathBuf, script: &str, arguments: &[&str]) -> Self {
        let steps = SharedMemory::create(None, 1).unwrap();
        let script = format!("{PRELUDE}{script}");
        let program = Program::start(python, &script, &[&[steps.name()], arguments].concat());
        Self { program, steps }
    }

    fn step(&self, number: u8) {
        self.steps.write_at(0, &[number]).unwrap();
    }

    #[track_caller]
    fn says(&mut self, text: &str) {
        assert_eq!(self.program.line(), text);
    }

    #[track_caller]
    fn ends(self) {
        assert!(self.program.wait().success());
    }
}

fn items(list: &ShareableList) -> Vec<Item> {
    list.iter().collect::<Result<_, _>>().unwrap()
}

/// Whether it has the layout of 3.8.
fn is_old(python: &PathBuf) -> bool {
    let mut program = Program::start(python, "import sys; print(sys.version_info < (3, 9))", &[]);
    program.line() == "True"
}

scenario!(python_opens_our_memory, PATIENT, {
    for python in python::all() {
        let name = own("memory");
        let memory = SharedMemory::create(&*name, 5000).unwrap();
        memory.write_at(4990, b"from Rust").unwrap();
        let script = r#"
memory = untracked(sys.argv[2])
assert memory.name == sys.argv[2]
say(memory.size, bytes(memory.buf[4990:4999]).decode())
memory.buf[:11] = b"from Python"
try:
    SharedMemory(sys.argv[2], create=True, size=1)
except FileExistsError:
    say("exists")
step(1)
say(memory.buf[1])
memory.close()
"#;
        let mut peer = Peer::start(&python, script, &[&name]);
        peer.says("5000 from Rust");
        peer.says("exists");
        let mut text = [0; 11];
        memory.read_at(0, &mut text).unwrap();
        assert_eq!(&text, b"from Python");
        memory.write_at(1, &[77]).unwrap();
        peer.step(1);
        peer.says("77");
        peer.ends();
        assert_eq!(all_of(&name).len(), 2, "Python has left it alone");
    }
});

scenario!(we_open_pythons_memory, PATIENT, {
    for python in python::all() {
        let name = own("python");
        let script = r#"
memory = SharedMemory(sys.argv[2], create=True, size=4097)
memory.buf[4096] = 9
say(memory.size)
step(1)
say(bytes(memory.buf[:9]).decode())
step(2)
memory.close()
memory.unlink()
"#;
        let mut peer = Peer::start(&python, script, &[&name]);
        peer.says("4097");
        let memory = SharedMemory::open(&name).unwrap();
        assert_eq!(memory.size(), 4097);
        let mut last = [0; 1];
        memory.read_at(4096, &mut last).unwrap();
        assert_eq!(last, [9]);
        memory.write_at(0, b"from Rust").unwrap();
        peer.step(1);
        peer.says("from Rust");
        drop(memory);
        SharedMemory::sweep().unwrap();
        assert_eq!(SharedMemory::open(&name).unwrap().size(), 4097, "it is Python's");
        peer.step(2);
        peer.ends();
        assert!(matches!(SharedMemory::open(&name), Err(SharedMemoryError::NotFound { .. })));
    }
});

scenario!(python_opens_our_list, PATIENT, {
    for python in python::all().into_iter().filter(|python| !is_old(python)) {
        let list = ShareableList::new(values()).unwrap();
        let format = list.format().unwrap();
        assert_eq!(format, "xxxxxx?xxxxxxxx?xxxxxxx?qqd8s8s8s8s8s16s16s");
        let script = r#"
shared = ShareableList(name=sys.argv[2])
untrack(shared.shm)
assert list(shared) == VALUES, list(shared)
assert [type(each) for each in shared] == [type(each) for each in VALUES]
assert shared.index("spam") == 7 and shared.count(b"") == 1
say(shared.format)

shared[1] = 7
shared[0] = "8 bytes!"
shared[12] = "other"
say("set")

step(1)
# What ends with a NUL in Rust has lost it here, and what is set then has its whole length there.
assert shared[12] == "nul", shared[12]
assert shared[11] == b"\x00\x01", shared[11]
assert shared[2] == 2.5 and shared[3] is None
shared[12] = "sixteen letters!"
shared[11] = b"8 bytes?"
say("set again")
shared.shm.close()
"#;
        let mut peer = Peer::start(&python, script, &[list.name()]);
        peer.says(&format);
        peer.says("set");
        let mut expected = values();
        expected[1] = 7.into();
        expected[0] = "8 bytes!".into();
        expected[12] = "other".into();
        assert_eq!(items(&list), expected);

        list.set(12, "nul\0\0").unwrap();
        list.set(11, b"\0\x01\0").unwrap();
        list.set(2, 2.5).unwrap();
        list.set(3, ()).unwrap();
        assert_eq!((list.get(12).unwrap(), list.get(11).unwrap()), ("nul\0\0".into(), b"\0\x01\0".into()));
        peer.step(1);
        peer.says("set again");
        assert_eq!((list.get(12).unwrap(), list.get(11).unwrap()), ("sixteen letters!".into(), b"8 bytes?".into()));
        peer.ends();
    }
});

scenario!(we_open_pythons_list, PATIENT, {
    for python in python::all() {
        let (name, empty) = (own("list"), own("empty"));
        let script = r#"
shared = ShareableList(VALUES, name=sys.argv[2])
empty = ShareableList([], name=sys.argv[3])
say(shared.format)
step(1)
assert shared[0] == "8 bytes!" and shared[7] == 7 and shared[12] is None, list(shared)
shared[0] = b"\x00\x01\x00"
say("set")
step(2)
for each in shared, empty:
    each.shm.close()
    each.shm.unlink()
"#;
        let mut peer = Peer::start(&python, script, &[&name, &empty]);
        let format = peer.program.line();
        let list = ShareableList::open(&name).unwrap();
        assert_eq!(items(&list), values(), "{}", python.display());
        assert_eq!(list.format().unwrap(), format);
        assert_eq!(ShareableList::open(&empty).unwrap().len(), 0);
        list.set(0, "8 bytes!").unwrap();
        list.set(7, 7).unwrap();
        list.set(12, ()).unwrap();
        assert!(list.set(0, "nine byte").is_err());
        peer.step(1);
        peer.says("set");
        assert_eq!(list.get(0).unwrap(), b"\0\x01".into(), "Python has lost the NUL");
        assert_eq!(list.get(11).unwrap(), b"exactly8".into());
        peer.step(2);
        peer.ends();
    }
});

scenario!(the_same_values_are_the_same_bytes, PATIENT, {
    for python in python::all().into_iter().filter(|python| !is_old(python)) {
        let name = own("bytes");
        let script = r#"
shared = ShareableList(VALUES, name=sys.argv[2])
say("made")
step(1)
shared.shm.close()
shared.shm.unlink()
"#;
        let mut peer = Peer::start(&python, script, &[&name]);
        peer.says("made");
        let [theirs, ours] = [ShareableList::open(&name), ShareableList::new(values())].map(|list| {
            let list = list.unwrap();
            let mut bytes = vec![0; list.memory().size()];
            list.memory().read_at(0, &mut bytes).unwrap();
            bytes
        });
        assert_eq!(ours, theirs, "{}", python.display());
        peer.step(1);
        peer.ends();
    }
});

/// Creates memory and waits to be killed.
#[process_fn]
fn creates(name: String, there: Sender<()>) {
    let _memory = SharedMemory::create(&*name, 10).unwrap();
    there.send(()).unwrap();
    loop {
        std::thread::park();
    }
}

scenario!(what_python_uses_is_not_swept, PATIENT, {
    for python in python::all() {
        let name = own("used");
        let (there, come) = pipe().unwrap();
        let creator = creates::spawn(name.clone(), there).unwrap();
        come.recv_timeout(PATIENCE).unwrap().expect("it creates");
        let script = r#"
import os
memory = untracked(sys.argv[2])
os.close(memory._fd)
memory._fd = -1
say("mapped")
step(1)
say(memory.size)
memory.close()
"#;
        let mut peer = Peer::start(&python, script, &[&name]);
        peer.says("mapped");
        let pid = creator.pid();
        creator.kill().unwrap();
        creator.join().unwrap_err();
        for _ in 0..3 {
            SharedMemory::sweep().unwrap();
            assert_eq!(all_of(&name).len(), 2);
        }
        peer.step(1);
        peer.says("10");
        peer.ends();
        eventually("it is swept", || {
            SharedMemory::sweep().unwrap();
            !exists(&name) && marks_of(pid).is_empty()
        });
    }
});

scenario!(pythons_tracker_takes_our_name_away_and_that_is_all, PATIENT, {
    for python in python::all() {
        let name = own("tracked");
        let memory = SharedMemory::create(&*name, 1).unwrap();
        let script = "memory = SharedMemory(sys.argv[2]); memory.buf[0] = 5; memory.close()";
        Peer::start(&python, script, &[&name]).ends();
        eventually("the tracker has unlinked it", || !exists(&name));
        assert!(matches!(memory.unlink(), Err(SharedMemoryError::NotFound { .. })));
        let mut byte = [0; 1];
        memory.read_at(0, &mut byte).unwrap();
        assert_eq!(byte, [5]);
        drop(memory);
    }
});
