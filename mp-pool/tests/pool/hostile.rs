//! Tasks that do to their worker and its link whatever a process can do.

use std::time::{Duration, Instant};

use mp_core::{ExitStatus, Sender, pipe, process_fn};
use mp_pool::{Pool, TaskError};
use mp_testing::scenario;

#[process_fn]
fn double(number: u32) -> u32 {
    number * 2
}

#[process_fn]
fn nap(number: u32) -> u32 {
    std::thread::sleep(Duration::from_millis(2));
    number
}

/// The descriptors of this process that are packet sockets: the connection to the pool is one.
fn sockets() -> Vec<i32> {
    let is_one = |fd: &i32| {
        let (mut kind, mut length) = (0_i32, 4_u32);
        // SAFETY: the option is an integer, for which there is room, and the length says so.
        let result =
            unsafe { libc::getsockopt(*fd, libc::SOL_SOCKET, libc::SO_TYPE, (&raw mut kind).cast(), &raw mut length) };
        result == 0 && kind == libc::SOCK_SEQPACKET
    };
    (3..64).filter(is_one).collect()
}

fn send(fd: i32, packet: &[u8]) -> bool {
    let flags = libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT;
    // SAFETY: the pointer and the length are those of a slice.
    unsafe { libc::send(fd, packet.as_ptr().cast(), packet.len(), flags) >= 0 }
}

/// A packet as the connection makes them, of the body of the variant with this number.
fn packet(variant: u32) -> Vec<u8> {
    let mut packet = vec![0; 8];
    packet.extend(4_u64.to_le_bytes());
    packet.extend(variant.to_le_bytes());
    packet
}

/// Sends the same packet again and again, and stays.
#[process_fn]
fn scribble(packet: Vec<u8>, times: u32) {
    for _ in 0..times {
        for fd in sockets() {
            send(fd, &packet);
        }
    }
    loop {
        std::thread::park();
    }
}

/// One worker misbehaves in this way: its task fails, and the others do not notice.
fn costs_its_own_task_only(packet: Vec<u8>, times: u32) {
    let pool = Pool::new(2).unwrap();
    let bad = pool.submit(scribble::call(packet, times));
    let good: Vec<_> = (0..200).map(|number| pool.submit(nap::call(number))).collect();
    assert!(matches!(bad.join(), Err(TaskError::Misbehaved { .. })));
    for (number, task) in (0..).zip(good) {
        assert_eq!(task.join(), Ok(number));
    }
    assert_eq!(pool.stats().misbehaved, 1);
}

scenario!(a_stray_packet_costs_its_own_task_only, {
    costs_its_own_task_only(vec![9; 3], 1);
});

scenario!(garbage_without_end_costs_its_own_task_only, {
    costs_its_own_task_only(vec![9; 3], 100_000);
});

scenario!(a_flood_of_well_formed_packets_costs_its_own_task_only, {
    for variant in [0, 1] {
        // To wake the pool, and to be ready.
        costs_its_own_task_only(packet(variant), u32::MAX);
    }
});

/// Finds the memory that the worker shares with the pool.
fn board() -> (usize, usize) {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let shared = maps.lines().filter(|line| line.contains("memfd") && line.contains("rw-s"));
    let ranges = shared.map(|line| {
        let (start, rest) = line.split_once('-').unwrap();
        let (end, _) = rest.split_once(' ').unwrap();
        let number = |text| usize::from_str_radix(text, 16).unwrap();
        (number(start), number(end))
    });
    ranges.max_by_key(|(start, end)| end - start).unwrap()
}

/// Writes this byte all over the memory that is shared with the pool, and stays.
#[process_fn]
fn overwrite(byte: u8) {
    let (start, end) = board();
    // SAFETY: none at all for this process, which is the point: it is memory, and nothing in this
    // process uses it until the pool has killed it.
    unsafe { std::ptr::write_bytes(start as *mut u8, byte, end - start) };
    for fd in sockets() {
        send(fd, &packet(0));
    }
    loop {
        std::thread::park();
    }
}

scenario!(a_task_that_writes_over_the_shared_memory_costs_itself_only, {
    for byte in [0, 1, 0x7F, 0xFF] {
        let pool = Pool::builder().workers(2).task_timeout(Duration::from_secs(5)).build().unwrap();
        let bad = pool.submit(overwrite::call(byte));
        let good: Vec<_> = (0..200).map(|number| pool.submit(nap::call(number))).collect();
        let error = bad.join().unwrap_err();
        assert!(matches!(error, TaskError::Misbehaved { .. } | TaskError::TimedOut { .. }), "{byte}: {error}");
        for (number, task) in (0..).zip(good) {
            assert_eq!(task.join(), Ok(number));
        }
    }
});

scenario!(a_task_that_closes_all_descriptors_has_a_value_all_the_same, {
    #[process_fn]
    fn close_all() -> u32 {
        for fd in 3..1024 {
            // SAFETY: it takes from this process what it needs, which is the point.
            unsafe { libc::close(fd) };
        }
        5
    }
    let pool = Pool::new(1).unwrap();
    // The pool ends a worker that goes on, when it notices, and says why. One that has to wake the
    // pool crashes.
    let says_why = || pool.report().ends.iter().any(|end| end.reason.contains("closed its connection"));
    for round in 1.. {
        let closed = pool.submit(close_all::call()).join();
        assert!(matches!(closed, Ok(5) | Err(TaskError::Crashed { .. })), "{closed:?}");
        assert_eq!(pool.submit(double::call(4)).join(), Ok(8));
        if round >= 3 && says_why() {
            break;
        }
        assert!(round < 200, "{:?}", pool.report().ends);
    }
});

scenario!(a_task_that_forks_has_one_value, {
    #[process_fn]
    fn fork(number: u32) -> u32 {
        // SAFETY: the worker has one thread.
        match unsafe { libc::fork() } {
            0 => number + 1_000_000,
            _ => number,
        }
    }
    let pool = Pool::new(2).unwrap();
    let values = pool.map::<fork>(0..50).unwrap();
    assert!(values.into_iter().eq(0..50));
    // The copies end by themselves.
    drop(pool);
    mp_testing::eventually("the copies end", || mp_testing::start_method::others().is_empty());
});

scenario!(a_task_that_stops_itself_is_ended_by_its_time_limit, {
    #[process_fn]
    fn stop() {
        // SAFETY: it stops this process and nothing else.
        unsafe { libc::raise(libc::SIGSTOP) };
    }
    let limit = Duration::from_secs(1);
    let pool = Pool::builder().workers(1).task_timeout(limit).build().unwrap();
    let behind = pool.submit(stop::call());
    let next = pool.submit(double::call(2));
    assert!(matches!(behind.join(), Err(TaskError::TimedOut { limit: passed, .. }) if passed == limit));
    assert_eq!(next.join(), Ok(4));
});

scenario!(threads_that_a_task_leaves_behind_do_no_harm, {
    #[process_fn]
    fn leave_threads() {
        for _ in 0..4 {
            std::thread::spawn(|| {
                loop {
                    std::thread::park();
                }
            });
        }
    }
    let pool = Pool::new(2).unwrap();
    for _ in 0..20 {
        pool.submit(leave_threads::call()).join().unwrap();
    }
    assert_eq!(pool.stats().crashed, 0);
});

scenario!(exit_in_a_task_of_a_map_costs_one_item, {
    #[process_fn]
    fn exit_at(number: u32, at: u32) -> u32 {
        if number == at {
            std::process::exit(0);
        }
        number
    }
    let pool = Pool::new(2).unwrap();
    let mut failed = Vec::new();
    for (index, value) in pool.imap_unordered::<exit_at>((0..5_000).map(|number| (number, 2_500))) {
        match value {
            Ok(value) => assert_eq!(value as usize, index),
            Err(TaskError::Crashed { status: ExitStatus::Code(0), attempts: 1, .. }) => failed.push(index),
            Err(error) => panic!("{index}: {error}"),
        }
    }
    assert_eq!(failed, [2_500]);
});

scenario!(a_forked_copy_of_the_program_is_told_and_does_no_harm, {
    #[process_fn]
    fn pid() -> u32 {
        std::process::id()
    }
    let pool = Pool::new(1).unwrap();
    let before = pool.submit(pid::call()).join().unwrap();
    let (sender, receiver): (Sender<bool>, _) = pipe().unwrap();
    // SAFETY: the copy uses the pool, whose supervisor it has not, sends and ends.
    let copy = unsafe { libc::fork() };
    if copy == 0 {
        let told = pool.submit(pid::call()).join() == Err(TaskError::Forked)
            && pool.map::<pid>([()]).is_err()
            && pool.imap_unordered::<pid>([()]).count() <= 1;
        drop(pool);
        sender.send(told).unwrap();
        // SAFETY: it ends the copy without running what belongs to the original.
        unsafe { libc::_exit(0) };
    }
    assert!(receiver.recv().unwrap());
    let mut status = 0;
    // SAFETY: it waits for the copy, and there is room for its status.
    assert_eq!(unsafe { libc::waitpid(copy, &raw mut status, 0) }, copy);
    assert_eq!(pool.submit(pid::call()).join(), Ok(before));
});

scenario!(the_pool_ends_promptly_beside_a_flood, {
    let pool = Pool::new(2).unwrap();
    let bad = pool.submit(scribble::call(packet(0), u32::MAX));
    assert_eq!(pool.submit(double::call(3)).join(), Ok(6));
    let start = Instant::now();
    drop(pool);
    assert!(start.elapsed() < mp_testing::PROMPTLY, "it took {:?}", start.elapsed());
    assert!(bad.join().is_err());
});
