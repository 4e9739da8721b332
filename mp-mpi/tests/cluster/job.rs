//! A job of an MPI launcher that a test starts, and what it leaves.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// The variable that all processes of a test have, with a value of the test's own.
pub(crate) const RUN: &str = "MP_MPI_TEST_RUN";

/// How long a test may take.
const LIMIT: Duration = Duration::from_secs(60);

/// How long the processes of a test have to end after its launcher, if it sets nothing else.
const GRACE: Duration = Duration::from_secs(5);

/// A test that the launcher runs.
pub(crate) struct Run {
    pub(crate) id: String,
    pub(crate) launcher: Child,
    /// What the test writes.
    pub(crate) folder: PathBuf,
    /// How long it may take.
    pub(crate) limit: Duration,
    /// How long its processes have to end after its launcher.
    pub(crate) grace: Duration,
}

/// What a process of a test is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Launcher,
    Leader,
    Agent,
    Worker,
}

pub(crate) struct Found {
    pub(crate) pid: i32,
    pub(crate) kind: Kind,
}

pub(crate) fn executable() -> PathBuf {
    std::env::current_exe().expect("it is running")
}

/// The launcher and its arguments.
pub(crate) fn launcher() -> Vec<String> {
    let text = std::env::var("MPIRUN").unwrap_or_else(|_| "mpirun --oversubscribe --allow-run-as-root".to_owned());
    text.split_whitespace().map(str::to_owned).collect()
}

/// The arguments that make the launcher go on without a rank, if it can: `MP_MPI_TEST_ULFM`.
pub(crate) fn ulfm() -> Option<Vec<String>> {
    Some(std::env::var("MP_MPI_TEST_ULFM").ok()?.split_whitespace().map(str::to_owned).collect())
}

impl Run {
    /// Starts a scenario on so many ranks.
    pub(crate) fn start(scenario: &str, ranks: usize, variables: &[(&str, &str)]) -> Self {
        Self::start_with(&[], scenario, ranks, variables)
    }

    /// Starts a scenario with more arguments for the launcher.
    pub(crate) fn start_with(arguments: &[String], scenario: &str, ranks: usize, variables: &[(&str, &str)]) -> Self {
        let ranks = ["-n".to_owned(), ranks.to_string()];
        let program = executable().to_string_lossy().into_owned();
        Self::with_arguments(&[arguments, &ranks[..], &[program, scenario.to_owned()]].concat(), variables)
    }

    pub(crate) fn with_arguments(arguments: &[String], variables: &[(&str, &str)]) -> Self {
        let mut launcher = launcher();
        let program = launcher.remove(0);
        let since = std::time::UNIX_EPOCH.elapsed().expect("time goes on").as_nanos();
        let id = format!("{}-{since}", std::process::id());
        let folder = std::env::temp_dir().join(format!("mp-mpi-{id}"));
        fs::create_dir(&folder).expect("there is room");
        let mut command = Command::new(program);
        command.args(launcher).args(arguments).env(RUN, &id).env("MP_MPI_TEST_FOLDER", &folder);
        // Open MPI leaves files of its own if its processes are killed; they go with the folder.
        command.env("OMPI_MCA_orte_tmpdir_base", &folder).env("OMPI_MCA_btl_vader_backing_directory", &folder);
        command.envs(variables.iter().copied()).stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(fs::File::create(folder.join("stderr")).expect("there is room"));
        let launcher = command.spawn().expect("the launcher is installed");
        Self { id, launcher, folder, limit: LIMIT, grace: GRACE }
    }

    /// Waits for the launcher.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.launcher.try_wait().expect("it is a child") {
                return status;
            }
            assert!(start.elapsed() < self.limit, "the test hangs: {}", self.stderr());
            sleep(Duration::from_millis(10));
        }
    }

    pub(crate) fn stderr(&self) -> String {
        fs::read_to_string(self.folder.join("stderr")).unwrap_or_default()
    }

    pub(crate) fn stdout(&mut self) -> String {
        let mut text = String::new();
        if let Some(mut stdout) = self.launcher.stdout.take() {
            stdout.read_to_string(&mut text).expect("it is text");
        }
        text
    }

    /// Waits for a test that is to succeed.
    pub(crate) fn finish(mut self) {
        let status = self.wait();
        self.is_gone();
        assert!(status.success(), "{status}\n{}", self.stderr());
        self.has_passed();
    }

    /// Asserts that rank 0 came to the end of the scenario.
    pub(crate) fn has_passed(&mut self) {
        let (text, errors) = (self.stdout(), self.stderr());
        assert!(text.lines().any(|line| line == "passed"), "it did not come to its end\n{text}\n{errors}");
    }

    /// Asserts that no process of the test is left.
    pub(crate) fn is_gone(&self) {
        let start = Instant::now();
        loop {
            let left = self.processes();
            if left.is_empty() {
                return;
            }
            let left: Vec<_> = left.iter().map(|found| (found.pid, found.kind)).collect();
            assert!(start.elapsed() < self.grace, "left behind: {left:?}\n{}", self.stderr());
            sleep(Duration::from_millis(10));
        }
    }

    /// The processes of the test that have not ended.
    pub(crate) fn processes(&self) -> Vec<Found> {
        let mut all = Vec::new();
        for entry in fs::read_dir("/proc").expect("it is mounted").flatten() {
            let Ok(pid) = entry.file_name().to_string_lossy().parse() else { continue };
            if let Some(kind) = self.kind(&entry.path()) {
                all.push(Found { pid, kind });
            }
        }
        all
    }

    fn kind(&self, process: &Path) -> Option<Kind> {
        let environment = fs::read(process.join("environ")).ok()?;
        let variables: Vec<_> = environment.split(|byte| *byte == 0).map(String::from_utf8_lossy).collect();
        let of = |name: &str| variables.iter().find_map(|variable| variable.strip_prefix(name)?.strip_prefix('='));
        if of(RUN)? != self.id {
            return None;
        }
        let is_worker =
            variables.iter().any(|variable| variable.starts_with("MP_CORE_") && variable.contains("_CHILD="));
        let rank = ["OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK"].iter().find_map(|name| of(name));
        Some(match rank {
            _ if is_worker => Kind::Worker,
            None => Kind::Launcher,
            Some("0") => Kind::Leader,
            Some(_) => Kind::Agent,
        })
    }

    /// Waits until the test has written this file.
    pub(crate) fn wait_for_file(&self, name: &str) {
        let start = Instant::now();
        while !self.folder.join(name).exists() {
            assert!(start.elapsed() < LIMIT, "there is no {name}: {}", self.stderr());
            sleep(Duration::from_millis(2));
        }
    }

    /// Waits until there are as many processes of a kind.
    pub(crate) fn wait_for(&self, kind: Kind, count: usize) -> Vec<i32> {
        let start = Instant::now();
        loop {
            let found: Vec<_> =
                self.processes().iter().filter(|found| found.kind == kind).map(|found| found.pid).collect();
            if found.len() >= count {
                return found;
            }
            assert!(start.elapsed() < LIMIT, "there is no {kind:?}: {}", self.stderr());
            sleep(Duration::from_millis(10));
        }
    }
}

/// However a test ends, nothing of it is left.
impl Drop for Run {
    fn drop(&mut self) {
        for found in self.processes() {
            kill(found.pid);
        }
        let _ = self.launcher.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

pub(crate) fn kill(pid: i32) {
    let pid = rustix::process::Pid::from_raw(pid).expect("it is a number of a process");
    // It may have ended.
    let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
}
