//! Compiles the C library that `isolate` isolates.

fn main() {
    println!("cargo::rerun-if-changed=src/careless.c");
    cc::Build::new().file("src/careless.c").opt_level(1).compile("careless");
}
