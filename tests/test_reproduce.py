"""bbbrun reproduce: which runs are listed, which are finished, and that none runs twice."""

import fcntl
import io
import json
import shlex
import shutil
import sys
import threading
import warnings
from hashlib import sha256

import pandas as pd
import pytest
import torch
from omegaconf import OmegaConf

from bbbrun import cli
from bbbrun.runs.jobs import Job, wanted
from bbbrun.runs.matching import expected_seconds, match
from bbbrun.runs.on_disk import RunOnDisk, runs_on_disk
from bbbrun.runs.reader import finished_runs
from bbbrun.runs.sweep import read_sweep
from bbbrun.runs.writer import RunFolder
from bbbrun.runtime import stops
from bbbrun.schema.config import composed, plain
from bbbrun.verbs import reproduce, train

WORDS = ("experiment=digits", "network.hidden=[8]", "train.epochs=3", "compile=false", "method.test_samples=1")


def test_the_list_holds_every_cell_and_agent_of_the_paper():
    jobs = wanted(["table1"], None)
    tempered = [job for job in jobs if job.config["method"].get("temperature", 1) != 1]
    jobs = [job for job in jobs if job not in tempered]
    assert [(job.config["network"]["hidden"], job.config["seed"]) for job in tempered] == [
        ([units, units], seed) for units in (400, 800, 1200) for seed in range(3)
    ]
    seeds: dict[tuple, list[int]] = {}
    for job in jobs:
        kind = (job.config["method"]["name"], job.config["prior"]["name"], *job.config["network"]["hidden"])
        seeds.setdefault(kind, []).append(job.config["seed"])
    assert len(seeds) == 12
    assert all(found == [0, 1, 2] for found in seeds.values())
    assert all(job.config["train"]["epochs"] == 600 for job in jobs)
    agents = wanted(["figure6"], None)
    assert {job.config["agent"]["steps"] for job in agents} == {50_000}
    seeds = {}
    for job in agents:
        seeds.setdefault((job.config["method"]["name"], job.config["agent"]["epsilon"]), []).append(job.config["seed"])
    kinds = [("bbb", 0.0), ("mle", 0.0), ("mle", 0.01), ("mle", 0.05)]
    assert seeds == {kind: list(range(20)) for kind in kinds}
    pruned = [(job.words[0], job.words[-1]) for job in wanted(["table2"], [3, 4])]
    networks = ("experiment=mnist", "experiment=mnist_tempered")
    assert pruned == [(network, f"seed={seed}") for network in networks for seed in (3, 4)]


@pytest.fixture
def listed(monkeypatch, tmp_path):
    """Two seeds of a small run in place of the paper's, in a fresh folder."""
    jobs = [Job((*WORDS, f"seed={seed}"), config(seed)) for seed in (0, 1)]
    monkeypatch.setattr(reproduce, "wanted", lambda only, seeds: jobs)
    monkeypatch.chdir(tmp_path)
    return jobs


def config(seed):
    return plain(composed([*WORDS, f"seed={seed}"]))


def run(*words) -> int:
    with pytest.raises(SystemExit) as stop:
        reproduce.main(words)
    return stop.value.code


@pytest.mark.slow
def test_what_is_finished_is_skipped_what_is_deleted_is_run_what_is_interrupted_resumed(listed, tmp_path, capfd):
    assert run("--list") == 0
    assert not (tmp_path / "results").exists()
    assert "2 of 2 runs remain: 2 never timed" in capfd.readouterr().err
    assert run() == 0
    first = runs_on_disk(tmp_path / "results" / "runs")
    assert [each.finished for each in first] == [True, True]
    capfd.readouterr()
    assert run() == 0
    assert capfd.readouterr().err == "0 of 2 runs remain\n"
    assert runs_on_disk(tmp_path / "results" / "runs") == first

    gone = match(listed[1], first)
    shutil.rmtree(gone.folder)
    at = match(listed[0], first)
    assert expected_seconds(listed[1], None, [at]) == pytest.approx(at.seconds)
    # As if killed before its summary: its checkpoint is complete, so there is nothing left to train.
    (at.folder / "summary.json").unlink()
    metrics = (at.folder / "metrics.csv").read_text()
    assert run() == 0
    errors = capfd.readouterr().err
    assert f"resume=results/runs/digits/{at.folder.name}" in errors
    assert "seed=1" in errors
    assert (at.folder / "metrics.csv").read_text() == metrics
    assert json.loads((at.folder / "summary.json").read_text())["seed"] == 0
    assert len(runs_on_disk(tmp_path / "results" / "runs")) == 2


@pytest.mark.slow
def test_records_of_what_is_finished_are_kept_and_count(listed, tmp_path, capfd):
    records, runs = tmp_path / "paper" / "runs", tmp_path / "results" / "runs"
    assert run("--records", str(records)) == 0
    done = runs_on_disk(runs)
    assert [each.folder.relative_to(records) for each in runs_on_disk(records)] == [
        each.folder.relative_to(runs) for each in done
    ]
    for each in finished_runs([records]):
        of = runs / each.folder.relative_to(records)
        assert each.summary == json.loads((of / "summary.json").read_text())
        assert each.metrics().equals(pd.read_csv(of / "metrics.csv"))
        assert {path.name for path in each.folder.iterdir()} == {
            ".hydra",
            "metrics.csv",
            "predictions.csv",
            "summary.json",
        }
        assert {path.name for path in (each.folder / ".hydra").iterdir()} == {"config.yaml", "overrides.yaml"}
    # On another machine, where only the records are.
    shutil.rmtree(tmp_path / "results")
    capfd.readouterr()
    assert run("--records", str(records)) == 0
    assert capfd.readouterr().err == "0 of 2 runs remain\n"
    assert not (tmp_path / "results").exists()
    shutil.rmtree(match(listed[1], runs_on_disk(records)).folder)
    assert run("--records", str(records)) == 0
    (again,) = runs_on_disk(runs)
    assert again.config["seed"] == 1
    assert len(runs_on_disk(records)) == 2


@pytest.mark.slow
def test_a_damaged_run_is_not_finished_and_leaves_no_record(listed, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(reproduce, "wanted", lambda only, seeds: listed[:1])
    records, runs = tmp_path / "kept", tmp_path / "results" / "runs"
    assert run() == 0
    (done,) = runs_on_disk(runs)
    whole = (done.folder / "metrics.csv").read_text()
    for name, content in (("summary.json", "{"), ("metrics.csv", "".join(whole.splitlines(keepends=True)[:2]))):
        before = (done.folder / name).read_text()
        (done.folder / name).write_text(content)
        assert run("--list", "--records", str(records)) == 0
        errors = capfd.readouterr().err
        assert f"warning: results/runs/digits/{done.folder.name} cannot be read: it counts as no run" in errors
        assert "1 of 1 runs remain" in errors
        (done.folder / name).write_text(before)
    # What lies in a record's place is not taken for it, nor lost.
    place = records / "digits" / done.folder.name
    place.mkdir(parents=True)
    (place / "mine").write_text("mine")
    assert run("--records", str(records)) == 1
    assert f"{place} is something else: move it away" in capfd.readouterr().err
    assert (place / "mine").read_text() == "mine"


def test_a_stop_is_told_in_one_line(listed, monkeypatch, capfd):
    def stopped(job, runs):
        raise KeyboardInterrupt

    monkeypatch.setattr(reproduce, "match", stopped)
    monkeypatch.setattr(stops._Stop, "shown", False)
    monkeypatch.setattr(stops, "install", lambda: None)
    # What the command line sets for its whole process is not to outlive the test.
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, getattr(sys, name))
    monkeypatch.setattr(sys, "argv", ["bbbrun", "reproduce", "--list"])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 130
    assert capfd.readouterr().err == "interrupted; give the same command again\n"


def test_jobs_at_once_share_the_cores_and_say_which_they_are(listed, monkeypatch, tmp_path, capfd):
    calls, together = [], threading.Barrier(2)

    class Child:
        def __init__(self, command, **_):
            calls.append(command[3:])
            together.wait(timeout=60)  # for ever, were it one at a time
            self.stderr = io.StringIO("one\ntwo\n")

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def wait(self):
            return 0

    monkeypatch.setattr(reproduce.subprocess, "Popen", Child)
    monkeypatch.setattr(reproduce, "cores", lambda: 4)
    assert [job.config["threads"] for job in listed] == [1, 1]  # the experiment's own number, which stays
    listed[0].config["threads"] = None
    assert run("--jobs", "2") == 0
    share = {0: ["threads=2"], 1: []}
    assert sorted(calls) == [[*WORDS, f"seed={seed}", "device=auto", *share[seed]] for seed in (0, 1)]
    lines = capfd.readouterr().err.splitlines()
    for seed in (0, 1):
        mine = [line for line in lines if line.startswith(f"[{' '.join(WORDS)} seed={seed}] ")]
        assert [line.rpartition(" ")[2] for line in mine] == ["one", "two"]
    assert run("--jobs", "0") == 2


def test_what_another_process_has_just_begun_is_left_to_it(listed, monkeypatch, tmp_path, capfd):
    monkeypatch.setattr(reproduce.subprocess, "Popen", None)  # never called
    words = shlex.join(listed[0].words)
    path = tmp_path / "results" / "runs" / f".{sha256(words.encode()).hexdigest()[:16]}.lock"
    path.parent.mkdir(parents=True)
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        failure = reproduce._finish(listed[0], "auto", None, [])
    assert failure == f"skipped: bbbrun {words} (in progress in another process)"


def test_a_launcher_gets_what_remains_once_and_goes_on_with_what_was_begun(listed, monkeypatch, tmp_path, capfd):
    begun = tmp_path / "results" / "runs" / "digits" / "begun"
    begun.parent.mkdir(parents=True)
    RunFolder(begun, ["epoch", "step", "seconds"], {"config.yaml": OmegaConf.to_yaml(listed[1].config)}).close()
    (begun / "metrics.csv").write_text("epoch,step,seconds\n1,10,2.5\n")
    (begun / "checkpoint.pt").write_text("whatever")
    given = []

    def launched(words, only):
        given.append((list(words), set(only)))
        sys.exit(len(given) > 1)

    monkeypatch.setattr(train, "main", launched)
    assert run("--launcher", "slurm", "hydra.launcher.partition=main", "--device", "cpu") == 0
    sweep = tmp_path / "results" / "runs" / "reproduce"
    jobs = read_sweep(sweep).jobs
    assert [job.words[-2:] for job in jobs] == [("seed=0", "device=cpu"), ("seed=1", "device=cpu")]
    words = ["resume=results/runs/reproduce", "hydra/launcher=slurm", "hydra.launcher.partition=main"]
    assert given == [(words, {job.folder for job in jobs})]
    assert not begun.exists()
    assert (sweep / jobs[1].folder / "checkpoint.pt").exists()
    assert run("--launcher", "nope", "--list") == 2
    assert "--launcher: In 'hydra/config': Could not find 'hydra/launcher/nope'" in capfd.readouterr().err
    # Once more: the same jobs.
    assert run("--launcher", "joblib") == 1
    assert read_sweep(sweep).jobs == jobs
    # One that stands in Slurm's queue is not run beside it.
    monkeypatch.setattr(reproduce, "queued", lambda folder: {job.folder: "12_0" for job in jobs})
    capfd.readouterr()
    assert run() == 1
    assert capfd.readouterr().err.count("in Slurm's queue as job 12_0") == 2


def test_other_settings_and_seeds_do_not_count(tmp_path):
    mine = config(0)
    half, most = (RunOnDisk(tmp_path / name, mine, done, 60 * done) for name, done in (("a", 0.5), ("b", 0.9)))
    assert match(Job((), mine), [half, most]) == most
    assert match(Job((), mine | {"seed": 2}), [half, most]) is None
    assert match(Job((), mine | {"optimizer": mine["optimizer"] | {"lr": 0.5}}), [half, most]) is None
    assert match(Job((), mine | {"threads": 7}), [half, most]) == most
    # What the command line would not continue: a finished run of it counts, an interrupted one does not.
    assert match(Job((), mine | {"name": "other"}), [half, most]) is None
    # The rest of an interrupted run at its own rate; a whole one at the rate of another seed's.
    assert expected_seconds(Job((), mine), half, [half]) == pytest.approx(30)
    assert expected_seconds(Job((), mine | {"seed": 2}), None, [half]) == pytest.approx(60)
    assert expected_seconds(Job((), mine | {"optimizer": {}}), None, [half]) is None


def test_a_run_that_fails_is_told_and_exits_1(monkeypatch, tmp_path, capfd):
    broken = Job((*WORDS, "train.epochs=0"), config(0))
    monkeypatch.setattr(reproduce, "wanted", lambda only, seeds: [broken])
    monkeypatch.chdir(tmp_path)
    assert run() == 1
    assert "failed: bbbrun experiment=digits" in capfd.readouterr().err


def begin(folder, seed, rows="1,10,60.0\n"):
    """A run's folder after one of its three epochs."""
    (folder / ".hydra").mkdir(parents=True)
    OmegaConf.save(OmegaConf.create(config(seed)), folder / ".hydra" / "config.yaml")
    (folder / "metrics.csv").write_text(f"epoch,step,seconds\n{rows}")
    (folder / "checkpoint.pt").write_bytes(b"no checkpoint")
    return folder


def test_a_folder_that_cannot_be_read_is_named_once(listed, tmp_path, capfd):
    runs = tmp_path / "results" / "runs"
    (begin(runs / "config", 0) / ".hydra" / "config.yaml").write_text("{")
    begin(runs / "rows", 0, rows="1,none,x\n")
    (begin(runs / "lost", 0) / "metrics.csv").rename(runs / "lost" / "summary.json")
    begin(runs / "whole", 0)
    assert run("--list") == 0
    warnings = [line for line in capfd.readouterr().err.splitlines() if line.startswith("warning: ")]
    expected = [
        f"warning: results/runs/{name} cannot be read: it counts as no run" for name in ("config", "lost", "rows")
    ]
    assert [line.partition(";")[0] for line in warnings] == expected


@pytest.mark.slow
def test_a_run_that_cannot_go_on_fails_with_the_folder_to_delete(listed, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(reproduce, "wanted", lambda only, seeds: listed[:1])
    folder = begin(tmp_path / "results" / "runs" / "a", 0)
    assert run() == 1
    last = capfd.readouterr().err.splitlines()[-1]
    assert last.startswith("failed: bbbrun experiment=digits")
    assert last.endswith("; if it cannot be resumed from results/runs/a, delete that folder to start anew")
    shutil.rmtree(folder)
    assert run() == 0


def test_a_run_of_another_process_is_told_and_skipped(listed, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(reproduce, "wanted", lambda only, seeds: listed[:1])
    folder = begin(tmp_path / "results" / "runs" / "a", 0, rows="")
    (folder / "checkpoint.pt").unlink()
    begin(tmp_path / "results" / "runs" / "b", 0)  # further, but what is in progress comes first
    with (folder / "metrics.csv").open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert run("--list") == 0
        assert "(in progress in another process, in results/runs/a)" in capfd.readouterr().err
        assert run() == 1
    errors = capfd.readouterr().err
    assert "skipped: bbbrun experiment=digits" in errors
    assert "failed" not in errors
    assert "error" not in errors


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("--only=table9", "--only table9: choose from"),
        ("--seeds=a", "--seeds takes whole numbers from 0 to 2147483647, each once, joined by commas, not 'a'"),
        ("--seeds=-1", "--seeds takes"),
        ("--seeds=2147483648", "--seeds takes"),
        ("--seeds=0,0", "--seeds takes"),
        ("--seeds=", "--seeds takes"),
        (f"--records={__file__}", "--records takes a folder"),
        (f"--records={__file__}/below", "--records takes a folder"),
        ("--records=", "a name, not an empty word"),
        ("--only=,", "--only takes tables and figures, not ','"),
        ("--device=gpu", "--device"),
        ("--device=cuda", "device=cuda: this machine has no CUDA device"),
    ],
)
def test_wrong_words_are_one_line(words, expected, monkeypatch, capfd):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert run(*words.split(), "--list") == 2
    errors = capfd.readouterr().err
    assert expected in errors
    assert "Traceback" not in errors
