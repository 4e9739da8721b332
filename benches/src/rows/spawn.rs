//! A process that does nothing, from its start until it was waited for.

use std::ffi::CString;
use std::hint::black_box;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use memmap2::{Advice, MmapMut};
use mp_core::{ForkServer, ForkServerBuilder, process_fn};
use mp_shm::Buffer;
use serde::{Deserialize, Serialize};

use super::resident::available;
use super::{pinned, row};
use crate::measure::{Contender, Row, Run, Scale};
use crate::{partner, raw};

/// The argument that makes this program end at once.
pub const EXIT: &str = "--exit-at-once";

pub(super) fn rows() -> Vec<Row> {
    vec![
        row("spawn", contenders),
        pinned("spawn", contenders),
        row("fork-server", from_server),
        pinned("fork-server", from_server),
        row("fork-server/frozen", |scale| loaded(scale, Kind::Frozen)),
        row("fork-server/private", |scale| loaded(scale, Kind::Private)),
    ]
}

#[process_fn]
fn nothing() {}

fn contenders(_scale: Scale) -> Vec<Contender> {
    #[allow(unused_mut, reason = "there may be no peers")]
    let mut contenders = vec![
        Contender::ours("spawn, join", Ok(repeated(ours))),
        Contender::limit("posix_spawn, waitpid: an empty program", 1.05, empty_program()),
        Contender::limit("posix_spawn, waitpid: this program, exiting", None, this_program()),
        Contender::limit("std::process::Command: an empty program", None, command()),
    ];
    #[cfg(feature = "peers")]
    contenders.extend(crate::peers::spawn());
    contenders
}

fn from_server(_scale: Scale) -> Vec<Contender> {
    #[allow(unused_mut, reason = "there may be no peers")]
    let mut contenders = vec![
        Contender::ours("spawn from a fork server, join", copies()),
        Contender::limit("spawn, join", 0.5, Ok(repeated(ours))),
        Contender::limit("fork of this process, waitpid", 2.0, Ok(repeated(|| raw::wait(raw::fork()?)))),
    ];
    #[cfg(feature = "peers")]
    contenders.extend(crate::peers::fork_server());
    contenders
}

fn copies() -> io::Result<Run> {
    from(ForkServer::builder())
}

fn from(builder: ForkServerBuilder) -> io::Result<Run> {
    let server = builder.build().map_err(partner::failed)?;
    Ok(repeated(move || server.spawn(nothing::call())?.join().map_err(partner::failed)))
}

/// What a server has loaded.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
enum Kind {
    Frozen,
    Private,
}

/// The server with memory, and the one without.
fn loaded(scale: Scale, kind: Kind) -> Vec<Contender> {
    let (most, goal): (u64, _) = match kind {
        Kind::Frozen => (1 << 30, Some(1.1)),
        Kind::Private => (256 << 20, None),
    };
    let bytes = if scale.quick { most / 4 } else { most };
    if bytes > available() / 2 {
        return Vec::new();
    }
    let name = format!("{} MiB, {kind:?}", bytes >> 20);
    vec![
        Contender::ours(&name, from(ForkServer::builder().preload(load::call(bytes as usize, kind)))),
        Contender::limit(&format!("without {name}"), goal, copies()),
    ]
}

/// Loads memory that stays, and looks at each page.
#[process_fn]
fn load(bytes: usize, kind: Kind) {
    let memory: &[u8] = match kind {
        Kind::Frozen => {
            let mut buffer = Buffer::zeroed(bytes).expect("memory");
            buffer.fill(1);
            Box::leak(Box::new(buffer.freeze().expect("it has one owner")))
        }
        Kind::Private => {
            let memory = Box::leak(Box::new(MmapMut::map_anon(bytes).expect("memory")));
            // A huge page would cost no more than a small one. Some kernels have none.
            let _ = memory.advise(Advice::NoHugePage);
            memory.fill(1);
            memory
        }
    };
    black_box(memory.iter().step_by(4096).map(|byte| u64::from(*byte)).sum::<u64>());
}

/// A turn of one operation after another.
pub(crate) fn repeated(mut once: impl FnMut() -> io::Result<()> + 'static) -> Run {
    Box::new(move |operations| {
        let start = Instant::now();
        for _ in 0..operations {
            once()?;
        }
        Ok(start.elapsed())
    })
}

/// Starts and joins one process.
pub(super) fn ours() -> io::Result<()> {
    nothing::spawn()?.join().map_err(partner::failed)
}

/// The other binary of this package, which stands beside this one.
fn no_op() -> io::Result<PathBuf> {
    let path = std::env::current_exe()?.with_file_name("no-op");
    if path.exists() { Ok(path) } else { Err(io::Error::other(format!("{} was not built", path.display()))) }
}

fn empty_program() -> io::Result<Run> {
    let program = CString::new(no_op()?.into_os_string().into_vec())?;
    let arguments = [program.clone()];
    Ok(repeated(move || raw::wait(raw::spawn(&program, &arguments)?)))
}

fn this_program() -> io::Result<Run> {
    let arguments = [CString::new("mp-bench")?, CString::new(EXIT)?];
    Ok(repeated(move || raw::wait(raw::spawn(c"/proc/self/exe", &arguments)?)))
}

fn command() -> io::Result<Run> {
    let program = no_op()?;
    Ok(repeated(move || {
        let status = Command::new(&program).status()?;
        if status.success() { Ok(()) } else { Err(io::Error::other(status.to_string())) }
    }))
}
