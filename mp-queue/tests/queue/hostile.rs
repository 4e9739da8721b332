//! Another process that holds the queue writes over its memory, or sends what is no queue.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::thread;
use std::time::{Duration, Instant};

use mp_core::raw::Message;
use mp_core::{Fd, Process, Receiver, Sender, pipe, process_fn, wait};
use mp_queue::{GetError, JoinableQueue, PutErrorReason, Queue, ring};
use mp_shm::raw::Region;
use mp_testing::faults::Random;
use mp_testing::victims::soon;
use mp_testing::{PATIENCE, PROMPTLY, scenario};
use rustix::event::{EventfdFlags, epoll, eventfd};
use rustix::fs::{MemfdFlags, OFlags, fcntl_setfl, inotify, memfd_create};
use rustix::time::{TimerfdClockId, TimerfdFlags, timerfd_create};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::messages::Bundle;

/// The shared memory of the only queue that this process has.
fn memory() -> File {
    let is_memory = |path: &std::path::PathBuf| {
        std::fs::read_link(path).is_ok_and(|target| target.to_string_lossy().starts_with("/memfd:mp-shm"))
    };
    let open = std::fs::read_dir("/proc/self/fd").unwrap().map(|entry| entry.unwrap().path());
    let path = open.into_iter().find(is_memory).expect("it has one");
    File::options().read(true).write(true).open(path).unwrap()
}

/// What is before the ring's bytes, and more.
const HEAD: u64 = 8192;

/// Scribbles over all of the memory until it is killed.
fn scribble(there: &Sender<()>) {
    let memory = memory();
    let mut whole = vec![0; memory.metadata().unwrap().len() as usize];
    memory.read_exact_at(&mut whole, 0).unwrap();
    let mut random = Random::new();
    there.send(()).unwrap();
    loop {
        let length = if random.below(2) == 0 { HEAD } else { whole.len() as u64 };
        let place = random.below((length - 8) / 8) * 8;
        match random.below(400) {
            0 => memory.write_all_at(&whole, 0).unwrap(),
            1 => memory.write_all_at(&vec![random.of(&[0, 1, 0x80, 0xff]); HEAD as usize], 0).unwrap(),
            2..50 => memory.write_all_at(&[random.next() as u8], place + random.below(8)).unwrap(),
            50..100 => memory.write_all_at(&random.next().to_ne_bytes(), place).unwrap(),
            // What was there, as it was.
            100..200 => memory.write_all_at(&whole[place as usize..][..8], place).unwrap(),
            // Almost what is there.
            kind => {
                let mut word = [0; 8];
                memory.read_exact_at(&mut word, place).unwrap();
                let change = random.below(17).wrapping_sub(8) << random.of(&[0, 2, 8, 16, 32]);
                let word = match kind % 3 {
                    0 => u64::from_ne_bytes(word).wrapping_add(change),
                    1 => u64::from_ne_bytes(word) ^ 1 << random.below(64),
                    _ => u64::from_ne_bytes(word).wrapping_add(change << 2),
                };
                memory.write_all_at(&word.to_ne_bytes(), place).unwrap();
            }
        }
    }
}

#[process_fn]
fn scribbles_over_a_queue(_queue: JoinableQueue<Value>, there: Sender<()>) {
    scribble(&there);
}

#[process_fn]
fn scribbles_over_a_ring(_end: ring::Receiver<Value>, there: Sender<()>) {
    scribble(&there);
}

#[process_fn]
fn scribbles_over_the_other_end(_end: ring::Sender<Value>, there: Sender<()>) {
    scribble(&there);
}

#[derive(Serialize, Deserialize)]
enum Value {
    Numbers(Vec<u32>),
    Bytes(ByteBuf),
    Text(String),
    Descriptors(Bundle),
}

fn value(random: &mut Random) -> Value {
    let length = random.below(64) as usize;
    match random.below(8) {
        0 => Value::Descriptors(Bundle::new(1, 1, length)),
        1 => Value::Bytes(ByteBuf::from(vec![1; 1000 * length])),
        2 => Value::Text("text".repeat(length)),
        3 => Value::Bytes(ByteBuf::from(vec![1; length])),
        _ => Value::Numbers((0..length as u32).collect()),
    }
}

const SHORTLY: Duration = Duration::from_millis(2);

/// How often what was found, by all threads that use the memory.
#[derive(Default, Debug)]
struct Found {
    values: u32,
    damage: u32,
    others: u32,
}

impl Found {
    fn got<T>(&mut self, result: Result<T, GetError>) {
        match result {
            Ok(_) => self.values += 1,
            Err(GetError::Damaged(_)) => self.damage += 1,
            Err(_) => self.others += 1,
        }
    }

    fn put(&mut self, result: Result<(), PutErrorReason>) {
        match result {
            Ok(()) => self.values += 1,
            Err(PutErrorReason::Damaged(_)) => self.damage += 1,
            Err(_) => self.others += 1,
        }
    }
}

/// Does something again and again for a while; each time takes no longer than it may.
fn again_and_again(mut what: impl FnMut(&mut Random, &mut Found)) -> Found {
    let mut random = Random::new();
    let mut found = Found::default();
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(700) {
        let before = Instant::now();
        what(&mut random, &mut found);
        assert!(before.elapsed() < PROMPTLY, "{:?}", before.elapsed());
    }
    assert!(found.values + found.damage + found.others > 20, "{found:?}");
    found
}

fn put_some(queue: &JoinableQueue<Value>) -> Found {
    again_and_again(|random, found| match random.below(4) {
        0 => found.put(queue.put_timeout(value(random), SHORTLY).map_err(|error| error.reason)),
        1 => {
            let _ = queue.writable();
        }
        _ => found.put(queue.try_put(value(random)).map_err(|error| error.reason)),
    })
}

fn get_some(queue: &JoinableQueue<Value>) -> Found {
    again_and_again(|random, found| match random.below(8) {
        0 => found.got(queue.get_timeout(SHORTLY)),
        1 => found.got(queue.drain().map_err(|error| error.reason)),
        2 => drop((queue.readable(), queue.len(), queue.is_full(), queue.capacity(), format!("{queue:?}"))),
        3 => drop((queue.task_done(), queue.unfinished())),
        4 => drop(queue.join_timeout(SHORTLY)),
        5 => drop((queue.producer(), queue.consumer(), queue.clone())),
        // Whether it can be attached depends on what is written.
        6 => drop(Message::encode(queue).unwrap().decode::<JoinableQueue<Value>>()),
        _ => found.got(queue.try_get()),
    })
}

fn end(child: Process<()>) {
    child.kill().unwrap();
    mp_testing::victims::was_killed(child);
}

/// Does something until it has found damage: on a busy machine a while may pass without.
fn until_damaged(mut what: impl FnMut() -> Vec<Found>) {
    let begun = Instant::now();
    loop {
        let found = what();
        println!("{found:?}");
        if found.iter().any(|found| found.damage > 0) {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "{found:?}");
    }
}

scenario!(what_another_process_writes_over_a_queue_is_damage_or_values_and_nothing_else, {
    for bytes in [4096, 1 << 17] {
        until_damaged(|| {
            let queue = JoinableQueue::with_bytes(bytes).unwrap();
            let (there, come) = pipe().unwrap();
            let child = scribbles_over_a_queue::spawn(queue.clone(), there).unwrap();
            soon(&come);
            let queue = &queue;
            let found = thread::scope(|scope| {
                let threads = [put_some, put_some, get_some, get_some].map(|all| scope.spawn(move || all(queue)));
                threads.map(|thread| thread.join().unwrap())
            });
            end(child);
            found.into()
        });
    }
});

scenario!(what_another_process_writes_over_a_ring_is_damage_or_values_and_nothing_else, {
    for bytes in [4096, 1 << 17] {
        until_damaged(|| {
            let (mut to, from) = ring::channel::<Value>(bytes).unwrap();
            let (there, come) = pipe().unwrap();
            let child = scribbles_over_a_ring::spawn(from, there.try_clone().unwrap()).unwrap();
            soon(&come);
            let sent = again_and_again(|random, found| match random.below(4) {
                0 => found.put(to.send_timeout(&value(random), SHORTLY)),
                1 => {
                    (0..5).for_each(|_| found.put(to.push(&value(random))));
                    found.put(to.send_timeout(&value(random), SHORTLY));
                }
                _ => found.put(to.try_send(&value(random))),
            });
            end(child);
            let (to, mut from) = ring::channel::<Value>(bytes).unwrap();
            let child = scribbles_over_the_other_end::spawn(to, there).unwrap();
            soon(&come);
            let received = again_and_again(|random, found| match random.below(4) {
                0 => found.got(from.recv_timeout(SHORTLY)),
                1 => {
                    let _ = (from.readable(), from.is_empty());
                }
                _ => found.got(from.try_recv()),
            });
            end(child);
            vec![sent, received]
        });
    }
});

/// What a queue is made of when it arrives.
type Parts = (Fd<OwnedFd>, Sender<()>, Receiver<()>, Fd<OwnedFd>, Fd<OwnedFd>);

fn parts_of(queue: &Queue<u32>) -> Parts {
    Message::encode(queue).unwrap().decode().unwrap()
}

fn is_refused(parts: Parts) -> bool {
    let message = Message::encode(&parts).unwrap();
    drop(parts);
    message.decode::<Queue<u32>>().is_err()
}

/// Descriptors of all kinds but memory.
fn strangers() -> Vec<OwnedFd> {
    let (to, from) = pipe::<()>().unwrap();
    let (reader, writer) = rustix::pipe::pipe().unwrap();
    vec![
        File::open("/dev/null").unwrap().into(),
        File::open("/proc/self/status").unwrap().into(),
        File::open("/").unwrap().into(),
        tempfile::tempfile().unwrap().into(),
        memfd_create("stranger", MemfdFlags::CLOEXEC).unwrap(),
        to.as_fd().try_clone_to_owned().unwrap(),
        from.as_fd().try_clone_to_owned().unwrap(),
        reader,
        writer,
    ]
}

scenario!(what_arrives_in_place_of_a_queue_is_refused, {
    let queue = Queue::<u32>::new().unwrap();
    let (items, again) = (parts_of(&queue), parts_of(&queue));
    assert!(!is_refused(again), "these are parts of a queue");
    let event = || eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).unwrap();
    for stranger in strangers().into_iter().chain([event()]) {
        let (_, to, from, first, second) = parts_of(&queue);
        assert!(is_refused((Fd(stranger), to, from, first, second)));
    }
    // One that would wait, or raise a signal, when it is written.
    for stranger in strangers().into_iter().chain([eventfd(0, EventfdFlags::CLOEXEC).unwrap()]) {
        let name = std::fs::read_link(format!("/proc/self/fd/{}", stranger.as_raw_fd())).unwrap();
        let (memory, to, from, first, second) = parts_of(&queue);
        let copy = || stranger.try_clone().unwrap();
        assert!(is_refused((Fd(memory.0.try_clone().unwrap()), to, from, Fd(copy()), second)), "{name:?}");
        let (_, to, from, ..) = parts_of(&queue);
        assert!(is_refused((memory, to, from, first, Fd(copy()))), "{name:?}");
    }
    // Memory of ours that is no queue's, or has another size.
    for memory in [
        Region::create(0_u64, 1 << 20).unwrap().duplicate(&[]).unwrap(),
        Message::encode(&mp_shm::Shared::new(0_u64).unwrap()).unwrap().decode::<Fd<OwnedFd>>().unwrap().0,
    ] {
        let (_, to, from, first, second) = parts_of(&queue);
        assert!(is_refused((Fd(memory), to, from, first, second)));
    }
    // A ring's is no queue's.
    let (to, from) = ring::channel::<u32>(4096).unwrap();
    assert!(Message::encode(&to).unwrap().decode::<Queue<u32>>().is_err());
    assert!(Message::encode(&from).unwrap().decode::<JoinableQueue<u32>>().is_err());
    assert!(Message::encode(&queue).unwrap().decode::<JoinableQueue<u32>>().is_err());
    assert!(Message::encode(&queue).unwrap().decode::<ring::Sender<u32>>().is_err());
    assert!(Message::encode(&queue).unwrap().decode::<ring::Receiver<u32>>().is_err());
    drop(items);
    queue.put(1).unwrap();
    assert_eq!(queue.get().unwrap(), 1);
});

// What the kernel made for something else, and is neither file nor socket: at worst nobody is told.
scenario!(a_stranger_in_place_of_an_eventfd_does_no_harm, {
    let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK).unwrap();
    let watch = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK).unwrap();
    let set = epoll::create(epoll::CreateFlags::CLOEXEC).unwrap();
    fcntl_setfl(&set, OFlags::NONBLOCK).unwrap();
    // A set that contains itself, by way of another one, cannot be waited for.
    let other = epoll::create(epoll::CreateFlags::CLOEXEC).unwrap();
    epoll::add(&set, &other, epoll::EventData::new_u64(0), epoll::EventFlags::IN).unwrap();
    let full = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK | EventfdFlags::SEMAPHORE).unwrap();
    rustix::io::write(&full, &(u64::MAX - 1).to_ne_bytes()).unwrap();
    for stranger in [timer, watch, set, full] {
        let queue = Queue::<u32>::bounded(1).unwrap();
        let (memory, to, from, ..) = parts_of(&queue);
        let copy = || Fd(stranger.try_clone().unwrap());
        let message = Message::encode(&(memory, to, from, copy(), copy())).unwrap();
        let Ok(damaged) = message.decode::<Queue<u32>>() else { continue };
        for number in 0..20 {
            let begun = Instant::now();
            if let Ok(readable) = damaged.readable() {
                wait(&[&readable], Some(Duration::from_millis(5))).unwrap();
            }
            damaged.put_timeout(number, PROMPTLY).unwrap();
            let _ = damaged.writable();
            assert!(damaged.try_put(number).is_err());
            assert_eq!(queue.get_timeout(PROMPTLY).unwrap(), Some(number));
            queue.put_timeout(number, PROMPTLY).unwrap();
            assert_eq!(damaged.get_timeout(PROMPTLY).unwrap(), Some(number));
            assert!(begun.elapsed() < PROMPTLY);
        }
    }
});

// Each of them is right, and they are not each other's.
scenario!(a_queue_whose_parts_are_of_several_works_or_fails_and_does_not_hang, {
    let (one, other) = (Queue::<u32>::new().unwrap(), Queue::<u32>::new().unwrap());
    let ((memory, ..), (_, to, from, first, second)) = (parts_of(&one), parts_of(&other));
    let mixed = Message::encode(&(memory, to, from, first, second)).unwrap().decode::<Queue<u32>>().unwrap();
    mixed.put(1).unwrap();
    assert_eq!(one.get().unwrap(), 1);
    one.put(2).unwrap();
    assert_eq!(mixed.get().unwrap(), 2);
    // What travels through the lane goes to another one's.
    let (one, other) = (Queue::<Bundle>::new().unwrap(), Queue::<Bundle>::new().unwrap());
    let (memory, ..): Parts = Message::encode(&one).unwrap().decode().unwrap();
    let (_, to, from, first, second): Parts = Message::encode(&other).unwrap().decode().unwrap();
    let mixed = Message::encode(&(memory, to, from, first, second)).unwrap().decode::<Queue<Bundle>>().unwrap();
    mixed.put(Bundle::new(1, 1, 0)).unwrap();
    let is_missing = |got: Result<Option<Bundle>, GetError>| matches!(got, Err(GetError::Io(_)));
    assert!(is_missing(one.get_timeout(PROMPTLY)));
    one.put(Bundle::new(2, 1, 0)).unwrap();
    assert!(is_missing(mixed.get_timeout(PROMPTLY)));
    // The next one of the queue whose lane it was may be taken for it.
    other.put(Bundle::new(3, 1, 0)).unwrap();
    assert!(other.get_timeout(PROMPTLY).is_ok_and(|got| got.is_some_and(|bundle| [1, 3].contains(&bundle.number))));
});
