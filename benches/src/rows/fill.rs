//! A picture that is drawn in parts: by processes into a buffer that was split, and by threads into
//! a vector.

use std::io;
use std::num::NonZero;
use std::thread;

use mp_core::{Connection, duplex, process_fn};
use mp_shm::Buffer;
use serde::{Deserialize, Serialize};

use super::memory::made;
use super::resident::available;
use super::row;
use crate::measure::{Contender, Row, Run, Scale};
use crate::partner::{Partner, failed};

type Pixel = [u8; 4];

/// Pixels in a row of the picture.
const WIDTH: usize = 8192;

pub(super) fn rows() -> Vec<Row> {
    vec![
        row("memory/fill/drawn", |scale| contenders(scale, Work::Draw)),
        row("memory/fill/plain", |scale| contenders(scale, Work::Fill)),
    ]
}

/// What is written.
#[derive(Clone, Copy, PartialEq, Serialize, Deserialize)]
enum Work {
    /// Pixels that take some calculation: a few nanoseconds for each byte.
    Draw,
    /// The same pixel everywhere.
    Fill,
}

impl Work {
    /// Writes pixels, the first of which is that one of the picture.
    fn write(self, pixels: &mut [Pixel], first: usize) {
        match self {
            Self::Draw => {
                for (pixel, index) in pixels.iter_mut().zip(first..) {
                    *pixel = colour(index % WIDTH, index / WIDTH);
                }
            }
            Self::Fill => pixels.fill([0x5a; 4]),
        }
    }
}

/// A dozen steps of the Mandelbrot set, for every pixel: all take as long, so that no part is
/// harder than another.
fn colour(column: usize, row: usize) -> Pixel {
    const SCALE: f32 = 2.5 / WIDTH as f32;
    let (x, y) = (column as f32 * SCALE - 1.75, row as f32 * SCALE - 1.25);
    let (mut a, mut b) = (0.0_f32, 0.0_f32);
    for _ in 0..12 {
        (a, b) = ((a * a - b * b + x).clamp(-4.0, 4.0), (2.0 * a * b + y).clamp(-4.0, 4.0));
    }
    [(a * 31.0) as i8 as u8, (b * 31.0) as i8 as u8, ((a + b) * 15.0) as i8 as u8, 255]
}

fn contenders(scale: Scale, work: Work) -> Vec<Contender> {
    let size: usize = if scale.quick { 32 << 20 } else { 256 << 20 };
    if available() < 3 * size as u64 {
        return Vec::new();
    }
    let pixels = size / size_of::<Pixel>();
    let workers = thread::available_parallelism().map_or(1, NonZero::get);
    // Only where there is work to do is it fair to ask that handing it out costs next to nothing.
    let goal = (work == Work::Draw).then_some(1.05);
    vec![
        Contender::ours(&format!("{workers} processes, a Buffer"), by_processes(workers, pixels, work)),
        Contender::limit(&format!("{workers} threads, a Vec"), goal, by_threads(workers, pixels, work)),
    ]
}

#[process_fn]
fn fill_parts(parts: Connection<Buffer<Pixel>, Buffer<Pixel>>, work: Work) {
    while let Ok(mut part) = parts.recv() {
        let first = part.range().start;
        // All of it will be written.
        if part.populate().is_err() {
            return;
        }
        work.write(&mut part, first);
        if parts.send(part).is_err() {
            return;
        }
    }
}

/// A new buffer, split, filled and put together. The processes are there beforehand.
fn by_processes(workers: usize, pixels: usize, work: Work) -> io::Result<Run> {
    let mut processes = Vec::new();
    for _ in 0..workers {
        let (ours, theirs) = duplex::<Buffer<Pixel>, Buffer<Pixel>>()?;
        processes.push(Partner::new(ours, fill_parts::spawn(theirs, work))?);
    }
    made(move || {
        let parts = Buffer::<Pixel>::zeroed(pixels)?.split(processes.len());
        for (part, process) in parts.into_iter().zip(&mut processes) {
            process.channels()?.send(part).map_err(failed)?;
        }
        let mut filled = Vec::with_capacity(processes.len());
        for process in &mut processes {
            filled.push(process.channels()?.recv().map_err(failed)?);
        }
        Buffer::rejoin(filled).map_err(failed)
    })
}

/// A new vector, filled by as many threads.
fn by_threads(workers: usize, pixels: usize, work: Work) -> io::Result<Run> {
    made(move || {
        let mut picture = vec![[0; 4]; pixels];
        let length = pixels.div_ceil(workers);
        thread::scope(|scope| {
            for (place, part) in picture.chunks_mut(length).enumerate() {
                scope.spawn(move || work.write(part, place * length));
            }
        });
        Ok(picture)
    })
}
