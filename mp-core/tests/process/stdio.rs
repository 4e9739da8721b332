//! The standard streams of a process.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::OwnedFd;
use std::process;

use mp_core::{Builder, JoinError, Process, Resource, Stdio, process_fn};
use mp_testing::{PATIENCE, procfs, scenario};
use serde::{Deserialize, Serialize};

/// Copies stdin to stdout in capitals, and reports on stderr.
#[process_fn]
fn shout() -> usize {
    let mut text = String::new();
    io::stdin().read_to_string(&mut text).unwrap();
    println!("{}", text.to_uppercase());
    eprintln!("shouted {} bytes", text.len());
    text.len()
}

/// What the three standard streams are.
#[process_fn]
fn streams() -> [String; 3] {
    [0, 1, 2].map(|fd| std::fs::read_link(format!("/proc/self/fd/{fd}")).unwrap().display().to_string())
}

fn text_of(mut stream: impl Read) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

/// A file that holds `text`, at its beginning.
fn file_with(text: &str) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file.rewind().unwrap();
    file
}

fn talk(mut process: Process<usize>) {
    let mut stdin = process.take_stdin().unwrap();
    stdin.write_all(b"hello").unwrap();
    drop(stdin);
    assert_eq!(text_of(process.take_stdout().unwrap()), "HELLO\n");
    assert_eq!(text_of(process.take_stderr().unwrap()), "shouted 5 bytes\n");
    assert!(process.take_stdin().is_none() && process.take_stdout().is_none() && process.take_stderr().is_none());
    assert_eq!(process.join().unwrap(), 5);
}

scenario!(pipes_connect_a_process_with_its_parent, {
    let builder = Builder::new().stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    talk(builder.spawn(shout::call()).unwrap());
});

scenario!(files_can_be_streams, {
    let mut output = file_with("");
    let errors: OwnedFd = output.try_clone().unwrap().into();
    let builder = Builder::new().stdin(file_with("to a file")).stdout(output.try_clone().unwrap()).stderr(errors);
    assert_eq!(builder.spawn(shout::call()).unwrap().join().unwrap(), 9);
    output.rewind().unwrap();
    assert_eq!(text_of(output), "TO A FILE\nshouted 9 bytes\n");
});

scenario!(processes_that_are_started_alike_share_their_streams_but_no_pipe, {
    let mut output = file_with("");
    let template = Builder::new().stdin(Stdio::null()).stdout(output.try_clone().unwrap()).stderr(Stdio::null());
    for _ in 0..2 {
        assert_eq!(template.try_clone().unwrap().spawn(shout::call()).unwrap().join().unwrap(), 0);
    }
    output.rewind().unwrap();
    assert_eq!(text_of(output), "\n\n");
    let error = Builder::new().stdin(Stdio::piped()).try_clone().unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
});

scenario!(null_is_empty_and_swallows_everything, {
    let null = Stdio::null;
    let builder = Builder::new().stdin(null()).stdout(null()).stderr(null());
    assert_eq!(builder.spawn(shout::call()).unwrap().join().unwrap(), 0);
});

scenario!(streams_are_inherited_unless_said_otherwise, {
    assert_eq!(streams::spawn().unwrap().join().unwrap(), streams());
    let builder = Builder::new().stdin(Stdio::null()).stdin(Stdio::inherit());
    assert_eq!(builder.spawn(streams::call()).unwrap().join().unwrap(), streams());
});

scenario!(joining_closes_the_pipe_to_a_process_that_reads_to_its_end, {
    let process = Builder::new().stdin(Stdio::piped()).stdout(Stdio::null()).spawn(shout::call()).unwrap();
    assert_eq!(process.join().unwrap(), 0);
});

scenario!(a_process_may_be_handed_the_pipe_of_another, {
    let mut first =
        Builder::new().stdin(file_with("twice")).stdout(Stdio::piped()).stderr(Stdio::null()).spawn(shout::call());
    let first_output = first.as_mut().unwrap().take_stdout().unwrap();
    let mut second =
        Builder::new().stdin(first_output).stdout(Stdio::piped()).stderr(Stdio::null()).spawn(shout::call());
    let output = second.as_mut().unwrap().take_stdout().unwrap();
    assert_eq!(text_of(output), "TWICE\n\n");
    assert_eq!(first.unwrap().join().unwrap(), 5);
    assert_eq!(second.unwrap().join().unwrap(), 6);
});

/// A standard stream of the parent's as a handle.
#[derive(Serialize, Deserialize)]
struct Stream(#[serde(with = "mp_core::fd")] OwnedFd);

#[process_fn]
fn write_to(stream: Stream) {
    File::from(stream.0).write_all(b"through a handle").unwrap();
}

/// Starts a process with each of its own standard streams closed.
#[process_fn]
fn start_without_streams(report: Stream) {
    for fd in 0..3 {
        // SAFETY: nothing in this process uses its standard streams from here on.
        drop(unsafe { <OwnedFd as std::os::fd::FromRawFd>::from_raw_fd(fd) });
    }
    let mut report = File::from(report.0);
    let mut child = streams::spawn().unwrap();
    let found = child.join_timeout(PATIENCE).unwrap();
    // Pipes and sockets that are made now must not become anyone's standard streams either.
    let (sender, receiver) = mp_core::pipe::<u8>().unwrap();
    let through = echo::spawn(receiver).unwrap();
    sender.send(5).unwrap();
    let echoed = through.join().unwrap();
    let piped = Builder::new().stdout(Stdio::piped()).spawn(shout::call()).map(|mut process| {
        let output = text_of(process.take_stdout().unwrap());
        (output, process.join().ok())
    });
    write!(report, "{found:?} {echoed:?} {piped:?}").unwrap();
}

#[process_fn]
fn echo(receiver: mp_core::Receiver<u8>) -> ([String; 3], u8) {
    let value = receiver.recv().unwrap();
    (streams(), value)
}

scenario!(a_parent_without_standard_streams_starts_processes_with_empty_ones, {
    let mut report = file_with("");
    let handle = Stream(report.try_clone().unwrap().into());
    start_without_streams::spawn(handle).unwrap().join().unwrap();
    report.rewind().unwrap();
    let null = "[\"/dev/null\", \"/dev/null\", \"/dev/null\"]";
    assert_eq!(text_of(report), format!("Some({null}) ({null}, 5) Ok((\"\\n\", Some(0)))"));
});

scenario!(a_handle_to_a_stream_is_no_stream, {
    let mut file = file_with("");
    write_to::spawn(Stream(file.try_clone().unwrap().into())).unwrap().join().unwrap();
    file.rewind().unwrap();
    assert_eq!(text_of(file), "through a handle");
});

/// Prints `length` bytes to each stream, by turns, and then does what it is told to.
#[process_fn]
fn print(length: usize, then: String) -> usize {
    let part = [b'x'; 1000];
    for _ in 0..length / part.len() {
        io::stdout().write_all(&part).unwrap();
        io::stderr().write_all(&part).unwrap();
    }
    io::stdout().flush().unwrap();
    match then.as_str() {
        "panic" => panic!("the end"),
        "abort" => process::abort(),
        _ => length,
    }
}

fn both_piped() -> Builder {
    Builder::new().stdout(Stdio::piped()).stderr(Stdio::piped()).rlimit(Resource::CoreSize, 0, 0)
}

scenario!(all_that_is_printed_is_there_with_the_value_and_without, {
    for length in [0, 1000, 1_000_000] {
        let spawn = |then: &str| both_piped().spawn(print::call(length, then.to_owned())).unwrap();
        let (result, output) = spawn("return").join_with_output();
        assert_eq!((result.unwrap(), output.stdout.len(), output.stderr.len()), (length, length, length));

        let (result, output) = spawn("panic").join_with_output();
        assert!(matches!(result, Err(JoinError::Panicked(_))), "{result:?}");
        assert_eq!(output.stdout.len(), length);
        assert!(String::from_utf8(output.stderr[length..].to_vec()).unwrap().contains("the end"));

        let (result, output) = spawn("abort").join_with_output();
        assert!(matches!(result, Err(JoinError::Exited(_))), "{result:?}");
        assert_eq!((output.stdout.len(), output.stderr.len()), (length, length));
    }
});

scenario!(what_is_not_piped_or_was_taken_is_no_output, {
    let builder = Builder::new().stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let (result, output) = builder.spawn(shout::call()).unwrap().join_with_output();
    assert_eq!((result.unwrap(), output.stdout.len()), (0, 0));
    assert_eq!(output.stderr, b"shouted 0 bytes\n");
    let mut process = both_piped().spawn(print::call(2000, "return".to_owned())).unwrap();
    let taken = process.take_stdout().unwrap();
    let (result, output) = process.join_with_output();
    assert_eq!((result.unwrap(), output.stdout.len(), output.stderr.len()), (2000, 0, 2000));
    assert_eq!(text_of(taken).len(), 2000);
});

/// Leaves a program behind that holds the pipes, and returns its number.
#[process_fn]
fn leave_a_program() -> u32 {
    println!("before the end");
    process::Command::new("sleep").arg("1000").spawn().unwrap().id()
}

scenario!(a_program_that_holds_the_pipes_does_not_hold_the_join_up, {
    let (result, output) = both_piped().spawn(leave_a_program::call()).unwrap().join_with_output();
    let program = procfs::number_of(result.unwrap());
    rustix::process::kill_process(program, rustix::process::Signal::KILL).unwrap();
    assert_eq!(output.stdout, b"before the end\n");
});
