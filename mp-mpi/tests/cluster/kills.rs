//! Tests in which something ends that should not, or does not begin as it should.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::Duration;

use crate::job::{Kind, Run, executable, kill};

pub(crate) const ALL: &[(&str, fn())] = &[
    ("a_killed_worker_is_replaced", worker),
    ("nothing_is_left_after_an_agent_is_killed", agent),
    ("nothing_is_left_after_the_leader_is_killed", leader),
    ("nothing_is_left_after_the_launcher_is_killed", launcher),
    ("nothing_is_left_after_main_panics", panics),
    ("nothing_is_left_after_main_exits", exits),
    ("a_program_without_a_pool_ends", no_pool),
    ("without_a_launcher_there_is_an_error", not_launched),
    ("another_build_is_refused", other_build),
    ("one_rank_is_a_pool", one_rank),
    ("long_messages_are_split", split),
    ("a_message_of_three_gibibytes_arrives", huge),
];

fn worker() {
    let run = Run::start("survive", 3, &[]);
    for killed in 0..5 {
        run.wait_for_file(&format!("round-{killed}"));
        kill(run.wait_for(Kind::Worker, 2)[1]);
        fs::write(run.folder.join(format!("killed-{killed}")), []).unwrap();
    }
    run.finish();
}

/// Kills one process of a run that works. The job ends.
fn killed(kind: Kind) {
    kill_in(Run::start("busy", 3, &[]), kind);
}

fn kill_in(mut run: Run, kind: Kind) {
    run.wait_for_file("working");
    match kind {
        Kind::Launcher => kill(run.launcher.id() as i32),
        kind => kill(run.wait_for(kind, 1)[0]),
    }
    let status = run.wait();
    assert!(!status.success());
    run.is_gone();
}

fn agent() {
    killed(Kind::Agent);
}

fn leader() {
    killed(Kind::Leader);
}

fn launcher() {
    killed(Kind::Launcher);
}

/// The same in a job that would go on without another rank.
pub(crate) fn tolerant_leader(arguments: &[String]) {
    kill_in(Run::start_with(arguments, "busy", 3, &[]), Kind::Leader);
}

fn panics() {
    let mut run = Run::start("panic_in_main", 3, &[]);
    assert!(!run.wait().success());
    run.is_gone();
    assert!(run.stderr().contains("main panics"));
}

fn exits() {
    let mut run = Run::start("exit_in_main", 3, &[]);
    assert!(!run.wait().success());
    run.is_gone();
}

fn no_pool() {
    let mut run = Run::start("no_world", 3, &[]);
    run.wait();
    run.is_gone();
}

fn not_launched() {
    let output = Command::new(executable()).arg("world").env(crate::job::RUN, "none").output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(text.contains("mpirun -n NODES") && text.contains("srun"), "{text}");
}

fn other_build() {
    let program = executable();
    let other = std::env::temp_dir().join(format!("mp-mpi-other-{}", std::process::id()));
    fs::copy(&program, &other).unwrap();
    fs::OpenOptions::new().append(true).open(&other).unwrap().write_all(b"another build").unwrap();
    fs::set_permissions(&other, fs::Permissions::from_mode(0o755)).unwrap();
    let part =
        |program: &std::path::Path| ["-n", "1", &program.to_string_lossy(), "other_build"].map(str::to_owned).to_vec();
    let run = Run::with_arguments(&[part(&program), vec![":".to_owned()], part(&other)].concat(), &[]);
    run.finish();
    fs::remove_file(other).unwrap();
}

fn one_rank() {
    let run = Run::start("terminating_fails_what_is_left", 1, &[]);
    run.finish();
}

fn split() {
    Run::start("split", 3, &[("MP_MPI_LONGEST_MESSAGE", "100000")]).finish();
}

/// It takes some ten GiB of memory, so it runs if `MP_MPI_TEST_HUGE` is set.
fn huge() {
    if std::env::var_os("MP_MPI_TEST_HUGE").is_some() {
        // Every copy of it takes seconds.
        let mut run = Run::start("huge", 2, &[]);
        run.limit = Duration::from_secs(300);
        run.finish();
    }
}
