//! Tests of the pool of a cluster, on this host.
//!
//! The executable starts itself under a launcher, once for each test: `MPIRUN` is the command, with
//! its arguments but for the number of ranks. `cargo test -- NAME` runs the tests whose names
//! contain NAME. After each test no process of it may be left.

mod cut;
mod driver;
mod functions;
mod job;
mod kills;
mod lost;
mod scenarios;

fn main() {
    match std::env::var(job::RUN) {
        Ok(_) => scenarios::run(&std::env::args().nth(1).expect("a launcher passes the name of the scenario")),
        Err(_) => driver::run(std::env::args().nth(1).filter(|name| !name.starts_with('-'))),
    }
}
