#![allow(unused)]

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use mp_shm::ShmSafe;

#[derive(ShmSafe)]
struct Many {
    a: Vec<u8>,
    b: std::vec::Vec<(u8, u8)>,
    c: VecDeque<Option<u8>>,
    d: HashSet<char>,
    e: BTreeSet<u8>,
    f: HashMap<u8, bool>,
    g: BTreeMap<u8, [u8; 2]>,
}

#[derive(ShmSafe)]
struct Texts(String, std::string::String, PathBuf, Box<str>);

#[derive(ShmSafe)]
enum Values {
    A(Box<u64>),
    B(Box<[u8]>),
    C(Box<dyn Send>),
    D(Rc<u8>),
    E(Arc<[u8]>),
    F(std::sync::Weak<u8>),
    G(Cow<'static, str>),
}

fn main() {}
