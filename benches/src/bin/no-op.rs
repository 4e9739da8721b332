//! The least that a Rust program can be: what a process costs without anything of ours in it.

fn main() {}
