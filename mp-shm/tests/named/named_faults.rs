//! Creators of named memory are killed, and what they leave is swept: all of it, and nothing else.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::thread;
use std::time::Duration;

use crate::names::{all, all_of, exists, have_a_directory_of_their_own, marks_of, own, path};
use memmap2::MmapRaw;
use mp_core::{ExitStatus, JoinError, Process, Sender, pipe, process_fn};
use mp_shm::{SharedMemory, SharedMemoryError};
use mp_testing::faults::{Killer, Random, count, limit};
use mp_testing::{PATIENCE, eventually, scenario};

/// How many are killed if nobody says otherwise.
const CREATORS: u64 = 300;

const NOBODY: u32 = 65534;

/// Room for what the tests create.
const ROOM: u64 = 64 << 20;

fn kill(process: Process<()>) {
    process.kill().unwrap();
    was_killed(process);
}

#[track_caller]
fn was_killed(process: Process<()>) {
    match process.join() {
        Err(JoinError::Exited(ExitStatus::Signal { signal: libc::SIGKILL, .. })) => {}
        other => panic!("it was to be killed: {other:?}"),
    }
}

/// Creates memory and waits to be killed.
#[process_fn]
fn creates(name: String, keep: bool, there: Sender<()>) {
    let mut memory = SharedMemory::create(&*name, 5000).unwrap();
    memory.write_at(0, b"left").unwrap();
    if keep {
        memory.keep().unwrap();
    }
    there.send(()).unwrap();
    loop {
        thread::park();
    }
}

/// A creator that has created.
fn creator(name: &str, keep: bool) -> Process<()> {
    let (there, come) = pipe().unwrap();
    let process = creates::spawn(name.to_owned(), keep, there).unwrap();
    come.recv_timeout(PATIENCE).unwrap().expect("it creates");
    process
}

/// Sweeps until what a dead process has created is gone: others may be sweeping at the same time.
#[track_caller]
fn swept(pid: u32, name: &str) {
    eventually("it is swept", || {
        SharedMemory::sweep().unwrap();
        !exists(name) && marks_of(pid).is_empty()
    });
}

scenario!(what_a_killed_creator_left_is_swept, {
    let is_alone = have_a_directory_of_their_own(ROOM);
    let name = own("left");
    let process = creator(&name, false);
    let pid = process.pid();
    SharedMemory::sweep().unwrap();
    assert_eq!(all_of(&name).len(), 2, "its creator lives");
    kill(process);
    if is_alone {
        assert_eq!(all_of(&name).len(), 2, "nobody has swept yet");
        assert_eq!(SharedMemory::sweep().unwrap(), 1);
        assert_eq!(all(), [""; 0]);
    }
    swept(pid, &name);
});

#[process_fn]
fn creates_something() {
    drop(SharedMemory::create(None, 1).unwrap());
}

#[process_fn]
fn opens_nothing() {
    SharedMemory::open("mp-core-test-nothing").unwrap_err();
}

scenario!(the_first_that_a_process_creates_or_opens_sweeps, {
    let is_alone = have_a_directory_of_their_own(ROOM);
    for opens in [false, true] {
        let name = own("left");
        kill(creator(&name, false));
        let next = if opens { opens_nothing::spawn() } else { creates_something::spawn() };
        next.unwrap().join().unwrap();
        if is_alone {
            assert_eq!(all(), [""; 0]);
        }
        SharedMemory::sweep().unwrap();
    }
});

scenario!(a_dead_creators_name_can_be_taken_at_once_and_a_living_ones_cannot, {
    drop(SharedMemory::create(None, 1).unwrap()); // which sweeps
    let name = own("again");
    let process = creator(&name, false);
    assert!(matches!(SharedMemory::create(&*name, 1), Err(SharedMemoryError::Exists { .. })));
    kill(process);
    // Others who sweep at the same time may be looking at it just now.
    eventually("it is free", || SharedMemory::create(&*name, 7).is_ok_and(|memory| memory.size() == 7));
});

scenario!(what_was_kept_outlives_its_killed_creator, {
    let name = own("kept");
    kill(creator(&name, true));
    SharedMemory::sweep().unwrap();
    let memory = SharedMemory::open(&name).unwrap();
    let mut bytes = [0; 4];
    memory.read_at(0, &mut bytes).unwrap();
    assert_eq!(&bytes, b"left");
    memory.unlink().unwrap();
});

scenario!(what_somebody_uses_is_not_swept, {
    let name = own("used");
    let place = path(&name);
    let (sender, receiver) = pipe().unwrap();
    let open = || File::options().read(true).write(true).open(&place).unwrap();
    // Each a way to use it, and to end that.
    type Begin<'a> = &'a dyn Fn() -> Box<dyn std::any::Any>;
    let uses: [(&str, Begin<'_>); 4] = [
        ("opened", &|| Box::new(SharedMemory::open(&name).unwrap())),
        ("open for reading", &|| Box::new(File::open(&place).unwrap())),
        ("mapped", &|| Box::new(MmapRaw::map_raw(&open()).unwrap())),
        ("on its way", &|| {
            sender.send(SharedMemory::open(&name).unwrap()).unwrap();
            Box::new(())
        }),
    ];
    for (how, begin) in uses {
        let process = creator(&name, false);
        let pid = process.pid();
        let used = begin();
        kill(process);
        for _ in 0..3 {
            SharedMemory::sweep().unwrap();
            assert_eq!(all_of(&name).len(), 2, "{how}");
        }
        drop(used);
        if how == "on its way" {
            let memory = receiver.recv().unwrap();
            SharedMemory::sweep().unwrap();
            assert!(exists(memory.name()), "it has arrived");
        }
        swept(pid, &name);
    }
});

scenario!(what_others_have_put_under_the_name_stays, {
    let name = own("taken");
    let process = creator(&name, false);
    let pid = process.pid();
    fs::remove_file(path(&name)).unwrap();
    fs::write(path(&name), "another's").unwrap();
    kill(process);
    eventually("the mark is swept", || {
        SharedMemory::sweep().unwrap();
        marks_of(pid).is_empty()
    });
    assert_eq!(fs::read(path(&name)).unwrap(), b"another's");
    fs::remove_file(path(&name)).unwrap();
});

scenario!(what_only_looks_like_a_mark_stays, {
    let name = own("target");
    fs::write(path(&name), "mine").unwrap();
    let pid = std::process::id();
    let [link, folder, short] =
        [format!("mp-shm.{pid:08x}00000000"), format!("mp-shm.{pid:08x}00000001"), format!("mp-shm.{pid:08x}0000000")];
    symlink(path(&name), path(&link)).unwrap();
    fs::create_dir(path(&folder)).unwrap();
    fs::write(path(&short), "mine too").unwrap();
    SharedMemory::sweep().unwrap();
    assert!([&link, &folder, &short, &name].into_iter().all(|each| exists(each)));
    fs::remove_dir(path(&folder)).unwrap();
    [link, short, name].into_iter().for_each(|each| fs::remove_file(path(&each)).unwrap());
});

/// Creates and drops memory of several sizes until it is killed.
#[process_fn]
fn creates_again_and_again(name: String, there: Sender<()>) {
    there.send(()).unwrap();
    for round in 0.. {
        let given = (round % 3 != 0).then_some(&*name);
        let memory = SharedMemory::create(given, 1 + round % 2 * 70_000).unwrap();
        memory.write_at(0, b"x").unwrap();
        if round % 5 == 0 {
            memory.unlink().unwrap();
        }
    }
}

scenario!(a_creator_that_is_killed_at_any_instant_leaves_nothing_that_is_not_swept, limit(count(CREATORS)), {
    let is_alone = have_a_directory_of_their_own(ROOM);
    let (mut random, killer) = (Random::new(), Killer::new());
    for round in 0..count(CREATORS) {
        let name = own("instant");
        let (there, come) = pipe().unwrap();
        let process = creates_again_and_again::spawn(name.clone(), there).unwrap();
        let pid = process.pid();
        come.recv_timeout(PATIENCE).unwrap().expect("it begins");
        killer.kill(&process, random.moment(Duration::from_micros(400)));
        if round % 2 == 0 {
            // In the middle of what it does, or after.
            SharedMemory::sweep().unwrap();
        }
        killer.finish();
        was_killed(process);
        if is_alone {
            SharedMemory::sweep().unwrap();
            assert_eq!(all(), [""; 0], "after {round} rounds");
        }
        swept(pid, &name);
    }
    killer.end();
});

#[process_fn]
fn sweeps_again_and_again(there: Sender<()>) {
    there.send(()).unwrap();
    loop {
        SharedMemory::sweep().unwrap();
    }
}

scenario!(a_sweeper_that_is_killed_at_any_instant_leaves_the_rest_to_the_next, limit(count(CREATORS)), {
    let is_alone = have_a_directory_of_their_own(ROOM);
    let (mut random, killer) = (Random::new(), Killer::new());
    for _ in 0..count(CREATORS) / 3 {
        let creators: Vec<_> = (0..3).map(|each| (own(&format!("left-{each}")), each)).collect();
        let creators: Vec<_> = creators.into_iter().map(|(name, _)| (creator(&name, false), name)).collect();
        let (there, come) = pipe().unwrap();
        let sweeper = sweeps_again_and_again::spawn(there).unwrap();
        come.recv_timeout(PATIENCE).unwrap().expect("it begins");
        let left: Vec<_> = creators.into_iter().map(|(process, name)| (process.pid(), kill(process), name)).collect();
        killer.kill(&sweeper, random.moment(Duration::from_micros(200)));
        killer.finish();
        was_killed(sweeper);
        for (pid, (), name) in left {
            swept(pid, &name);
        }
        if is_alone {
            assert_eq!(all(), [""; 0]);
        }
    }
    killer.end();
});

/// Creates memory and uses it; tells whether it was always as it should be.
#[process_fn]
fn creates_and_checks(name: String, rounds: u32) {
    for round in 0..rounds {
        let memory = SharedMemory::create(&*name, 10_000).unwrap();
        memory.write_at(5_000, &round.to_ne_bytes()).unwrap();
        let opened = SharedMemory::open(&name).unwrap();
        drop(opened.try_clone().unwrap());
        let mut bytes = [0; 4];
        opened.read_at(5_000, &mut bytes).unwrap();
        assert_eq!(bytes, round.to_ne_bytes());
        assert_eq!(all_of(&name).len(), 2);
        drop((memory, opened));

        // A sweeper may have it open just when it is kept, and nobody else has it then.
        let mut memory = SharedMemory::create(&*name, 1).unwrap();
        memory.keep().unwrap();
        drop(memory);
        SharedMemory::open(&name).expect("it was kept").unlink().unwrap();
    }
}

scenario!(sweepers_and_creators_at_once_do_not_disturb_each_other, {
    let (there, come) = pipe().unwrap();
    let sweepers: Vec<_> = (0..3).map(|_| sweeps_again_and_again::spawn(there.try_clone().unwrap()).unwrap()).collect();
    drop(there);
    assert_eq!(come.iter().map(Result::unwrap).take(3).count(), 3);
    let creators: Vec<_> = (0..3).map(|each| creates_and_checks::spawn(own(&each.to_string()), 300).unwrap()).collect();
    creators.into_iter().for_each(|creator| creator.join().unwrap());
    sweepers.into_iter().for_each(kill);
});

fn become_nobody() {
    // SAFETY: these only change who this process is.
    assert_eq!(unsafe { libc::setresgid(NOBODY, NOBODY, NOBODY) }, 0);
    // SAFETY: as above.
    assert_eq!(unsafe { libc::setresuid(NOBODY, NOBODY, NOBODY) }, 0);
}

/// Sweeps as another user, and looks at what that must leave.
#[process_fn]
fn sweeps_as_nobody(expected: usize) {
    become_nobody();
    assert_eq!(SharedMemory::sweep().unwrap(), expected);
}

#[process_fn]
fn creates_as_nobody(name: String, others: String, there: Sender<()>) {
    become_nobody();
    assert!(matches!(SharedMemory::open(&others), Err(SharedMemoryError::Io { .. })), "it is not allowed to");
    assert!(matches!(SharedMemory::create(&*others, 1), Err(SharedMemoryError::Exists { .. })));
    let _memory = SharedMemory::create(&*name, 1).unwrap();
    there.send(()).unwrap();
    loop {
        thread::park();
    }
}

scenario!(what_is_another_users_is_not_swept, {
    if !rustix::process::geteuid().is_root() || !have_a_directory_of_their_own(ROOM) {
        println!("only root can be two users; not tested");
        return;
    }
    let [ours, theirs] = [own("ours"), own("theirs")];
    kill(creator(&ours, false));
    let (there, come) = pipe().unwrap();
    let nobody = creates_as_nobody::spawn(theirs.clone(), ours.clone(), there).unwrap();
    come.recv_timeout(PATIENCE).unwrap().expect("it creates");
    kill(nobody);
    assert_eq!((all_of(&ours).len(), all_of(&theirs).len()), (2, 2));
    assert_eq!(SharedMemory::sweep().unwrap(), 1);
    assert_eq!((exists(&ours), all_of(&theirs).len()), (false, 2));
    kill(creator(&ours, false));
    sweeps_as_nobody::spawn(1).unwrap().join().unwrap();
    assert_eq!((all_of(&ours).len(), exists(&theirs)), (2, false));
    assert_eq!(SharedMemory::sweep().unwrap(), 1);
});

scenario!(a_full_directory_is_an_error_and_no_signal, {
    if !have_a_directory_of_their_own(1 << 20) {
        return;
    }
    let no_room = |size| match SharedMemory::create(None, size) {
        Err(SharedMemoryError::NoRoom { size: asked, .. }) => assert_eq!(asked, size),
        other => panic!("{other:?}"),
    };
    no_room((1 << 20) + 1);
    no_room(200 << 20);
    let half = SharedMemory::create(None, 600 << 10).unwrap();
    no_room(600 << 10);
    assert_eq!(all().len(), 2, "what could not be made is gone");

    // As a program creates it that does not allocate.
    let name = own("sparse");
    File::create_new(path(&name)).unwrap().set_len(1 << 20).unwrap();
    let sparse = SharedMemory::open(&name).unwrap();
    assert!(matches!(sparse.write_at(0, &vec![1; 1 << 20]), Err(SharedMemoryError::NoRoom { .. })));
    drop(half);
    sparse.write_at(0, &vec![1; 1 << 20]).unwrap();
    sparse.unlink().unwrap();
    assert_eq!(all(), [""; 0]);
});
