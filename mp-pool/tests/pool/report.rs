//! What a pool says that it has done.

use std::time::Duration;

use mp_core::{Receiver, Sender, pipe, process_fn};
use mp_pool::{Pool, Report, TaskError, TaskOptions};
use mp_testing::{eventually, scenario};

#[process_fn]
fn double(number: u64) -> u64 {
    number * 2
}

#[process_fn]
fn sleep(duration: Duration) {
    std::thread::sleep(duration);
}

#[process_fn]
fn fail(how: &str) {
    match how {
        "panics" => panic!("as it was told"),
        "aborts" => std::process::abort(),
        _ => std::thread::sleep(Duration::from_secs(3600)),
    }
}

/// Says that it runs, and waits until it is let go.
#[process_fn]
fn hold(running: Sender<u32>, until: Receiver<()>) {
    running.send(std::process::id()).unwrap();
    assert!(until.iter().next().is_none());
}

#[process_fn(name = "<script>&\"")]
fn named() {}

fn function<'a>(report: &'a Report, name: &str) -> &'a mp_pool::FunctionReport {
    report.functions.iter().find(|function| function.name.ends_with(name)).expect("it was run")
}

scenario!(every_task_is_counted_however_many_are_sent_together, {
    let pool = Pool::new(2).unwrap();
    pool.map::<double>(0..100_000).unwrap();
    pool.submit(double::call(1)).join().unwrap();
    pool.join();
    let report = pool.report();
    let double = function(&report, "double");
    assert_eq!((double.tasks, double.failed), (100_001, 0));
    assert_eq!(report.workers.iter().map(|worker| worker.tasks).sum::<u64>(), 100_001);
    assert!(double.total > Duration::ZERO && double.total < 2 * report.elapsed, "{report}");
    let busy: Duration = report.workers.iter().map(|worker| worker.busy).sum();
    assert_eq!(busy, double.total, "{report}");
    assert!(report.ends.iter().all(|end| !end.failed && end.reason == "the pool was closed"), "{report}");
});

scenario!(failures_are_named_with_their_function_and_index, {
    let pool = Pool::new(1).unwrap();
    let failed: Vec<_> = ["panics", "aborts"].into_iter().map(|how| pool.submit(fail::call(how)).join()).collect();
    assert!(matches!(failed[..], [Err(TaskError::Panicked(_)), Err(TaskError::Crashed { .. })]));
    let limit = TaskOptions::new().timeout(Duration::from_millis(50));
    pool.submit_with(limit, fail::call("hangs")).join().unwrap_err();
    // Its worker is buried before another one can answer.
    pool.submit(double::call(1)).join().unwrap();
    let report = pool.report();
    let text = report.to_string();
    let fail = function(&report, "fail");
    assert_eq!((fail.tasks, fail.failed), (3, 3), "{text}");
    let ends: Vec<_> =
        report.ends.iter().map(|end| (end.reason.as_str(), end.task.unwrap().index, end.failed)).collect();
    assert_eq!(
        ends,
        [("ended with signal 6 (SIGABRT)", 1, true), ("killed at its time limit of 50ms", 2, true)],
        "a panic ends no worker: {text}"
    );
    let killed = report.slowest.iter().find(|slow| slow.task.index == 2).expect("there are four");
    assert!(killed.took >= Duration::from_millis(50), "{text}");
    assert!(killed.fate.as_ref().is_some_and(|fate| fate.contains("time limit")), "{text}");
    assert_eq!((report.workers[0].processes, report.workers[0].tasks), (3, 4), "{text}");
    for part in ["SIGABRT", "fail[1]", "killed at its time limit", "fail[2]"] {
        assert!(text.contains(part) && report.html().contains(part), "{part} in {text}");
    }
    // One bar for each failure, and a cross for each worker.
    assert_eq!(report.html().matches("class=\"failed\"").count(), 3);
    assert_eq!(report.html().matches("class=\"end\"").count(), 2);
});

scenario!(an_index_is_the_place_in_the_map, {
    let pool = Pool::new(2).unwrap();
    let times = (0..30).map(|index| Duration::from_millis(if index == 17 { 600 } else { 1 }));
    pool.map::<sleep>(times).unwrap();
    let report = pool.report();
    assert_eq!(report.slowest[0].task.index, 17, "{report}");
    assert!(report.slowest[0].took >= Duration::from_millis(600));
    assert!(report.slowest[1].took < report.slowest[0].took);
    assert!(report.html().contains("sleep[17]"));
});

scenario!(a_running_task_is_shown_while_it_runs, {
    let pool = Pool::new(1).unwrap();
    let (running, started) = pipe().unwrap();
    let (end, until) = pipe().unwrap();
    let task = pool.submit(hold::call(running, until));
    started.recv().unwrap();
    let report = pool.report();
    let shown = report.workers[0].running.expect("it runs");
    assert!(shown.function.ends_with("hold") && shown.index == 0);
    assert!(report.html().contains("class=\"now\"") && report.to_string().contains("hold[0]"));
    drop(end);
    task.join().unwrap();
    eventually("it has ended", || pool.report().workers[0].running.is_none());
});

scenario!(workers_that_end_by_choice_are_no_failures, {
    let pool = Pool::builder().workers(2).max_tasks_per_worker(1).build().unwrap();
    pool.map::<double>(0..4).unwrap();
    eventually("both were replaced", || pool.report().ends.len() >= 2);
    pool.resize(1);
    eventually("one has gone", || pool.stats().workers == 1);
    pool.terminate();
    pool.join();
    let report = pool.report();
    assert!(report.ends.iter().all(|end| !end.failed), "{report}");
    assert!(report.ends.iter().any(|end| end.reason == "it had run its tasks"), "{report}");
    assert!(!report.html().contains("class=\"end\""));
});

scenario!(names_are_escaped_in_the_page, {
    let pool = Pool::new(1).unwrap();
    pool.submit(named::call()).join().unwrap();
    let page = pool.report().html();
    assert!(!page.contains("<script>") && page.contains("&lt;script&gt;&amp;&quot;"));
});
