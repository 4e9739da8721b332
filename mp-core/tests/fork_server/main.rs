//! Fork servers: what they load, what their processes have, and how each of them can end.
//! `ci/repeat` runs the tests of other processes with a fork server as well.

mod deaths;
mod instants;
mod preload;
mod processes;
mod steps;
