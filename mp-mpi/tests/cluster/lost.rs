//! What rank 0 does in the tests in which another rank is lost and the job goes on: that takes
//! ULFM.

use std::collections::HashSet;
use std::time::Duration;

use mp_mpi::{Pool, TaskError};

use crate::functions::*;
use crate::job::kill;
use crate::scenarios::{folder, ms, wait_until};

/// The tests, by their names. They run if `MP_MPI_TEST_ULFM` has the arguments that make the
/// launcher go on.
pub(crate) const ALL: &[(&str, fn())] = &[
    ("a_lost_rank_costs_retries", retries),
    ("a_lost_rank_costs_the_tasks_that_it_had", tasks),
    ("ranks_are_lost_one_after_another", one_after_another),
    ("a_rank_is_lost_while_it_gets_large_values", large),
    ("a_rank_is_lost_while_it_has_nothing_to_do", idle),
    ("tasks_fail_after_all_agents_are_lost", all),
];

/// The agents of this pool.
fn agents(pool: &Pool) -> Vec<i32> {
    let own = std::process::id() as i32;
    let mut found = HashSet::new();
    while found.len() + 1 < pool.nodes().len() {
        let all = pool.map_ref::<rank_process>(&[(); 12]).unwrap();
        found.extend(all.into_iter().filter(|process| *process != own));
    }
    found.into_iter().collect()
}

fn retries() {
    let marker = folder().join("complete");
    let pool = Pool::builder().workers_per_rank(2).configure(|pool| pool.retries(1)).marker(&marker).build().unwrap();
    let agent = agents(&pool)[0];
    let done = pool.stats().done;
    let tasks: Vec<_> = (0..600).map(|_| pool.submit(sleep::call(ms(5)))).collect();
    wait_until(|| pool.stats().done > done + 60);
    kill(agent);
    for task in tasks {
        task.join().unwrap();
    }
    wait_until(|| pool.stats().workers == 4);
    let report = pool.report();
    assert_eq!((pool.workers(), report.stats.lost, report.stats.crashed), (4, 2, 0), "{report}");
    let ends = report.ends.iter().filter(|end| end.failed && end.reason == "was lost with its host");
    assert_eq!(ends.count(), 2, "{report}");
    assert_eq!(pool.map::<square>(0..1000).unwrap().len(), 1000);
    pool.finish().unwrap();
    let text = std::fs::read_to_string(marker).unwrap();
    assert!(text.ends_with(" tasks on 3 ranks, 1 of which were lost\n"), "{text}");
}

fn tasks() {
    let pool = Pool::builder().workers_per_rank(2).leader_works(false).build().unwrap();
    let agent = agents(&pool)[0];
    let tasks: Vec<_> = (0..12).map(|_| pool.submit(sleep::call(Duration::from_secs(60)))).collect();
    wait_until(|| pool.report().workers.iter().filter(|worker| worker.running.is_some()).count() == 4);
    kill(agent);
    wait_until(|| tasks.iter().filter(|task| task.is_done()).count() >= 2);
    assert_eq!(pool.map::<square>(0..0).unwrap().len(), 0);
    assert!(tasks.iter().all(|task| task.is_done() || task.cancel()));
    let mut lost = 0;
    for task in tasks {
        match task.join().unwrap_err() {
            TaskError::NodeLost { attempts: 1, worker, function } => {
                assert!(worker.contains(" on ") && function.ends_with("sleep"), "{worker}, {function}");
                lost += 1;
            }
            error => assert_eq!(error, TaskError::Cancelled),
        }
    }
    // What each of the two workers ran, and what it was sent ahead.
    assert!((2..=4).contains(&lost), "{lost}");
    assert_eq!(pool.map::<square>(0..1000).unwrap().len(), 1000);
    pool.finish().unwrap();
}

fn one_after_another() {
    let pool = Pool::builder().workers_per_rank(1).configure(|pool| pool.retries(9)).build().unwrap();
    for agent in agents(&pool) {
        let tasks: Vec<_> = (0..100).map(|_| pool.submit(sleep::call(ms(5)))).collect();
        kill(agent);
        for task in tasks {
            task.join().unwrap();
        }
    }
    wait_until(|| pool.stats().lost == 2);
    assert_eq!(pool.workers(), 1);
    assert_eq!(pool.map::<square>(0..1000).unwrap().len(), 1000);
    pool.finish().unwrap();
}

fn large() {
    let pool = Pool::builder().workers_per_rank(1).configure(|pool| pool.retries(9)).build().unwrap();
    let bytes: Vec<u8> = (0..2 << 20).map(|byte| (byte % 251) as u8).collect();
    let agent = agents(&pool)[0];
    let tasks: Vec<_> = (0..12).map(|_| pool.submit(reverse::call(bytes.clone()))).collect();
    wait_until(|| tasks.iter().any(|task| task.is_done()));
    kill(agent);
    let mut reversed = bytes;
    reversed.reverse();
    for task in tasks {
        assert!(task.join().unwrap() == reversed);
    }
    wait_until(|| pool.stats().lost == 1);
    pool.finish().unwrap();
}

fn idle() {
    let pool = Pool::builder().workers_per_rank(1).build().unwrap();
    let agent = agents(&pool)[0];
    kill(agent);
    wait_until(|| pool.stats().lost == 1);
    assert_eq!(pool.workers(), 2);
    assert_eq!(pool.map::<square>(0..1000).unwrap().len(), 1000);
    pool.resize(5);
    wait_until(|| pool.stats().workers == 5);
    let pids: HashSet<_> = pool.map::<sleep>(vec![ms(30); 40]).unwrap().into_iter().collect();
    assert_eq!(pids.len(), 5);
    pool.finish().unwrap();
}

fn all() {
    let pool = Pool::builder().workers_per_rank(1).leader_works(false).build().unwrap();
    agents(&pool).into_iter().for_each(kill);
    wait_until(|| pool.stats().lost == 2);
    for _ in 0..2 {
        let error = pool.submit(square::call(1)).join().unwrap_err();
        assert_eq!(error, TaskError::NoWorker("its host was lost".to_owned()));
    }
    pool.finish().unwrap();
}
