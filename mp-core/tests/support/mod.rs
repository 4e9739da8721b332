//! The harness under its former name and in its former form, for the tests that still use it so.

#![allow(unused_imports, reason = "each test executable uses some of it")]

pub(crate) use mp_testing::in_a_process as scenario;
pub(crate) use mp_testing::*;
