//! Every point of an operation at which descriptors or processes can run out is reached once: it is
//! an error, leaves nothing behind, and goes on after relief.

use std::error::Error;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use mp_core::raw::Message;
use mp_core::{Builder, Call, Connection, JoinError, Process, Receiver, RecvError, SpawnError, Stdio};
use mp_core::{duplex, pipe, process_fn, wait};
use mp_testing::leaks::Resources;
use mp_testing::limits::{become_a_user_of_its_own, with_descriptors, with_limit};
use mp_testing::start_method::is_not_for_fork_server;
use mp_testing::{PATIENCE, error_chain, nothing, run_for_ever, scenario};
use rustix::process::Resource;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

/// What an operation needs at most, in descriptors, beside one or two for each handle.
const MOST: usize = 40;

/// With how many descriptors to spare something with `handles` is attempted. Of many handles not
/// each is missing once.
fn steps(handles: usize) -> Vec<usize> {
    if handles < 10 {
        return (0..MOST).collect();
    }
    let around = |several: usize| several - 2..several + 12;
    (0..4).chain(around(handles)).chain(around(2 * handles)).collect()
}

/// Says that descriptors ran out, wherever they did.
const REASONS: [&str; 2] = ["os error 24", "descriptors of a message were lost"];

/// Attempts something with no descriptor to spare, then with one, and so on, until it succeeds. It
/// has to fail at first, and each failure has to say why and leave nothing.
#[track_caller]
fn until_it_succeeds(what: &str, handles: usize, mut attempt: impl FnMut(usize) -> Result<(), Box<dyn Error>>) {
    let before = Resources::of_this_process();
    for more in steps(handles) {
        let result = attempt(more).map_err(|error| error_chain(&*error));
        assert_eq!(Resources::of_this_process(), before, "{what} with {more}: {result:?}");
        match result {
            Ok(()) => return assert!(more > 0, "{what} needed no descriptor"),
            Err(error) => assert!(REASONS.iter().any(|reason| error.contains(reason)), "{what} with {more}: {error}"),
        }
    }
    panic!("{what} never succeeded");
}

#[derive(Debug, Serialize, Deserialize)]
struct Load {
    bytes: ByteBuf,
    handles: Vec<Opened>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Opened(#[serde(with = "mp_core::fd")] OwnedFd);

impl Load {
    fn new(length: usize, handles: usize) -> Self {
        let handle = |_| Opened(File::open("/dev/null").unwrap().into());
        Self { bytes: ByteBuf::from(vec![1; length]), handles: (0..handles).map(handle).collect() }
    }
}

/// In its packet, in a memory file of its own, in one from the start; without handles, with some,
/// with more than one packet takes.
const LOADS: [(usize, usize); 6] = [(10, 3), (10, 300), (300_000, 0), (300_000, 3), (3 << 20, 0), (3 << 20, 300)];

#[process_fn]
fn echo(load: Load) -> Load {
    load
}

#[process_fn]
fn look_at(load: Load) -> (usize, usize) {
    (load.bytes.len(), load.handles.len())
}

scenario!(every_descriptor_that_a_spawn_needs_can_be_missing, {
    until_it_succeeds("a spawn", 0, |more| Ok(with_descriptors(more, nothing::spawn)?.join()?));
    until_it_succeeds("a spawn with streams", 0, |more| {
        let file = File::open("/dev/null").unwrap();
        let builder = Builder::new().stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(file);
        Ok(with_descriptors(more, || builder.spawn(nothing::call()))?.join()?)
    });
    for (length, handles) in LOADS {
        until_it_succeeds(&format!("a spawn with {length} bytes and {handles} handles"), handles, |more| {
            let call = look_at::call(Load::new(length, handles));
            // The child is under the same limit, and may be the one that lacks them.
            let found = match with_descriptors(more, || Builder::new().spawn(call))?.join() {
                Err(JoinError::NotStarted(why)) => return Err(why.into()),
                other => other?,
            };
            assert_eq!(found, (length, handles));
            Ok(())
        });
    }
});

/// In a process that has started none before, so that anything that the first spawn makes for all
/// of them can be missing as well.
#[process_fn]
fn start_the_first() {
    let before = Resources::of_this_process();
    let started = steps(0).into_iter().find(|&more| match with_descriptors(more, nothing::spawn) {
        Ok(process) => {
            process.join().unwrap();
            true
        }
        Err(error) => {
            assert!(error_chain(&error).contains("os error 24"), "{error:?}");
            assert_eq!(Resources::of_this_process().children, before.children, "with {more}");
            false
        }
    });
    assert!(started.is_some_and(|more| more >= 4), "the lifeline and the control socket are two each: {started:?}");
    nothing::spawn().unwrap().join().unwrap();
    assert_eq!(Resources::of_this_process().descriptors, before.descriptors);
}

scenario!(every_descriptor_that_the_first_spawn_needs_can_be_missing, {
    start_the_first::spawn().unwrap().join().unwrap()
});

scenario!(every_descriptor_that_a_connection_needs_can_be_missing, {
    until_it_succeeds("a pipe", 0, |more| {
        with_descriptors(more, pipe::<u8>)?;
        Ok(())
    });
    until_it_succeeds("a duplex", 0, |more| {
        with_descriptors(more, duplex::<u8, u8>)?;
        Ok(())
    });
    until_it_succeeds("duplicates", 0, |more| {
        let (sender, receiver) = pipe::<u8>()?;
        let (connection, _peer) = duplex::<u8, u8>()?;
        with_descriptors(more, || {
            io::Result::Ok((sender.try_clone()?, receiver.try_clone()?, connection.try_clone()?))
        })?;
        Ok(())
    });
    until_it_succeeds("a split", 0, |more| {
        let (connection, _peer): (Connection<u8, u8>, _) = duplex::<u8, u8>()?;
        with_descriptors(more, || connection.into_split())?;
        Ok(())
    });
    until_it_succeeds("a message that is encoded", 0, |more| {
        let load = Load::new(3 << 20, 3);
        with_descriptors(more, || Message::encode(&load))?;
        Ok(())
    });
    until_it_succeeds("plain bytes", 0, |more| {
        let (sender, _receiver) = pipe::<u8>()?;
        with_descriptors(more, || Ok(sender.send_bytes(&[1; 300_000])?))
    });
});

scenario!(every_descriptor_that_a_message_needs_can_be_missing, {
    if is_not_for_fork_server("the pipe for the status leaves a place") {
        return;
    }
    for (length, handles) in LOADS {
        until_it_succeeds(&format!("sending {length} bytes and {handles} handles"), handles, |more| {
            let (sender, receiver) = pipe::<Load>()?;
            let load = Load::new(length, handles);
            let result = with_descriptors(more, || sender.send(load));
            // What could not be sent is given back whole, and the connection goes on.
            let error = result.err().map(|error| {
                assert_eq!((error.value.bytes.len(), error.value.handles.len()), (length, handles));
                error.reason
            });
            if error.is_none() {
                assert_eq!(receiver.recv()?.handles.len(), handles);
            }
            sender.send(Load::new(length, 1))?;
            assert_eq!(receiver.recv()?.handles.len(), 1);
            error.map_or(Ok(()), |error| Err(error.into()))
        });
        until_it_succeeds(&format!("receiving {length} bytes and {handles} handles"), handles, |more| {
            let (sender, receiver) = pipe::<Load>()?;
            sender.send(Load::new(length, handles))?;
            let result = with_descriptors(more, || receiver.recv());
            // A message that finds no place is gone; the next one arrives.
            sender.send(Load::new(length, 1))?;
            assert_eq!(receiver.recv()?.handles.len(), 1);
            assert_eq!(result?.handles.len(), handles);
            Ok(())
        });
        let join = |more| {
            let process = echo::spawn(Load::new(length, handles))?;
            wait(&[&process], Some(PATIENCE))?;
            assert_eq!(with_descriptors(more, || process.join())?.handles.len(), handles);
            Ok(())
        };
        if handles == 0 {
            // The memory file takes the place of the lifeline.
            join(0).unwrap();
        } else {
            until_it_succeeds(&format!("joining {length} bytes and {handles} handles"), handles, join);
        }
    }
    until_it_succeeds("receiving plain bytes", 0, |more| {
        let (sender, receiver): (_, Receiver<u8>) = pipe()?;
        sender.send_bytes(&[1; 300_000])?;
        assert_eq!(with_descriptors(more, || receiver.recv_bytes())?.len(), 300_000);
        Ok(())
    });
});

scenario!(what_needs_no_descriptor_goes_on_without_any, {
    let (sender, receiver) = pipe::<u32>().unwrap();
    let mut process = echo_number::spawn(7).unwrap();
    with_descriptors(0, || {
        sender.send(1).unwrap();
        assert_eq!(receiver.recv().unwrap(), 1);
        assert_eq!(receiver.recv_timeout(Duration::from_millis(1)).unwrap(), None);
        assert_eq!(process.join_timeout(PATIENCE).unwrap(), Some(7));
    });
});

#[process_fn]
fn echo_number(number: u32) -> u32 {
    number
}

// poll(2) refuses more descriptors than a process may have open, even if they are open.
scenario!(waiting_under_a_limit_of_nothing_is_an_error_and_can_be_tried_again, {
    let (sender, receiver) = pipe::<u32>().unwrap();
    let (order, orders) = pipe::<u32>().unwrap();
    let mut process: Process<u32> = relay::spawn(orders).unwrap();
    with_limit(Resource::Nofile, 0, || {
        let error = process.join_timeout(PATIENCE).unwrap_err();
        assert!(matches!(error, JoinError::Io(_)), "{error:?}");
        let error = receiver.recv_timeout(PATIENCE).unwrap_err();
        assert!(matches!(error, RecvError::Io(_)), "{error:?}");
    });
    sender.send(3).unwrap();
    assert_eq!(receiver.recv_timeout(PATIENCE).unwrap(), Some(3));
    order.send(4).unwrap();
    assert_eq!(process.join_timeout(PATIENCE).unwrap(), Some(4));
});

#[process_fn]
fn relay(numbers: Receiver<u32>) -> u32 {
    numbers.recv().unwrap()
}

/// The limit does not hold for root, and counts every process of a user.
#[process_fn]
fn as_a_user_of_its_own() {
    become_a_user_of_its_own();
    let before = Resources::of_this_process();
    let refused = |error: &SpawnError| error_chain(error).contains("os error 11");
    let mut failures = 0;
    let attempt =
        |limit| with_limit(Resource::Nproc, limit, || Builder::new().stdin(Stdio::null()).spawn(nothing::call()));
    for limit in 0.. {
        match attempt(limit) {
            Ok(process) => {
                process.join().unwrap();
                break;
            }
            Err(error) => assert!(refused(&error), "with {limit}: {error:?}"),
        }
        failures += 1;
        assert_eq!(Resources::of_this_process().children, before.children, "with {limit}");
    }
    assert_eq!(failures, 2, "this process is one");

    let mut processes: Vec<Process<()>> = Vec::new();
    with_limit(Resource::Nproc, 6, || {
        let error = loop {
            match Builder::new().spawn(Call::<run_for_ever>::new(())) {
                Ok(process) => processes.push(process),
                Err(error) => break error,
            }
        };
        assert!(refused(&error), "{error:?}");
        assert_eq!(processes.len(), 5);
        // One that ends makes room for another.
        let process = processes.pop().unwrap();
        process.kill().unwrap();
        process.join().unwrap_err();
        nothing::spawn().unwrap().join().unwrap();
    });
    for process in processes {
        process.kill().unwrap();
        process.join().unwrap_err();
    }
    nothing::spawn().unwrap().join().unwrap();
}

scenario!(every_process_that_a_spawn_needs_can_be_missing, {
    if !rustix::process::geteuid().is_root() {
        println!("not tested: other processes of this user count as well");
        return;
    }
    as_a_user_of_its_own::spawn().unwrap().join().unwrap();
});
