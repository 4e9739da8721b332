//! Nothing. The package is there for its test, which so builds no crate that only others need.
