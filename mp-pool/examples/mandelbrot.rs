//! Renders the Mandelbrot set into one picture, whose parts a pool of processes writes in place,
//! and saves it as PNG.
//!
//! `cargo run --release --example mandelbrot -- [OPTIONS] FILE`
//!
//! The picture is a `Buffer` of pixels. It is split, its parts are sent to the workers, which draw
//! into them and send them back; no pixel is copied from process to process, however many there
//! are.
//!
//! - `--size WIDTHxHEIGHT`: in pixels (default: 3840x2160);
//! - `--view X,Y,WIDTH`: the middle of the picture and its width, in the complex plane (default:
//!   -0.65,0,3.4);
//! - `--parts N`: into how many parts the picture is split (default: 16 for each worker);
//! - `--workers N`: how many worker processes (default: one for each CPU);
//! - `--crash N`: the worker that draws part N crashes half-way through, the first time, to show
//!   that its part is not lost.

use std::error::Error;
use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use image::{ExtendedColorType, ImageFormat};
use indicatif::{HumanBytes, HumanCount, ProgressBar, ProgressStyle};
use mp_core::process_fn;
use mp_pool::Pool;
use mp_shm::{Buffer, Reclaimer};
use serde::{Deserialize, Serialize};

type Pixel = [u8; 3];

/// What is looked at.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct View {
    x: f64,
    y: f64,
    /// Of the whole picture, in the complex plane.
    extent: f64,
    width: usize,
    height: usize,
}

/// Draws a part of the picture, which knows where it is, and gives it back.
#[process_fn]
fn draw(mut part: Buffer<Pixel>, view: View, crash: bool) -> Buffer<Pixel> {
    let start = part.range().start;
    let half = part.len() / 2;
    for (index, pixel) in part.iter_mut().enumerate() {
        if crash && index == half {
            std::process::abort();
        }
        *pixel = colour(view.escape(start + index));
    }
    part
}

/// How many steps a point is given to escape.
const STEPS: u32 = 1_000;

impl View {
    /// After how many steps the point of a pixel escapes, as a smooth number. `None` if it does
    /// not.
    fn escape(&self, index: usize) -> Option<f64> {
        let scale = self.extent / self.width as f64;
        let (column, row) = (index % self.width, index / self.width);
        let re = self.x + (column as f64 - self.width as f64 / 2.0) * scale;
        let im = self.y - (row as f64 - self.height as f64 / 2.0) * scale;
        let (mut a, mut b) = (0.0f64, 0.0f64);
        for step in 0..STEPS {
            let (squared_a, squared_b) = (a * a, b * b);
            // Far outside, so that the colours have no edges.
            if squared_a + squared_b > 256.0 {
                return Some(f64::from(step) + 1.0 - f64::log2((squared_a + squared_b).log2() / 2.0));
            }
            b = 2.0 * a * b + im;
            a = squared_a - squared_b + re;
        }
        None
    }
}

/// From dark blue over white to gold, and round again.
fn colour(escape: Option<f64>) -> Pixel {
    let Some(escape) = escape else { return [0; 3] };
    let angle = (escape.max(0.0) + 1.0).ln() * 2.2;
    [2.9, 3.6, 4.4].map(|phase: f64| (127.5 + 127.5 * (angle + phase).cos()) as u8)
}

/// What the command line says.
struct Options {
    view: View,
    parts: Option<usize>,
    workers: Option<usize>,
    crash: Option<usize>,
    file: PathBuf,
}

impl Options {
    fn parse() -> Result<Self, String> {
        let view = View { x: -0.65, y: 0.0, extent: 3.4, width: 3840, height: 2160 };
        let mut options = Self { view, parts: None, workers: None, crash: None, file: PathBuf::new() };
        let mut arguments = std::env::args_os().skip(1);
        while let Some(argument) = arguments.next() {
            let name = argument.to_string_lossy().into_owned();
            let mut value = || {
                let text = arguments.next().ok_or_else(|| format!("{name} needs a value"))?;
                text.into_string().map_err(|text| format!("{text:?} is no text"))
            };
            match name.as_str() {
                "--size" => {
                    let [width, height] = numbers(&value()?, 'x')?;
                    (options.view.width, options.view.height) = (width, height);
                }
                "--view" => {
                    let [x, y, extent] = numbers(&value()?, ',')?;
                    (options.view.x, options.view.y, options.view.extent) = (x, y, extent);
                }
                "--parts" => options.parts = Some(positive(&value()?)?),
                "--workers" => options.workers = Some(positive(&value()?)?),
                "--crash" => options.crash = Some(numbers::<usize, 1>(&value()?, ',')?[0]),
                unknown if unknown.starts_with('-') => return Err(format!("unknown option {unknown}")),
                _ if options.file.as_os_str().is_empty() => options.file = PathBuf::from(&argument),
                _ => return Err("there is more than one file".to_owned()),
            }
        }
        match options.file.as_os_str().is_empty() {
            true => Err("where is the picture to go?".to_owned()),
            false => Ok(options),
        }
    }
}

fn numbers<N: std::str::FromStr, const COUNT: usize>(text: &str, separator: char) -> Result<[N; COUNT], String> {
    let numbers: Option<Vec<N>> = text.split(separator).map(|number| number.trim().parse().ok()).collect();
    numbers.and_then(|numbers| numbers.try_into().ok()).ok_or_else(|| format!("{text:?} is not understood"))
}

fn positive(text: &str) -> Result<usize, String> {
    let [number] = numbers(text, ',')?;
    if number > 0 { Ok(number) } else { Err(format!("{number} are too few")) }
}

/// A bar on a terminal, a line now and then elsewhere.
struct Progress {
    bar: Option<ProgressBar>,
    reported: Instant,
    done: u64,
    total: u64,
}

impl Progress {
    fn new(total: u64) -> Self {
        let bar = io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{bar:40} {human_pos}/{human_len} pixels  {eta} left");
            ProgressBar::new(total).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        });
        Self { bar, reported: Instant::now(), done: 0, total }
    }

    fn advance(&mut self, pixels: usize) {
        self.done += pixels as u64;
        if let Some(bar) = &self.bar {
            bar.inc(pixels as u64);
        } else if self.reported.elapsed() >= Duration::from_secs(1) {
            self.reported = Instant::now();
            eprintln!("{} of {} pixels", HumanCount(self.done), HumanCount(self.total));
        }
    }

    fn finish(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }
}

const USAGE: &str =
    "usage: mandelbrot [--size WIDTHxHEIGHT] [--view X,Y,WIDTH] [--parts N] [--workers N] [--crash N] FILE";

fn main() -> ExitCode {
    let outcome = match Options::parse() {
        Ok(options) => run(&options),
        Err(error) => Err(format!("{error}\n{USAGE}").into()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("mandelbrot: {}", error);
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<(), Box<dyn Error>> {
    let View { width, height, .. } = options.view;
    let pixels = width.checked_mul(height).ok_or("so many pixels cannot be counted")?;
    let (columns, rows) = (u32::try_from(width)?, u32::try_from(height)?);
    let picture = Buffer::<Pixel>::zeroed(pixels)?;

    let mut builder = Pool::builder().name("mandelbrot");
    if let Some(workers) = options.workers {
        builder = builder.workers(workers);
    }
    let pool = builder.build()?;
    let parts = options.parts.unwrap_or(16 * pool.workers());
    eprintln!("{width} x {height} pixels in {parts} parts, {} workers", pool.workers());

    let started = Instant::now();
    let picture = render(&pool, picture, parts, options)?;
    let drawn = started.elapsed();
    image::save_buffer_with_format(
        &options.file,
        picture.as_flattened(),
        columns,
        rows,
        ExtendedColorType::Rgb8,
        ImageFormat::Png,
    )?;
    println!("drawn    {:>10.2} s", drawn.as_secs_f64());
    println!("memory   {:>12}", HumanBytes(size_of_val(&*picture) as u64).to_string());
    println!("file     {:>12}", HumanBytes(std::fs::metadata(&options.file)?.len()).to_string());
    Ok(())
}

/// Has the picture drawn in parts. A part whose worker dies is drawn again.
fn render(
    pool: &Pool,
    picture: Buffer<Pixel>,
    parts: usize,
    options: &Options,
) -> Result<Buffer<Pixel>, Box<dyn Error>> {
    let mut progress = Progress::new(picture.len() as u64);
    let mut crash = options.crash;
    let mut drawn = Vec::with_capacity(parts);
    let mut waiting = picture.split(parts);
    for _ in 0..ATTEMPTS {
        let claims: Vec<Reclaimer<Pixel>> = waiting.iter().map(Buffer::reclaimer).collect::<Result<_, _>>()?;
        let doomed = crash.take();
        let jobs: Vec<_> =
            waiting.drain(..).enumerate().map(|(index, part)| (part, options.view, doomed == Some(index))).collect();
        let mut lost = Vec::new();
        for (index, result) in pool.imap_unordered::<draw>(jobs) {
            match result {
                Ok(part) => {
                    progress.advance(part.len());
                    drawn.push(part);
                }
                Err(error) => {
                    eprintln!("part {index} is drawn again: {error}");
                    lost.push(index);
                }
            }
        }
        for (index, claim) in claims.into_iter().enumerate() {
            if lost.contains(&index) {
                waiting.push(claim.reclaim_timeout(Duration::from_secs(5))?);
            }
        }
    }
    progress.finish();
    Ok(Buffer::rejoin(drawn)?)
}

/// How often a part is drawn before the picture is given up.
const ATTEMPTS: usize = 3;
