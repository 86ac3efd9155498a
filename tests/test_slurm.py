"""A sweep on a real Slurm, which the test starts on this machine alone: requeues, signals, kills and time limits."""

import csv
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from bbbrun.runs.slurm import queued
from bbbrun.runs.standing import standing, writer

TOOLS = ("slurmctld", "slurmd", "munged", "slurmdbd", "mariadbd")
PATH = f"{os.environ['PATH']}:/usr/sbin:/sbin"
missing = [tool for tool in TOOLS if shutil.which(tool, path=PATH) is None]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        bool(missing),
        reason=f"Slurm is not installed: no {', '.join(missing)} (slurm-wlm munge slurmdbd mariadb-server)",
    ),
]

FAST = ("network.hidden=[4]", "threads=1", "compile=false", "device=cpu", "method=mle", "prior=none")
# A hundredth of a second a step, on any processor: with 400 epochs longer than Slurm takes to see a limit.
SLOW = """
import time
from torch import nn

class Slow(nn.Linear):
    def forward(self, x):
        time.sleep(0.01)
        return super().forward(x.flatten(1))

def make():
    return Slow(64, 10)
"""
WORDS = ("train.epochs=400", "network=module", "network.target=slow.make", *FAST[1:])
HERE = Path(__file__).parent


@pytest.fixture
def slurm(request, tmp_path_factory, monkeypatch):
    """A Slurm of two processors on this machine, or of as many as the test says, whatever it has."""
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    monkeypatch.setenv("SLURM_TEST_DIR", str(tmp_path_factory.mktemp("slurm")))
    monkeypatch.setenv("SLURM_TEST_CPUS", getattr(request, "param", "2"))
    monkeypatch.setenv("SLURM_TEST_PORT", str(26900 + os.getpid() % 1000))
    monkeypatch.setenv("PATH", PATH)
    started = subprocess.run([str(HERE / "slurm-up")], capture_output=True, text=True)
    assert started.returncode == 0, started.stderr
    monkeypatch.setenv("SLURM_CONF", started.stdout.partition("SLURM_CONF=")[2].strip())
    yield
    subprocess.run([str(HERE / "slurm-down")], check=True, capture_output=True)


def untimed(run: Path) -> list[list[str]]:
    with (run / "metrics.csv").open(newline="") as file:
        return [[cell for number, cell in enumerate(row) if number != 2] for row in csv.reader(file)]


def awaited(what, seconds: float = 300):
    deadline = time.monotonic() + seconds
    while not (value := what()):
        assert time.monotonic() < deadline, what
        time.sleep(0.1)
    return value


def going(folder: Path, done: float = 0.02) -> bool:
    now = standing(folder)
    return now.state == "running" and now.done > done


def disturb(folder: Path, ending: str) -> None:
    """End the job's first stretch, once it has begun."""
    about = awaited(lambda: going(folder) and writer(folder))
    number = queued(folder.parent)[folder.name]
    assert about["slurm"] == number
    if ending == "requeue":
        subprocess.run(["scontrol", "requeue", number], check=True)
    elif ending == "USR2":
        signalled = ["scancel", "--signal=USR2", number]  # refused while Slurm is still busy with the job's start
        awaited(lambda: subprocess.run(signalled).returncode == 0)
    else:
        os.kill(about["process"], signal.SIGKILL)


@pytest.mark.parametrize("slurm", ["4"], indirect=True)
def test_requeued_signalled_killed_and_out_of_time_all_end_as_if_nothing_had_been(slurm, tmp_path):
    (tmp_path / "slow.py").write_text(SLOW)
    sweep = tmp_path / "sweep"
    # Slurm looks every 30 s, and so sends the signal of the limit 15 to 45 s after a job's start: to each of them.
    settings = ["hydra.launcher.partition=main", "hydra.launcher.timeout_min=2", "hydra.launcher.signal_delay_s=75"]
    command = [sys.executable, "-m", "bbbrun", "-m", *WORDS, "seed=0,1,2,3", "hydra/launcher=slurm", *settings]
    with subprocess.Popen([*command, "hydra.sweep.dir=sweep"], cwd=tmp_path, stderr=subprocess.PIPE, text=True) as call:
        disturbed = [
            threading.Thread(target=disturb, args=(sweep / f"{seed:04d}", ending))
            for seed, ending in enumerate(("requeue", "USR2", "KILL"))
        ]
        for thread in disturbed:
            thread.start()
        for thread in disturbed:
            thread.join()
        _, errors = call.communicate(timeout=1200)
    if call.returncode:  # the killed one: Slurm calls it failed, and nobody submits it unasked
        assert errors.splitlines()[-2].startswith("  0002 seed=2: interrupted"), errors
        again = subprocess.run(
            [sys.executable, "-m", "bbbrun", "resume=sweep"], cwd=tmp_path, capture_output=True, text=True
        )
        assert again.returncode == 0, again.stderr
    whole = [sys.executable, "-m", "bbbrun", "-m", *WORDS, "seed=0,1,2,3", "hydra.sweep.dir=whole"]
    assert subprocess.run([*whole, "hydra/launcher=joblib", "hydra.launcher.n_jobs=4"], cwd=tmp_path).returncode == 0
    for seed in range(4):
        assert untimed(sweep / f"{seed:04d}") == untimed(tmp_path / "whole" / f"{seed:04d}")
    starts = [(sweep / f"{seed:04d}" / "log.txt").read_text().count("\nrun folder:") for seed in range(4)]
    # Each had a limit, and three an ending of their own besides, unless the limit came first.
    assert all(count >= 2 for count in starts), starts
    print(f"stretches of the four jobs: {starts}")


def test_a_preempted_job_goes_on_once_the_urgent_one_has_ended(slurm, tmp_path):
    (tmp_path / "slow.py").write_text(SLOW)
    words = ["train.epochs=150", *WORDS[1:], "seed=0"]
    command = [sys.executable, "-m", "bbbrun", "-m", *words, "hydra/launcher=slurm", "hydra.sweep.dir=sweep"]
    run = tmp_path / "sweep" / "0000"
    with subprocess.Popen([*command, "hydra.launcher.partition=main"], cwd=tmp_path) as call:
        awaited(lambda: going(run))
        urgent = ["sbatch", "--partition=urgent", "--ntasks=2", "--output=/dev/null", "--wrap=sleep 3"]
        subprocess.run(urgent, cwd=tmp_path, check=True, capture_output=True)
        assert call.wait(timeout=600) == 0
    states = subprocess.run(
        ["sacct", "--noheader", "--allocations", "--parsable2", "--duplicates", "--format=State"],
        capture_output=True,
        text=True,
    ).stdout.split()
    assert "PREEMPTED" in states, states
    assert (run / "log.txt").read_text().count("\nrun folder:") == 2
    whole = [sys.executable, "-m", "bbbrun", "-m", *words, "hydra.sweep.dir=whole"]
    assert subprocess.run(whole, cwd=tmp_path).returncode == 0
    assert untimed(run) == untimed(tmp_path / "whole" / "0000")


def test_a_stop_leaves_jobs_in_the_queue_and_says_so_and_a_failed_job_is_failed(slurm, tmp_path):
    (tmp_path / "slow.py").write_text(SLOW)
    words = ["train.epochs=150", *WORDS[1:], "dataset.valid_size=100,5000"]
    command = [sys.executable, "-m", "bbbrun", "-m", *words, "hydra/launcher=slurm", "hydra.sweep.dir=sweep"]
    sweep = tmp_path / "sweep"
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as call:
        awaited(lambda: going(sweep / "0000") and standing(sweep / "0001").state == "failed")
        awaited(lambda: list(queued(sweep)) == ["0000"])
        os.kill(call.pid, signal.SIGTERM)
        _, errors = call.communicate(timeout=60)
    assert call.returncode == 130
    number = queued(sweep)["0000"].partition("_")[0]
    line = errors.splitlines()[-1]
    start = f"interrupted; 1 job continues in Slurm: bbbrun status {sweep} shows them, scancel {number} "
    assert line.startswith(start)
    # It waits for what is in the queue, and submits that once.
    again = subprocess.run(
        [sys.executable, "-m", "bbbrun", "resume=sweep"], cwd=tmp_path, capture_output=True, text=True
    )
    assert "1/2 finished: 0000 dataset.valid_size=100" in again.stderr
    assert again.returncode == 1
    assert (sweep / "0000" / "log.txt").read_text().count("\nrun folder:") == 1
    states = subprocess.run(
        ["sacct", "--noheader", "--allocations", "--parsable2", "--format=JobID,State"], capture_output=True, text=True
    ).stdout.split()
    assert f"{number}_0|COMPLETED" in states
    assert f"{number}_1|FAILED" in states


def allocations(*columns: str) -> list[str]:
    """What Slurm has of each submitted job, but for those by which the test keeps others waiting."""
    fields = f"--format=JobName,{','.join(columns)}"
    listed = subprocess.run(
        ["sacct", "--noheader", "--allocations", "--parsable2", fields], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    return [fields for name, _, fields in (line.partition("|") for line in listed) if name != "wrap"]


@pytest.fixture
def busy(slurm, tmp_path):
    """All processors in use, so that jobs wait in the queue until the number given here is cancelled."""
    words = ["sbatch", "--parsable", "--partition=urgent", "--ntasks=2", "--output=/dev/null", "--wrap=sleep 600"]
    return subprocess.run(words, cwd=tmp_path, check=True, capture_output=True, text=True).stdout.strip()


def test_runs_that_wait_in_the_queue_are_submitted_once_by_calls_in_turn_and_at_once(busy, tmp_path):
    launcher = ["--launcher", "slurm", "hydra.launcher.partition=main"]
    command = [
        sys.executable,
        "-m",
        "bbbrun",
        "reproduce",
        "--only",
        "figure5",
        "--device",
        "cpu",
        *launcher,
        "--seeds",
    ]
    sweep = tmp_path / "results" / "runs" / "reproduce"
    with subprocess.Popen([*command, "0"], cwd=tmp_path, stderr=subprocess.PIPE, text=True) as call:
        awaited(lambda: len(queued(sweep)) == 2)
        os.kill(call.pid, signal.SIGTERM)
        _, errors = call.communicate(timeout=60)
    assert call.returncode == 130
    assert "2 jobs continue in Slurm" in errors.splitlines()[-1]
    assert not list(sweep.glob("*/metrics.csv"))
    # Two calls at once, each for these and two more.
    calls = [subprocess.Popen([*command, "0,1"], cwd=tmp_path) for _ in range(2)]
    awaited(lambda: len(queued(sweep)) == 4)
    subprocess.run(["scancel", busy], check=True)
    assert [each.wait(timeout=300) for each in calls] == [0, 0]
    assert allocations("State") == 4 * ["COMPLETED"]


def test_a_sweep_of_one_job_is_submitted_once(busy, bbbrun, tmp_path):
    words = ["train.epochs=10", *FAST, "hydra/launcher=slurm", "hydra.launcher.partition=main"]
    command = [sys.executable, "-m", "bbbrun", "-m", *words, "hydra.sweep.dir=sweep"]
    with subprocess.Popen(command, cwd=tmp_path) as call:
        awaited(lambda: list(queued(tmp_path / "sweep")) == ["0000"])
        call.kill()
    assert f"Slurm job {queued(tmp_path / 'sweep')['0000']}" in bbbrun("status", "--all", "sweep").stdout
    with subprocess.Popen([sys.executable, "-m", "bbbrun", "resume=sweep"], cwd=tmp_path) as call:
        time.sleep(10)  # in which it has looked at the queue
        subprocess.run(["scancel", busy], check=True)
        assert call.wait(timeout=300) == 0
    assert allocations("State") == ["COMPLETED"]
