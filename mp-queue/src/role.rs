//! What a handle may do.

use crate::memory::Side;

mod sealed {
    pub trait Sealed {}
}

/// What a handle of a queue may do: [`Both`], [`Put`] or [`Get`].
pub trait Role: sealed::Sealed + 'static {
    /// How many producers the handle is: 0 or 1.
    const PRODUCERS: usize;
    /// How many consumers the handle is: 0 or 1.
    const CONSUMERS: usize;
}

/// A handle that may put.
pub trait Puts: Role {}

/// A handle that may get.
pub trait Gets: Role {}

/// A handle that may put and get.
#[derive(Debug)]
pub enum Both {}

/// A handle that may put.
#[derive(Debug)]
pub enum Put {}

/// A handle that may get.
#[derive(Debug)]
pub enum Get {}

impl sealed::Sealed for Both {}
impl sealed::Sealed for Put {}
impl sealed::Sealed for Get {}

impl Role for Both {
    const PRODUCERS: usize = 1;
    const CONSUMERS: usize = 1;
}

impl Role for Put {
    const PRODUCERS: usize = 1;
    const CONSUMERS: usize = 0;
}

impl Role for Get {
    const PRODUCERS: usize = 0;
    const CONSUMERS: usize = 1;
}

impl Puts for Both {}
impl Puts for Put {}
impl Gets for Both {}
impl Gets for Get {}

/// The sides to which a handle belongs.
pub(crate) fn sides<R: Role>() -> impl Iterator<Item = Side> {
    let sides = [(Side::Producers, R::PRODUCERS), (Side::Consumers, R::CONSUMERS)];
    sides.into_iter().filter(|(_, count)| *count > 0).map(|(side, _)| side)
}
