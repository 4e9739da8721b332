//! Two processes named in turn printing their pid, started and joined; the parent prints its own.
//!
//! `cargo run --example hello`

use mp_core::{Builder, current, process_fn};

#[process_fn]
fn hello(greeting: String) -> u32 {
    let me = current();
    println!("{greeting} from {}, pid {}, started by pid {}", me.name(), me.pid(), std::os::unix::process::parent_id());
    me.pid()
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("this is {}, pid {}", current().name(), std::process::id());

    let first = Builder::new().name("first").spawn(hello::call("hello".to_owned()))?;
    println!("started {}, pid {}", first.name(), first.pid());
    let pid = first.join()?;
    println!("first has returned {pid}");

    let second = Builder::new().name("second").spawn(hello::call("hello again".to_owned()))?;
    println!("started {}, pid {}", second.name(), second.pid());
    let pid = second.join()?;
    println!("second has returned {pid}");
    Ok(())
}
