//! Tests in which a host is cut off from the others. They run if `MP_MPI_TEST_LINK` names the
//! program that cuts the link to the host of rank 1 (`down`) and mends it (`up`): see `ci/hosts`.

use std::process::Command;
use std::time::Duration;

use mp_mpi::{Pool, TaskError};

use crate::functions::*;
use crate::job::{Run, ulfm};
use crate::scenarios::{folder, ms, wait_until};

/// A test, which takes the command that cuts.
type Test = fn(&str);

/// The tests, by their names.
pub(crate) const ALL: &[(&str, Test)] =
    &[("a_host_is_cut_off_while_it_works", working), ("a_host_is_cut_off_while_nothing_is_sent", quiet)];

/// What rank 0 does in them.
pub(crate) const SCENARIOS: &[(&str, fn())] =
    &[("wait_long", wait_long), ("work_without_a_host", work), ("wait_without_a_host", wait)];

/// How long a job has to end after a host was cut off, and every process on either side of the cut.
const LIMIT: Duration = Duration::from_secs(60);

/// Mends the link, however a test ends.
struct Cut<'a>(&'a str);

impl<'a> Cut<'a> {
    fn new(command: &'a str) -> Self {
        let cut = Self(command);
        cut.link("down");
        cut
    }

    fn link(&self, how: &str) {
        assert!(Command::new(self.0).arg(how).status().expect("it is there").success());
    }
}

impl Drop for Cut<'_> {
    fn drop(&mut self) {
        self.link("up");
    }
}

fn working(command: &str) {
    cut_off(command, "busy", "work_without_a_host");
}

fn quiet(command: &str) {
    cut_off(command, "wait_long", "wait_without_a_host");
}

/// Cuts a host off in a job that ends then, or in one that goes on if the launcher can do that.
fn cut_off(command: &str, ends: &str, goes_on: &str) {
    let tolerant = ulfm();
    let scenario = if tolerant.is_some() { goes_on } else { ends };
    let mut run = Run::start_with(&tolerant.clone().unwrap_or_default(), scenario, 3, &[]);
    run.limit = 2 * LIMIT;
    run.grace = LIMIT;
    run.wait_for_file("working");
    let _cut = Cut::new(command);
    let status = run.wait();
    // The host that was cut off has to find out by itself.
    run.is_gone();
    if tolerant.is_some() {
        // Whatever its launcher says, which does not go on for long without a host.
        run.has_passed();
    } else {
        assert!(!status.success());
    }
}

/// Has all workers run tasks that last longer than the test, and says so.
fn wait_long() {
    let pool = Pool::builder().workers_per_rank(2).build().unwrap();
    let tasks: Vec<_> = (0..6).map(|_| pool.submit(sleep::call(10 * LIMIT))).collect();
    wait_until(|| pool.report().workers.iter().filter(|worker| worker.running.is_some()).count() == 6);
    std::fs::write(folder().join("working"), []).unwrap();
    tasks.into_iter().for_each(|task| drop(task.join()));
}

fn work() {
    let marker = folder().join("complete");
    let pool = Pool::builder().workers_per_rank(2).configure(|pool| pool.retries(1)).marker(&marker).build().unwrap();
    let mut values = 0;
    // For as long as it takes to notice, and then some.
    while pool.stats().lost == 0 || values % 6_000 != 0 {
        values += pool.map::<sleep>(vec![ms(5); 600]).unwrap().len();
        std::fs::write(folder().join("working"), []).unwrap();
    }
    assert_eq!((pool.stats().lost, pool.workers()), (2, 4));
    pool.finish().unwrap();
    let text = std::fs::read_to_string(marker).unwrap();
    assert!(text.ends_with(" tasks on 3 ranks, 1 of which were lost\n"), "{text}");
}

fn wait() {
    let pool = Pool::builder().workers_per_rank(2).build().unwrap();
    let tasks: Vec<_> = (0..6).map(|_| pool.submit(sleep::call(10 * LIMIT))).collect();
    wait_until(|| pool.report().workers.iter().filter(|worker| worker.running.is_some()).count() == 6);
    std::fs::write(folder().join("working"), []).unwrap();
    wait_until(|| pool.stats().lost == 2);
    wait_until(|| tasks.iter().filter(|task| task.is_done()).count() == 2);
    let (lost, others): (Vec<_>, Vec<_>) = tasks.into_iter().partition(|task| task.is_done());
    for task in lost {
        assert!(matches!(task.join(), Err(TaskError::NodeLost { attempts: 1, .. })));
    }
    assert!(others.iter().all(|task| task.cancel()));
    assert_eq!(pool.map::<square>(0..1000).unwrap().len(), 1000);
    pool.finish().unwrap();
}
