//! An array that a program in Rust and a program in Python both have, without a copy: Rust fills
//! it, Python squares the numbers in place and adds them up, Rust looks whether that is right.
//!
//! `cargo run --release -p mp-shm --example python_bridge [HOW MANY NUMBERS]`
//!
//! Python needs nothing but its standard library; with numpy it is faster.

use std::io::ErrorKind;
use std::process::{Command, ExitCode};
use std::time::Instant;

use mp_shm::{Item, ShareableList, SharedMemory};

/// What Python does: it opens the memory by its name, and tells in a list what it has done.
const SCRIPT: &str = r#"
import sys
from multiprocessing import resource_tracker
from multiprocessing.shared_memory import SharedMemory, ShareableList

if sys.version_info < (3, 9):
    sys.exit("its lists have another layout before 3.9")

# Python believes that whoever opens shared memory owns it, and would unlink it at the end.
if sys.version_info >= (3, 13):
    memory = SharedMemory(sys.argv[1], track=False)
else:
    memory = SharedMemory(sys.argv[1])
    resource_tracker.unregister(memory._name, "shared_memory")

count = int(sys.argv[2])
try:
    import numpy
    how = "numpy " + numpy.__version__
    numbers = numpy.ndarray(count, dtype="f8", buffer=memory.buf)
    numpy.multiply(numbers, numbers, out=numbers)
    total = float(numbers.sum())
    del numbers
except ImportError:
    how = "a memoryview"
    numbers = memory.buf[:8 * count].cast("d")
    total = 0.0
    for index, number in enumerate(numbers):
        numbers[index] = number * number
        total += number * number
    numbers.release()
memory.close()

report = ShareableList(name=sys.argv[3])
resource_tracker.unregister(report.shm._name, "shared_memory")
report[0], report[1], report[2] = "Python " + sys.version.split()[0], how[:31], total
report.shm.close()
"#;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn std::error::Error>> {
    let count = match std::env::args().nth(1) {
        Some(count) => {
            count.parse().ok().filter(|count| *count > 0).ok_or("that is not how many numbers there can be")?
        }
        None => 1_000_000,
    };
    let size = usize::checked_mul(count, size_of::<f64>()).ok_or("there is no room for so many numbers")?;
    let mut memory = SharedMemory::create(None, size).map_err(|error| explain(&error))?;
    // Room for two texts and a number.
    let report = ShareableList::new([Item::from("x".repeat(31)), "x".repeat(31).into(), 0.0.into()])?;

    let begun = Instant::now();
    // SAFETY: nobody else knows the name yet.
    let bytes = unsafe { memory.as_mut_slice() };
    for (index, number) in bytes.chunks_exact_mut(size_of::<f64>()).enumerate() {
        number.copy_from_slice(&(index as f64).to_ne_bytes());
    }
    println!("Rust has filled {count} numbers in {:?}, in {:?}", begun.elapsed(), memory);

    let begun = Instant::now();
    let mut python = Command::new("python3");
    python.args(["-c", SCRIPT, memory.name(), &count.to_string(), report.name()]);
    let output = python.output().map_err(|error| match error.kind() {
        ErrorKind::NotFound => {
            "there is no python3 here to exchange the numbers with: install one, or put it into PATH".into()
        }
        _ => format!("python3 could not be started: {error}"),
    })?;
    if !output.status.success() {
        return Err(format!("python3 has failed:\n{}", String::from_utf8_lossy(&output.stderr)).into());
    }
    let [Item::Str(python), Item::Str(how), Item::Float(total)] = [report.get(0)?, report.get(1)?, report.get(2)?]
    else {
        return Err("python3 has reported something else".into());
    };
    println!("{python} has squared them through {how} in {:?}: the sum is {total}", begun.elapsed());

    // SAFETY: the only other program that knows the name has ended.
    let bytes = unsafe { memory.as_slice() };
    let numbers = bytes.chunks_exact(size_of::<f64>()).filter_map(|number| number.first_chunk());
    let mut sum = 0.0;
    for (index, number) in numbers.map(|bytes| f64::from_ne_bytes(*bytes)).enumerate() {
        let expected = index as f64 * index as f64;
        if number != expected {
            return Err(format!("number {index} is {number}, not {expected}").into());
        }
        sum += number;
    }
    // numpy adds in another order.
    if (sum - total).abs() > sum * 1e-9 {
        return Err(format!("the sum is {sum}, and Python says {total}").into());
    }
    println!("All of them are right.");
    Ok(())
}

/// An error with everything that caused it.
fn explain(error: &dyn std::error::Error) -> String {
    error.source().map_or(error.to_string(), |source| format!("{error}: {}", explain(source)))
}
