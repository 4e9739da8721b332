//! Nothing. The package is there for its example, which then needs no crate but mp-core.
