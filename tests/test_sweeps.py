"""A sweep can be continued, extended and watched; a failing job is reported and the others continue."""

import contextlib
import csv
import importlib.util
import json
import os
import random
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path

import pytest

from bbbrun.errors import UserError
from bbbrun.runs.files import METRICS, lock
from bbbrun.runs.slurm import Submission, being_submitted, queued, slurm_number
from bbbrun.runs.standing import Standing, jobs_in, percent, seconds_left, standing
from bbbrun.runs.sweep import SweepJob, enroll, labels, read_sweep
from bbbrun.sweeps.job import run_job
from bbbrun.sweeps.shares import cores, threads_each
from bbbrun.sweeps.watch import Watch

FAST = ("train.epochs=2", "network.hidden=[4]", "threads=1", "compile=false", "device=cpu", "method=mle", "prior=none")


def only_sweep(folder: Path) -> Path:
    (path,) = folder.rglob("sweep.json")
    return path.parent


def untimed(run: Path) -> list[list[str]]:
    with (run / "metrics.csv").open(newline="") as file:
        return [[cell for number, cell in enumerate(row) if number != 2] for row in csv.reader(file)]


def touched(sweep: Path) -> dict[str, int]:
    """When each job's summary was written."""
    return {path.parent.name: path.stat().st_mtime_ns for path in sweep.glob("*/summary.json")}


def test_a_sweep_is_gone_on_with_and_added_to(bbbrun, tmp_path):
    first = bbbrun("-m", *FAST, "seed=0,1")
    assert first.returncode == 0, first.stderr
    sweep = only_sweep(tmp_path)
    assert sweep.parent == tmp_path / "results" / "runs" / "digits"
    assert (sweep / "multirun.yaml").exists()
    assert sorted(touched(sweep)) == ["0000", "0001"]
    assert [line.split(",")[0] for line in first.stderr.splitlines()] == [
        "1/2 finished: 0000 seed=0",
        "2/2 finished: 0001 seed=1",
        f"finished: {sweep} (2 jobs)",
    ]
    before = touched(sweep)
    nothing = bbbrun(word := f"resume={sweep}")
    assert (nothing.returncode, nothing.stderr) == (0, f"finished: {sweep} (2 jobs)\n")
    (tmp_path / "own").mkdir()
    with_folder = bbbrun("--config-dir", "own", word)
    assert (with_folder.returncode, with_folder.stderr) == (0, nothing.stderr)
    # As if killed after its last checkpoint, and with a value more in front.
    (sweep / "0001" / "summary.json").unlink()
    rows = untimed(sweep / "0001")
    # A key more, with the value that it has: the same jobs.
    more = bbbrun("-m", *FAST, "seed=2,1,0", "train.evaluate_every=1", word)
    assert more.returncode == 0, more.stderr
    ends = [line.split(",")[0].partition(" finished: ") for line in more.stderr.splitlines()[:-1]]
    assert [number for number, _, _ in ends] == ["2/3", "3/3"]
    assert sorted(label for _, _, label in ends) == ["0001 seed=1", "0002 seed=2 train.evaluate_every=1"]
    assert touched(sweep)["0000"] == before["0000"]
    assert untimed(sweep / "0001") == rows
    assert json.loads((sweep / "0002" / "summary.json").read_text())["seed"] == 2
    # A job alone is a run like any other.
    alone = bbbrun(*FAST, "seed=2", f"resume={sweep}/0002")
    assert alone.stderr == f"already finished: {sweep}/0002\n"


def test_what_a_sweep_cannot_take_is_one_line(bbbrun, tmp_path):
    enroll(tmp_path / "sweep", ["seed=0,1"], [["seed=0"], ["seed=1"]])
    (tmp_path / "run" / ".hydra").mkdir(parents=True)
    (tmp_path / "run" / ".hydra" / "config.yaml").write_text("seed: 0\n")
    for words, expected in (
        (["resume=sweep", "seed=5"], "resume: seed=5 would change the sweep's jobs"),
        (["-m", "seed=0,1", "resume=nothing"], "nothing is not the folder of a sweep (it has no sweep.json)"),
        (["-m", "seed=0,1", "resume=run"], "it is a run's, which is resumed without -m"),
        (["-m", "seed=0,1", "resume=sweep", "hydra.sweep.dir=x"], "hydra.sweep.dir=x has no effect with resume"),
    ):
        result = bbbrun(*words)
        assert (result.returncode, result.stderr.count("\n")) == (1, 1), result.stderr
        assert expected in result.stderr
    (tmp_path / "sweep" / "sweep.json").write_text("{")
    result = bbbrun("resume=sweep")
    assert (result.returncode, result.stderr.count("\n")) == (1, 1)
    assert "sweep.json cannot be read" in result.stderr


def test_failing_jobs_are_told_and_listed_and_the_others_go_on(bbbrun, tmp_path):
    result = bbbrun("-m", *FAST, "dataset.valid_size=5000,100,-1", "hydra.sweep.dir=sweep")
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    lines = result.stderr.splitlines()
    told = [line for line in lines if line.startswith("bbbrun: error: ")]
    assert len(told) == 2
    log = tmp_path / "sweep" / "0000" / "log.txt"
    assert told[0].startswith("bbbrun: error: dataset.valid_size must be below")
    assert told[0].endswith(f"(job 0000 dataset.valid_size=5000; its log: {log})")
    assert "must be below" in log.read_text()
    assert (tmp_path / "sweep" / "0001" / "summary.json").exists()
    end = lines[lines.index(f"2 of 3 jobs are not finished, in {tmp_path}/sweep:") + 1 :]
    assert end[0].startswith("  0000 dataset.valid_size=5000: failed: dataset.valid_size must be below")
    assert end[1].startswith("  0002 dataset.valid_size=-1: failed: dataset.valid_size must be")
    assert end[2] == f"to continue them: bbbrun resume={tmp_path}/sweep"
    status = bbbrun("status", "sweep")
    assert "3 runs: 1 finished, 2 failed" in status.stdout
    again = bbbrun("resume=sweep")
    assert again.returncode == 1
    assert "1/3" not in again.stderr


def test_a_bugs_traceback_lies_in_the_jobs_folder(tmp_path):
    def broken():
        print("on its way", file=sys.stderr)
        warnings.showwarning(UserWarning("look out"), UserWarning, "", 1)
        return {"valid_error": 1 / 0}

    with pytest.raises(UserError, match=r"^ZeroDivisionError: division by zero$"):
        run_job(tmp_path, broken)
    text = (tmp_path / "error.txt").read_text()
    assert text.startswith("ZeroDivisionError: division by zero\n\nTraceback")
    assert 'return {"valid_error": 1 / 0}' in text
    log = (tmp_path / "log.txt").read_text()
    assert all(each in log for each in ("on its way", "bbbrun: warning: look out\n", text))
    assert standing(tmp_path) == Standing("failed", detail="ZeroDivisionError: division by zero")
    # Once more, mended.
    assert run_job(tmp_path, lambda: {"test_error": 1.0, "valid_error": 2.5}) == 2.5
    assert not (tmp_path / "error.txt").exists()


PROBE = """
import json
from pathlib import Path

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_store import ConfigStore


class Probe(BasicSweeper):
    def __init__(self):
        super().__init__(max_batch_size=None)

    def sweep(self, arguments):
        batches = super().sweep(arguments)
        Path("returned.json").write_text(json.dumps([job.return_value for batch in batches for job in batch]))
        return batches


target = "hydra_plugins.probe_sweeper.probe.Probe"
ConfigStore.instance().store(group="hydra/sweeper", name="probe", node={"_target_": target}, provider="probe")
"""


@pytest.mark.slow
@pytest.mark.parametrize(("words", "name"), [((), "valid_error"), (("objective=valid_nll",), "valid_nll")])
def test_a_sweeper_is_given_the_objective_of_each_job(bbbrun, tmp_path, words, name):
    plugin = tmp_path / "hydra_plugins" / "probe_sweeper"
    plugin.mkdir(parents=True)
    (plugin / "__init__.py").touch()
    (plugin / "probe.py").write_text(PROBE)
    command = ["-m", *FAST, "seed=0,1", "hydra/sweeper=probe", *words]
    for _ in range(2):  # the second time all jobs are finished
        result = bbbrun(*command, PYTHONPATH=str(tmp_path))
        assert result.returncode == 0, result.stderr
        summaries = [json.loads(path.read_text()) for path in sorted(tmp_path.rglob("summary.json"))]
        assert json.loads((tmp_path / "returned.json").read_text()) == [each["metrics"][name] for each in summaries]
        (tmp_path / "returned.json").unlink()
        command = [*command, f"resume={only_sweep(tmp_path)}"]


def test_an_objective_is_a_metric_of_validation_that_the_run_has(bbbrun, tmp_path):
    refused = bbbrun(*FAST, "objective=test_error")
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1), refused.stderr
    assert "objective must be a metric of validation: valid_error, valid_nll" in refused.stderr
    metrics = {"valid_error": 3.0, "valid_nll": 0.5, "test_error": 2.0}
    assert run_job(tmp_path / "one", lambda: metrics) == 3.0
    assert run_job(tmp_path / "two", lambda: metrics, "valid_nll") == 0.5
    with pytest.raises(UserError, match="the run has no cumulative_regret, only valid_error, valid_nll"):
        run_job(tmp_path / "three", lambda: metrics, "cumulative_regret")


def test_a_job_that_another_process_does_is_left_to_it(bbbrun, tmp_path):
    enroll(tmp_path / "sweep", [*FAST, "seed=0,1"], [[*FAST, f"seed={seed}"] for seed in (0, 1)])
    (tmp_path / "sweep" / "0000").mkdir()
    with (tmp_path / "sweep" / "0000" / "log.txt").open("a") as log:
        assert lock(log)
        result = bbbrun("resume=sweep")
    assert result.returncode == 1
    assert "1/2 finished: 0001 seed=1" in result.stderr
    assert "  0000 seed=0: running" in result.stderr
    assert not (tmp_path / "sweep" / "0000" / "metrics.csv").exists()


@pytest.mark.slow
def test_two_calls_at_once_run_no_job_twice(tmp_path):
    words = [*FAST, "train.epochs=30"]
    enroll(tmp_path / "sweep", words, [[*words, f"seed={seed}"] for seed in range(8)])
    command = [sys.executable, "-m", "bbbrun", "resume=sweep"]
    calls = [subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    for call in calls:
        call.communicate(timeout=300)
    assert subprocess.run(command, cwd=tmp_path).returncode == 0
    for seed in range(8):
        folder = tmp_path / "sweep" / f"{seed:04d}"
        assert len(untimed(folder)) == 31
        assert (folder / "log.txt").read_text().count("run folder:") == 1


def test_a_list_is_one_for_calls_that_come_at_once(tmp_path):
    def add(first: int) -> None:
        for seed in range(first, first + 20):
            enroll(tmp_path, ["-m"], [[f"seed={seed}"], ["seed=100"]])

    threads = [threading.Thread(target=add, args=(first,)) for first in (0, 10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    jobs = read_sweep(tmp_path).jobs
    assert [job.folder for job in jobs] == [f"{number:04d}" for number in range(31)]
    assert {job.words for job in jobs} == {(f"seed={seed}",) for seed in (*range(30), 100)}
    # Where and how fast does not tell jobs apart.
    (job,) = enroll(tmp_path, ["-m"], [["device=cuda", "seed=100", "threads=7"]])
    assert job in jobs
    # But within one call it does.
    threads_swept = [["threads=1"], ["threads=4"]]
    swept = enroll(tmp_path / "threads", ["-m"], threads_swept)
    assert [job.words for job in swept] == [("threads=1",), ("threads=4",)]
    assert enroll(tmp_path / "threads", ["-m"], threads_swept[::-1]) == swept[::-1]
    with pytest.raises(UserError, match="two jobs the folder same"):
        enroll(tmp_path / "own", ["-m"], [["seed=0"], ["seed=1"]], lambda words, number: "same")


def test_a_folder_of_the_users_own_choice(bbbrun, tmp_path):
    words = ("-m", *FAST, "hydra.sweep.dir=sweep", "hydra.sweep.subdir=n_${hydra.job.num}")
    for seeds, folders in (("0,1", ["n_0", "n_1"]), ("2,1", ["n_0", "n_1", "n_2"])):
        result = bbbrun(*words, f"seed={seeds}")
        assert result.returncode == 0, result.stderr
        assert sorted(touched(tmp_path / "sweep")) == folders
    assert json.loads((tmp_path / "sweep" / "n_2" / "summary.json").read_text())["seed"] == 2


def test_jobs_of_several_names_have_one_folder(bbbrun, tmp_path):
    result = bbbrun("-m", "train.epochs=1", "network.hidden=[4]", "compile=false", "name=one,two")
    assert result.returncode == 0, result.stderr
    assert only_sweep(tmp_path).parent.name == "sweep"


# --- status


def job(folder: Path, *, epochs: int = 10, rows: int = 0, seconds: float = 0.0) -> Path:
    (folder / ".hydra").mkdir(parents=True)
    record = f"name: x\nagent:\n  name: none\ntrain:\n  batch_size: 3\n  epochs: {epochs}\n"
    (folder / ".hydra" / "config.yaml").write_text(record)
    lines = [f"{row},{10 * row},{seconds * row / max(rows, 1)},0.1" for row in range(1, rows + 1)]
    (folder / METRICS).write_text("\n".join(["epoch,step,seconds,nll", *lines, "4,4"]))
    return folder


def test_standings(tmp_path):
    going = job(tmp_path / "a", rows=5, seconds=20.0)
    assert standing(going) == Standing("interrupted", 0.5, 20.0, "", "0.25 epochs/s")
    (going / "writer.json").write_text('{"host": "here", "process": 7, "parent": 1, "slurm": null}')
    with (going / METRICS).open("a") as file:
        assert lock(file)
        assert standing(going) == Standing("running", 0.5, 20.0, "on here, process 7", "0.25 epochs/s")
        assert standing(going).seconds_left == pytest.approx(20.0)
    (going / "error.txt").write_text("why\nTraceback")
    assert standing(going) == Standing("failed", detail="why")
    (going / "summary.json").write_text("{}")
    assert standing(going) == Standing("finished", 1.0, 20.0)
    assert standing(tmp_path / "nothing") == Standing("waiting")
    bandit = job(tmp_path / "b")
    (bandit / ".hydra" / "config.yaml").write_text("agent:\n  name: x\n  steps: 200\ntrain:\n  epochs: null\n")
    (bandit / METRICS).write_text("step,seconds,reward\n50,5.0,1\n")
    assert standing(bandit) == Standing("interrupted", 0.25, 5.0, "", "10 steps/s")
    # One that has not begun takes 20 s, half of one 10, two at a time.
    assert seconds_left([Standing("waiting"), *2 * [Standing("running", 0.5, 10.0)]]) == pytest.approx(20.0)


def test_replicas_are_one_run(tmp_path):
    around = tmp_path / "job"
    for name in ("seed-0", "seed-1"):
        job(around / name, rows=5, seconds=10.0)
    (around / ".hydra").mkdir()
    (around / ".hydra" / "config.yaml").write_text("replicas: 2\n")
    assert jobs_in(tmp_path) == [(around, "job")]
    assert standing(around).state == "interrupted"
    (around / "seed-0" / "summary.json").write_text("{}")
    assert standing(around) == Standing("interrupted", 0.75, 10.0)
    (around / "seed-1" / "summary.json").write_text("{}")
    assert standing(around).state == "finished"


def test_the_status_of_a_thousand_jobs_loads_nothing_large(tmp_path):
    enroll(tmp_path, ["-m"], [[f"seed={seed}"] for seed in range(1000)])
    for number in range(900):
        folder = job(tmp_path / f"{number:04d}", rows=10 if number < 400 else 9, seconds=10 if number < 400 else 9)
        if number < 400:
            (folder / "summary.json").write_text("{}")
    command = [sys.executable, "-X", "importtime", "-m", "bbbrun", "status", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    first = done.stdout.splitlines()[0]
    assert "1000 runs: 400 finished, 500 interrupted, 100 waiting; 85% done, about 25.0 min left" in first
    assert not re.search(r"\| +(torch|pandas|hydra|omegaconf)$", done.stderr, re.MULTILINE)


def test_a_slurm_job_of_an_array_has_the_number_that_scancel_takes():
    array = {"SLURM_JOB_ID": "40", "SLURM_ARRAY_JOB_ID": "38", "SLURM_ARRAY_TASK_ID": "2"}
    assert slurm_number(array) == "38_2"
    assert slurm_number({"SLURM_JOB_ID": "40"}) == "40"
    assert slurm_number({}) is None


def test_the_queue_has_the_jobs_of_arrays_and_single_ones_and_is_never_guessed(tmp_path, monkeypatch):
    sweep, tools = tmp_path / "a sweep", tmp_path / "tools"
    tools.mkdir()
    squeue = tools / "squeue"
    squeue.write_text('#!/bin/sh\ncat "$0.txt" && exit "$(cat "$0.code")"\n')
    squeue.chmod(0o755)
    monkeypatch.setenv("PATH", str(tools), prepend=":")
    assert queued(sweep) == {}
    array = Submission(sweep, ["0000", "0001", "0002"])
    assert being_submitted(sweep) == {"0000", "0001", "0002"}
    array.close()
    assert being_submitted(sweep) == set()
    single = Submission(sweep, ["0003"])
    (Path(single.folder).parent / "40").mkdir()
    assert being_submitted(sweep) == set()
    paths = [Path(each.folder).parent / ".submission.sh" for each in (array, single)]
    lines = [f"38_2 {paths[0]}", f"38_0 {paths[0]}", f"40 {paths[1]}", "41 (null)", "42_1 /elsewhere/2026/a.sh"]
    (tools / "squeue.txt").write_text("\n".join(lines) + "\n")
    (tools / "squeue.code").write_text("0")
    assert queued(sweep) == {"0002": "38_2", "0000": "38_0", "0003": "40"}
    (tools / "squeue.code").write_text("1")
    with pytest.raises(UserError, match=r"Slurm's queue, .* is unknown"):
        queued(sweep)
    single.close()


def test_only_the_whole_is_100_percent():
    assert [percent(share) for share in (0, 0.29, 0.9999, 1.0)] == ["0%", "29%", "99%", "100%"]


def test_labels_show_what_tells_jobs_apart():
    jobs = [SweepJob(f"{seed}", ("a=1", f"seed={seed}")) for seed in (0, 1)]
    assert labels(jobs) == {"0": "0 seed=0", "1": "1 seed=1"}
    assert labels(jobs[:1]) == {"0": "0 a=1 seed=0"}


def test_a_line_about_a_job_tells_it_from_all_of_its_sweep(tmp_path, capfd):
    jobs = enroll(tmp_path, [], [["experiment=digits", f"seed={seed}"] for seed in (0, 1)])
    with Watch(tmp_path, jobs[1:]):
        (tmp_path / "0001").mkdir()
        (tmp_path / "0001" / "summary.json").write_text('{"metrics": {}}')
    assert capfd.readouterr().err == "1/1 finished: 0001 seed=1, 0 s\n"


@pytest.mark.parametrize(("objective", "told"), [(None, "valid_error 2"), ("valid_nll", "valid_nll 0.5")])
def test_a_line_about_a_job_has_the_sweeps_objective(tmp_path, capfd, objective, told):
    jobs = enroll(tmp_path, [], [["seed=0"]])
    with Watch(tmp_path, jobs, objective):
        (tmp_path / "0000").mkdir()
        (tmp_path / "0000" / "summary.json").write_text('{"metrics": {"valid_error": 2.0, "valid_nll": 0.5}}')
    assert capfd.readouterr().err == f"1/1 finished: 0000 seed=0, {told}, 0 s\n"


@pytest.mark.parametrize(
    ("cores", "jobs", "most", "threads"),
    [(8, 3, None, [3, 3, 2]), (8, 12, None, 12 * [1]), (8, 12, 3, 12 * [2]), (2, 1, None, [2]), (2, 5, 4, 5 * [1])],
)
def test_threads_share_the_cores(cores, jobs, most, threads):
    assert threads_each(cores, jobs, most) == threads


@pytest.mark.parametrize(
    "flags", [["--config-dir", "own"], ["hydra.searchpath=[own]"], ["hydra.searchpath=[file://own]"]]
)
def test_a_sweep_of_ones_own_configurations_is_continued_from_any_folder(run_in, tmp_path, flags):
    own = tmp_path / "own" / "experiment"
    own.mkdir(parents=True)
    (own / "mine.yaml").write_text("# @package _global_\nname: mine\ntrain: {epochs: 1}\nnetwork: {hidden: [4]}\n")
    words = ("experiment=mine", "threads=1", "compile=false", "device=cpu", "seed=0,1")
    first = run_in(tmp_path, "-m", *flags, *words)
    assert first.returncode == 0, first.stderr
    sweep = only_sweep(tmp_path)
    assert sweep.parent.name == "mine"
    (sweep / "0001" / "summary.json").unlink()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    again = run_in(elsewhere, f"resume={sweep}")
    assert again.returncode == 0, again.stderr
    assert again.stderr.splitlines()[-1] == f"finished: {sweep} (2 jobs)"


@pytest.mark.slow
def test_the_threads_that_an_experiment_sets_are_not_shared_out_anew(bbbrun, tmp_path):
    words = ["experiment=digits", *(word for word in FAST if not word.startswith("threads"))]
    # On one core a job's share is 1, too, and nothing is tested.
    result = bbbrun("-m", *words, "hydra/launcher=joblib", "hydra.sweep.dir=own")
    assert result.returncode == 0, result.stderr
    assert "\nthreads: 1\n" in (tmp_path / "own" / "0000" / ".hydra" / "config.yaml").read_text()
    result = bbbrun("-m", *words, "threads=null", "hydra/launcher=joblib", "hydra.sweep.dir=shared")
    assert result.returncode == 0, result.stderr
    assert f"\nthreads: {cores()}\n" in (tmp_path / "shared" / "0000" / ".hydra" / "config.yaml").read_text()


@pytest.mark.slow
def test_jobs_that_share_cores_are_composed_by_the_words_that_may_set_threads_alone(bbbrun, tmp_path):
    (tmp_path / "own.py").write_text(
        "from torch import nn\n"
        "def make(width, depth=1):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.Linear(width, 10))\n"
    )
    words = ["network=module", "network.target=own.make", "network.args={width:5,depth:2}", "~network.args.depth"]
    words += ["train.epochs=1", "compile=false", "hydra/launcher=joblib"]
    result = bbbrun("-m", *words, "seed=0,1")
    assert result.returncode == 0, result.stderr
    result = bbbrun("-m", *FAST, "threads=0,1", "hydra/launcher=joblib")
    assert result.returncode == 1
    assert "threads must be a whole number from 1 to 4096, not 0" in result.stderr


@pytest.mark.parametrize("subdir", ["../x${seed}", "/x${seed}"])
def test_a_job_outside_of_its_sweep_is_refused_before_the_sweep_has_a_list(bbbrun, tmp_path, subdir):
    result = bbbrun("-m", *FAST, f"hydra.sweep.subdir={subdir}", "seed=0,1")
    assert result.returncode == 1
    assert "hydra.sweep.subdir must be a folder within the sweep's, not" in result.stderr
    assert not list(tmp_path.rglob("sweep.json"))


# --- stops and kills


def begun(sweep: Path, jobs: int, call: subprocess.Popen) -> None:
    """Wait until as many jobs have a row."""
    deadline = time.monotonic() + 600
    while call.poll() is None and time.monotonic() < deadline:
        if sum(path.read_text().count("\n") > 1 for path in sweep.glob(f"*/{METRICS}")) >= jobs:
            return
        time.sleep(0.05)
    raise AssertionError("no job has begun")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM])
def test_a_stop_says_what_is_left_and_how_to_go_on(tmp_path, number):
    words = ["-m", *FAST, "train.epochs=100000", "seed=3,4", "hydra.sweep.dir=sweep"]
    command = [sys.executable, "-m", "bbbrun", *words]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as call:
        begun(tmp_path / "sweep", 1, call)
        os.kill(call.pid, number)
        _, errors = call.communicate(timeout=60)
    assert call.returncode == 130
    assert errors == f"interrupted; 2 of 2 jobs are left; continue with: bbbrun resume={tmp_path}/sweep\n"
    states = [standing(path).state for path, _ in jobs_in(tmp_path / "sweep")]
    assert states == ["interrupted", "waiting"]
    assert (tmp_path / "sweep" / "0000" / "checkpoint.pt").exists()
    assert shlex.split(errors)[-1] == f"resume={tmp_path}/sweep"


def kill_all(parent: int) -> None:
    """Kill a process and all below it at once, as a machine that loses its power does."""
    listed = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    children: dict[int, list[int]] = {}
    for line in listed.splitlines():
        number, above = map(int, line.split())
        children.setdefault(above, []).append(number)
    doomed = [parent]
    for number in doomed:
        doomed += children.get(number, [])
    for number in doomed:
        with contextlib.suppress(ProcessLookupError):
            os.kill(number, signal.SIGKILL)


@pytest.mark.slow
def test_joblib_stops_with_what_it_has_and_its_killed_jobs_are_done_again(tmp_path):
    words = [*FAST[:2], *FAST[3:], "train.epochs=300", "train.checkpoint_seconds=1000"]
    sweep = tmp_path / "sweep"
    command = [sys.executable, "-m", "bbbrun", "-m", *words, "seed=0,1,2", "hydra/launcher=joblib"]
    command += ["hydra.launcher.n_jobs=2", "hydra.sweep.dir=sweep"]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as call:
        begun(sweep, 2, call)
        os.kill(call.pid, signal.SIGTERM)
        _, errors = call.communicate(timeout=120)
    assert call.returncode == 130
    assert errors == f"interrupted; 3 of 3 jobs are left; continue with: bbbrun resume={sweep}\n"
    begun_jobs = [path.parent for path in sweep.glob("*/checkpoint.pt")]
    assert len(begun_jobs) == 2  # saved at the stop, as none is 1000 s old
    with subprocess.Popen(
        [sys.executable, "-m", "bbbrun", f"resume={sweep}"], cwd=tmp_path, stderr=subprocess.PIPE, text=True
    ) as call:
        deadline = time.monotonic() + 120
        while not (victims := [each for each in sweep.glob("*/writer.json") if standing(each.parent).detail]):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        os.kill(json.loads(victims[0].read_text())["process"], signal.SIGKILL)
        _, errors = call.communicate(timeout=300)
    assert call.returncode == 0, errors
    assert errors.splitlines()[-1] == f"finished: {sweep} (3 jobs)"
    whole = subprocess.run(
        [sys.executable, "-m", "bbbrun", *words, "threads=1", "seed=1", "hydra.run.dir=whole"], cwd=tmp_path
    )
    assert whole.returncode == 0
    assert untimed(sweep / "0001") == untimed(tmp_path / "whole")


@pytest.mark.chaos
def test_sixty_jobs_killed_at_a_random_moment_are_finished_by_one_command(tmp_path):
    words = [*FAST, "train.epochs=40", "train.checkpoint_seconds=0"]
    command = [sys.executable, "-m", "bbbrun", "-m", *words, "seed=range(0,60)", "hydra/launcher=joblib"]
    sweep = tmp_path / "sweep"
    with subprocess.Popen([*command, "hydra.sweep.dir=sweep"], cwd=tmp_path, stderr=subprocess.DEVNULL) as call:
        begun(sweep, random.randint(5, 50), call)
        kill_all(call.pid)
    before = touched(sweep)
    assert len(before) < 60
    again = subprocess.run(
        [sys.executable, "-m", "bbbrun", f"resume={sweep}"], cwd=tmp_path, capture_output=True, text=True
    )
    assert again.returncode == 0, again.stderr
    after = touched(sweep)
    assert len(after) == 60
    assert {name: after[name] for name in before} == before
    for name in after:
        log = (sweep / name / "log.txt").read_text()
        assert log.count("run folder:") <= (1 if name in before else 2)
        assert log.count("finished:") == 1
        assert len(untimed(sweep / name)) == 41
    print(f"{len(before)} jobs were finished when all was killed; one command finished the other {60 - len(before)}")


@pytest.mark.slow
def test_joblib_finishes_what_neither_fails_nor_is_killed_and_then_what_was_killed(tmp_path):
    words = [*FAST[1:], "train.epochs=120", "seed=range(0,6)", "dataset.valid_size=100,5000"]
    sweep = tmp_path / "sweep"
    command = [sys.executable, "-m", "bbbrun", "-m", *words, "hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
    with subprocess.Popen([*command, "hydra.sweep.dir=sweep"], cwd=tmp_path, stderr=subprocess.PIPE, text=True) as call:
        begun(sweep, 2, call)
        victim = next(path for path in sweep.glob("*/writer.json") if standing(path.parent).state == "running")
        os.kill(json.loads(victim.read_text())["process"], signal.SIGKILL)
        _, errors = call.communicate(timeout=600)
    assert call.returncode == 1
    assert "Traceback" not in errors
    assert errors.count("bbbrun: error: dataset.valid_size must be below") == 6
    assert f"6 of 12 jobs are not finished, in {sweep}:" in errors
    states = {path.name: standing(path).state for path, _ in jobs_in(sweep)}
    assert sorted(states.values()) == 6 * ["failed"] + 6 * ["finished"]
    assert states[victim.parent.name] == "finished"


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed, for which there is no extra")
@pytest.mark.parametrize("cluster", [False, True])
def test_ray_launches_a_sweeps_jobs(tmp_path, cluster):
    alone = os.environ | {"HOME": str(tmp_path), "RAY_AUTH_MODE": "disabled"}
    ray = [sys.executable, "-m", "ray.scripts.scripts"]
    if cluster:  # one that runs already
        start = ["start", "--head", "--num-cpus=2", "--include-dashboard=false", "--port=26379"]
        subprocess.run([*ray, *start], cwd=tmp_path, env=alone, capture_output=True, check=True)
        settings = ["hydra.launcher.ray.init.address=auto", "+hydra.launcher.ray.init.object_store_memory=null"]
    else:
        settings = ["+hydra.launcher.ray.init.num_cpus=2", "+hydra.launcher.ray.init.include_dashboard=false"]
    command = [sys.executable, "-m", "bbbrun", "-m", *FAST, "seed=0,1", "hydra/launcher=ray", *settings]
    try:
        # A relative folder: the workers of a cluster have other working folders.
        result = subprocess.run(
            [*command, "hydra.sweep.dir=sweep"], cwd=tmp_path, env=alone, capture_output=True, text=True
        )
    finally:
        if cluster:
            subprocess.run([*ray, "stop", "--force"], env=alone, capture_output=True, check=True)
    assert result.returncode == 0, result.stderr
    assert result.stderr.splitlines()[-1] == f"finished: {tmp_path}/sweep (2 jobs)"
    assert sorted(touched(tmp_path / "sweep")) == ["0000", "0001"]
