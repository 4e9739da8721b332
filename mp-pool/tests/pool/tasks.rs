//! Tasks and their values.

use std::collections::HashSet;
use std::fs::File;
use std::io::Read;
use std::time::Duration;

use mp_core::{Builder, Sender, pipe, process_fn};
use mp_pool::{Pool, PoolError, TaskError};
use mp_testing::scenario;
use serde::{Deserialize, Serialize};

#[process_fn]
fn add(a: u64, b: u64) -> u64 {
    a + b
}

#[process_fn]
fn pid() -> u32 {
    std::process::id()
}

#[process_fn]
fn name() -> String {
    mp_core::current().name().to_owned()
}

#[process_fn]
fn fail(message: String) {
    panic!("{message}");
}

scenario!(a_task_has_a_value, {
    let pool = Pool::new(2).unwrap();
    assert_eq!(pool.submit(add::call(1, 2)).join().unwrap(), 3);
});

#[process_fn]
async fn longest(words: &[String], fallback: &str) -> Result<String, ()> {
    std::future::ready(()).await;
    words
        .iter()
        .max_by_key(|word| word.len())
        .cloned()
        .or((!fallback.is_empty()).then(|| fallback.to_owned()))
        .ok_or(())
}

scenario!(tasks_of_references_and_futures_have_values, {
    let pool = Pool::new(2).unwrap();
    let words = vec!["a".to_owned(), "abc".to_owned()];
    let task = pool.submit(longest::call(&words, ""));
    drop(words);
    assert_eq!(task.join().unwrap(), Ok("abc".to_owned()));
    assert_eq!(pool.submit(longest::call(&[], "b")).join().unwrap(), Ok("b".to_owned()));
    let owned = [(vec!["c".to_owned()], String::new()), (Vec::new(), String::new())];
    assert_eq!(pool.map::<longest>(owned).unwrap(), [Ok("c".to_owned()), Err(())]);
});

scenario!(tasks_are_joined_in_any_order_from_any_thread, {
    let pool = Pool::new(3).unwrap();
    let tasks: Vec<_> = (0..300).map(|number| (number, pool.submit(add::call(number, 1)))).collect();
    std::thread::scope(|scope| {
        for (number, task) in tasks.into_iter().rev() {
            scope.spawn(move || assert_eq!(task.join().unwrap(), number + 1));
        }
    });
});

scenario!(threads_submit_at_the_same_time, {
    let pool = Pool::new(2).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..8u64 {
            let pool = &pool;
            scope.spawn(move || {
                for number in 0..200 {
                    assert_eq!(pool.submit(add::call(thread, number)).join().unwrap(), thread + number);
                }
            });
        }
    });
});

scenario!(workers_are_reused, {
    let pool = Pool::new(2).unwrap();
    let pids: HashSet<u32> = (0..200).map(|_| pool.submit(pid::call()).join().unwrap()).collect();
    assert!((1..=2).contains(&pids.len()), "{pids:?}");
});

scenario!(workers_are_named_after_the_pool, {
    let pool = Pool::builder().workers(1).name("parser").build().unwrap();
    assert_eq!(pool.submit(name::call()).join().unwrap(), "parser-1");
});

scenario!(a_panic_fails_its_task_with_message_and_place_and_keeps_the_worker, {
    let pool = Pool::new(1).unwrap();
    let before = pool.submit(pid::call()).join().unwrap();
    let Err(TaskError::Panicked(panic)) = pool.submit(fail::call("on purpose".to_owned())).join() else {
        panic!("the task should have panicked");
    };
    assert_eq!(panic.message, "on purpose");
    assert!(panic.location.unwrap().starts_with(file!()));
    assert_eq!(pool.submit(pid::call()).join().unwrap(), before);
});

scenario!(a_value_can_be_taken_once_and_waited_for_in_pieces, {
    #[process_fn]
    fn wait_for_end(until: mp_core::Receiver<()>) -> u8 {
        assert!(until.iter().next().is_none());
        7
    }
    let pool = Pool::new(1).unwrap();
    let (sender, receiver) = pipe::<()>().unwrap();
    let mut task = pool.submit(wait_for_end::call(receiver));
    assert!(task.try_join().unwrap().is_none());
    assert!(task.join_timeout(Duration::from_millis(20)).unwrap().is_none());
    assert!(!task.is_done());
    drop(sender);
    assert_eq!(task.join_timeout(Duration::MAX).unwrap(), Some(7));
    assert!(task.is_done());
    assert_eq!(task.try_join(), Err(TaskError::AlreadyJoined));
});

scenario!(a_dropped_task_runs_all_the_same, {
    #[process_fn]
    fn tell(sender: Sender<u8>) {
        sender.send(1).unwrap();
    }
    let pool = Pool::new(1).unwrap();
    let (sender, receiver) = pipe().unwrap();
    drop(pool.submit(tell::call(sender)));
    assert_eq!(receiver.recv().unwrap(), 1);
});

scenario!(large_values_and_handles_go_both_ways, {
    #[derive(Serialize, Deserialize)]
    struct Open(#[serde(with = "mp_core::fd")] File);

    #[process_fn]
    fn open(path: String, padding: Vec<u8>) -> (Open, Vec<u8>) {
        (Open(File::open(path).unwrap()), padding)
    }
    let pool = Pool::new(2).unwrap();
    for size in [0, 1, 10_000, 100_000, 10_000_000] {
        let padding = vec![size as u8; size];
        let (Open(mut file), back) = pool.submit(open::call("/proc/self/stat".into(), padding)).join().unwrap();
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        assert!(!text.is_empty());
        assert_eq!(back, vec![size as u8; size]);
    }
});

scenario!(a_result_of_a_gibibyte_arrives, {
    #[process_fn]
    fn gibibyte() -> Vec<u64> {
        (0..1 << 27).collect()
    }
    let available = std::fs::read_to_string("/proc/meminfo").unwrap();
    let available = available.lines().find_map(|line| line.strip_prefix("MemAvailable:")).unwrap();
    if available.trim().trim_end_matches(" kB").parse::<u64>().unwrap() < 6 << 20 {
        return eprintln!("SKIPPED: there is too little memory");
    }
    let pool = Pool::new(1).unwrap();
    let numbers = pool.submit(gibibyte::call()).join().unwrap();
    assert!(numbers.into_iter().eq(0..1 << 27));
    assert_eq!(pool.submit(add::call(1, 2)).join().unwrap(), 3);
});

/// Encodes to nothing useful, in one of the four places where that can go wrong.
#[derive(Debug, PartialEq)]
struct Broken {
    encode: bool,
    decode: bool,
}

impl Serialize for Broken {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.encode {
            return Err(serde::ser::Error::custom("it will not be encoded"));
        }
        (self.encode, self.decode).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Broken {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (encode, decode) = <(bool, bool)>::deserialize(deserializer)?;
        if decode { Err(serde::de::Error::custom("it will not be decoded")) } else { Ok(Self { encode, decode }) }
    }
}

#[process_fn]
fn take(_broken: Broken) {}

#[process_fn]
fn make(encode: bool, decode: bool) -> Broken {
    Broken { encode, decode }
}

scenario!(what_cannot_be_encoded_or_decoded_fails_its_task_only, {
    let pool = Pool::new(1).unwrap();
    let worker = pool.submit(pid::call()).join().unwrap();
    let text = |error: TaskError| {
        let text = error.to_string();
        (error, text)
    };
    let (error, why) = text(pool.submit(take::call(Broken { encode: true, decode: false })).join().unwrap_err());
    assert!(
        matches!(error, TaskError::Encode(_))
            && why.contains(": arguments: ")
            && why.ends_with(": it will not be encoded"),
        "{error:?}"
    );
    let unencodable = error;
    let (error, why) = text(pool.submit(take::call(Broken { encode: false, decode: true })).join().unwrap_err());
    assert!(
        matches!(error, TaskError::Decode(_))
            && why.contains(": arguments: ")
            && why.ends_with(": it will not be decoded"),
        "{error:?}"
    );
    assert_eq!(pool.map::<take>([Broken { encode: true, decode: false }]).unwrap_err(), unencodable);
    let (error, why) = text(pool.submit(make::call(true, false)).join().unwrap_err());
    assert!(
        matches!(error, TaskError::Encode(_))
            && why.contains(": result: ")
            && why.ends_with(": it will not be encoded"),
        "{error:?}"
    );
    let (error, why) = text(pool.submit(make::call(false, true)).join().unwrap_err());
    assert!(
        matches!(error, TaskError::Decode(_))
            && why.contains(": result: ")
            && why.ends_with(": it will not be decoded"),
        "{error:?}"
    );
    assert_eq!(pool.submit(pid::call()).join().unwrap(), worker);
});

scenario!(a_function_that_is_not_registered_fails_its_task_only, {
    struct Unknown {}
    impl mp_core::ProcessFn for Unknown {
        const NAME: &'static str = "nobody::knows";
        type Args = ();
        type Output = ();
        fn invoke((): ()) {}
    }
    let pool = Pool::new(1).unwrap();
    let error = pool.submit(mp_core::Call::<Unknown>::new(())).join().unwrap_err();
    assert_eq!(error, TaskError::UnknownFunction("nobody::knows".to_owned()));
    assert_eq!(pool.submit(add::call(1, 1)).join().unwrap(), 2);
});

scenario!(pools_nest, {
    #[process_fn]
    fn sum(numbers: Vec<u64>) -> u64 {
        let pool = Pool::new(2).unwrap();
        pool.map::<add>(numbers.chunks(2).map(|pair| (pair[0], pair[1]))).unwrap().into_iter().sum()
    }
    let pool = Pool::new(2).unwrap();
    let sums = pool.map::<sum>((0..6).map(|start| vec![start, 1, 2, 3])).unwrap();
    assert_eq!(sums, [6, 7, 8, 9, 10, 11]);
});

#[test]
fn a_pool_of_no_workers_is_an_error() {
    assert!(matches!(Pool::new(0), Err(PoolError::NoWorkers)));
}

scenario!(a_pool_that_cannot_start_its_workers_leaves_none, {
    #[process_fn]
    fn start_with_few_descriptors() {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
        let before = getrlimit(Resource::Nofile);
        setrlimit(Resource::Nofile, Rlimit { current: Some(24), ..before }).unwrap();
        assert!(matches!(Pool::new(16), Err(PoolError::Spawn(_) | PoolError::Io(_))));
        setrlimit(Resource::Nofile, before).unwrap();
        assert!(mp_testing::start_method::children().is_empty());
        assert_eq!(Pool::new(4).unwrap().submit(add::call(1, 2)).join().unwrap(), 3);
    }
    Builder::new().spawn(start_with_few_descriptors::call()).unwrap().join().unwrap();
});
