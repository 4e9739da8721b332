//! procspawn: it has processes and pools, and no channels of its own.

use crate::measure::Run;
use crate::partner::failed;
use crate::rows::repeated;

pub(super) fn spawn() -> Run {
    repeated(|| ::procspawn::spawn((), |()| ()).join().map_err(failed))
}
