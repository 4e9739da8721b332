"""What the Python scripts of this folder share: the project's paths, running things, processes as /proc shows them."""

import json
import os
import resource
import shlex
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

os.chdir(ROOT)
os.environ |= {"CARGO_TERM_COLOR": "never", "CARGO_TERM_PROGRESS_WHEN": "never"}
if os.environ.get("CI") == "true":
    os.environ["CARGO_INCREMENTAL"] = "0"
# Some of what is run crashes on purpose.
resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
# What is printed here and by the commands that are run should stand in the order in which it happened.
sys.stdout.reconfigure(line_buffering=True)

# How long something may take before it counts as hung, in seconds.
PATIENCE = 300


def fail(why):
    print(f"FAILED: {why}", file=sys.stderr)
    sys.exit(1)


def check(holds, what):
    """Prints what holds, or fails."""
    if not holds:
        fail(f"not so: {what}")
    print(f"ok: {what}")


def run(*command, **options):
    """Prints a command and runs it; a failure ends the script."""
    command = [str(part) for part in command]
    print(f"$ {shlex.join(command)}")
    options = {"check": True, "timeout": PATIENCE} | options
    try:
        return subprocess.run(command, **options)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        for stream in (error.stdout, error.stderr):
            if stream:
                print(stream if isinstance(stream, str) else stream.decode(errors="replace"), file=sys.stderr)
        fail(error)


def output(*command, **options):
    """Prints a command, runs it, and returns what it writes to its standard output."""
    return run(*command, stdout=subprocess.PIPE, **options).stdout


def metadata(*arguments):
    command = ["cargo", "metadata", "--locked", "--format-version", "1", *arguments]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, timeout=PATIENCE).stdout)


def build_examples():
    """Builds the examples for release, and returns the folder that they are in."""
    run("cargo", "build", "--locked", "--release", "--workspace", "--examples", timeout=1800)
    return Path(metadata("--no-deps")["target_directory"], "release", "examples")


class Process:
    """A process at one moment."""

    def __init__(self, pid):
        """Raises OSError if there is no such process."""
        self.pid = int(pid)
        # The name stands in parentheses and may hold some itself.
        comm, rest = Path(f"/proc/{pid}/stat").read_text(errors="replace").split("(", 1)[1].rsplit(")", 1)
        self.comm = comm
        self.state, parent = rest.split()[:2]
        self.parent = int(parent)

    def __str__(self):
        try:
            arguments = Path(f"/proc/{self.pid}/cmdline").read_bytes().decode(errors="replace").replace("\0", " ")
        except OSError:
            arguments = ""
        return f"{self.pid} (child of {self.parent}) {self.state} {self.comm}: {arguments}"

    def has_ended(self):
        return self.state in "ZX"


def processes():
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                found.append(Process(name))
            except OSError:
                pass
    return found


def children(parent):
    return [process for process in processes() if process.parent == parent]


def descendants(ancestor):
    found, wanted = [], {ancestor}
    table = processes()
    while wanted:
        generation = [process for process in table if process.parent in wanted]
        found += generation
        wanted = {process.pid for process in generation}
    return found


def runs(pid):
    try:
        return not Process(pid).has_ended()
    except OSError:
        return False


def eventually(what, condition, seconds=20.0):
    """Waits until the condition holds, and returns what it returned; fails if it does not in time."""
    deadline = time.monotonic() + seconds
    while True:
        late = time.monotonic() > deadline
        result = condition()
        if result:
            return result
        if late:
            fail(f"not within {seconds} s: {what}")
        time.sleep(0.001)
