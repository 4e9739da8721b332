//! Paths arrive as they are, whether they are texts or not.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use mp_core::raw::Message;
use mp_core::{pipe, process_fn};
use mp_testing::scenario;
use serde::{Deserialize, Serialize};

#[process_fn]
fn bytes_of(path: &Path) -> Vec<u8> {
    path.as_os_str().as_bytes().to_vec()
}

#[process_fn]
fn same(path: PathBuf) -> PathBuf {
    path
}

#[process_fn]
fn same_owned(
    path: Box<Path>,
    other: Cow<'static, Path>,
    both: Vec<Box<Path>>,
) -> (Cow<'static, Path>, Box<[Box<Path>]>) {
    assert!(both.iter().all(|one| *one == path));
    (other, both.into())
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Job {
    input: PathBuf,
    output: Option<PathBuf>,
    more: Vec<PathBuf>,
    names: BTreeMap<PathBuf, (u8, PathBuf)>,
}

#[process_fn]
fn same_job(job: Job) -> Job {
    job
}

fn not_text(end: u8) -> PathBuf {
    PathBuf::from(OsString::from_vec(vec![b'a', 0xFF, b'/', end]))
}

scenario!(paths_that_are_no_texts_arrive_intact, {
    for path in [PathBuf::new(), "/tmp/ä".into(), not_text(b'b'), not_text(0xFF)] {
        assert_eq!(bytes_of::spawn(&path).unwrap().join().unwrap(), path.as_os_str().as_bytes());
        assert_eq!(same::spawn(path.clone()).unwrap().join().unwrap(), path);
        let boxed: Box<Path> = path.as_path().into();
        let owned = same_owned::spawn(boxed.clone(), path.clone().into(), vec![boxed.clone(); 2]);
        assert_eq!(owned.unwrap().join().unwrap(), (path.clone().into(), [boxed.clone(), boxed.clone()].into()));
        let borrowed = Message::encode(&(Cow::Borrowed(path.as_path()), &boxed)).unwrap();
        assert_eq!(borrowed.decode::<(PathBuf, PathBuf)>().unwrap(), (path.clone(), path.clone()));
        let (sender, receiver) = pipe::<PathBuf>().unwrap();
        sender.send_ref(&path).unwrap();
        assert_eq!(receiver.recv().unwrap(), path);
    }
    let job = Job {
        input: not_text(b'i'),
        output: Some(not_text(b'o')),
        more: vec![not_text(0x80), "text".into(), PathBuf::from(OsString::from_vec(vec![0xC3; 100_000]))],
        names: BTreeMap::from([(not_text(b'k'), (1, not_text(b'v')))]),
    };
    assert_eq!(same_job::spawn(job.clone()).unwrap().join().unwrap(), job);
});

/// A path that its own visitor reads, which wants a text.
#[derive(Debug, Deserialize)]
struct Checked(#[serde(deserialize_with = "text_only")] PathBuf);

fn text_only<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<PathBuf, D::Error> {
    struct Visitor;
    impl serde::de::Visitor<'_> for Visitor {
        type Value = PathBuf;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("a text")
        }

        fn visit_str<E>(self, text: &str) -> Result<PathBuf, E> {
            Ok(Path::new("/checked").join(text))
        }
    }
    deserializer.deserialize_string(Visitor)
}

#[test]
fn bytes_that_are_no_text_are_an_error_for_everything_else() {
    let encode = |path: &Path| Message::encode(path).unwrap();
    assert_eq!(encode(Path::new("x")).decode::<Checked>().unwrap().0, Path::new("/checked/x"));
    assert!(encode(&not_text(b'x')).decode::<Checked>().is_err());
    assert!(encode(&not_text(b'x')).decode::<String>().is_err());
    assert_eq!(encode(Path::new("x")).decode::<String>().unwrap(), "x");
}
