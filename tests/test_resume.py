"""A run killed at any moment and resumed ends in the metrics.csv of one that was never interrupted."""

import csv
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from bbbrun.runs.identity import differing_on_resume, setting, whole
from bbbrun.schema.quoting import word

WORDS = [
    "device=cpu",
    "train.epochs=4",
    "network.hidden=[16]",
    "threads=1",
    "train.checkpoint_seconds=0",
    "compile=false",
]

# Each wraps a function so that its n-th call kills the process at a chosen moment inside or after it.
KILLS = {
    "during the first epoch": "bbbrun.training.loop.Trainer.steps: 4, before",
    "in the middle of a later epoch": "bbbrun.training.loop.Trainer.steps: 25, before",
    "before the first row": "bbbrun.runs.writer.RunFolder.append: 1, before",
    "between a row and its checkpoint": "bbbrun.runs.writer.RunFolder.save_checkpoint: 2, before",
    "while a checkpoint is written": "bbbrun.runs.checkpoints.write_atomically: 3, half",
    "before a checkpoint takes its name": "pathlib.Path.replace: 6, before",
    "after the last checkpoint": "bbbrun.report.plots.draw_metrics: 1, before",
    "while a row is written": "bbbrun.runs.writer.RunFolder.append: 3, half a row",
    "while the summary is written": "bbbrun.runs.writer.RunFolder.finish: 1, before",
}

KILLER = """
import importlib, os, signal, sys
target, number, moment = sys.argv.pop(1), int(sys.argv.pop(1)), sys.argv.pop(1)
import bbbrun.report.plots, bbbrun.runner, bbbrun.runs.writer, bbbrun.training.loop, pathlib
parts = target.split(".")
owner = sys.modules[parts[0]]
for part in parts[1:-1]:
    owner = getattr(owner, part)
original, calls = getattr(owner, parts[-1]), 0

def killing(*words, **named):
    global calls
    calls += 1
    if calls == number:
        if moment == "half":
            path, content = words
            path.with_name(f".{path.name}.bbbrun.tmp").write_bytes(content[: len(content) // 2])
        if moment == "half a row":
            words[0]._file.write("3,30,1.5,0.0")
            words[0]._file.flush()
        os.kill(os.getpid(), signal.SIGKILL)
    return original(*words, **named)

setattr(owner, parts[-1], killing)
from bbbrun.cli import main
main()
"""


def untimed(run: Path) -> list[list[str]]:
    with (run / "metrics.csv").open(newline="") as file:
        return [[cell for number, cell in enumerate(row) if number != 2] for row in csv.reader(file)]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory, run_in) -> list[list[str]]:
    folder = tmp_path_factory.mktemp("uninterrupted")
    assert run_in(folder, *WORDS, "hydra.run.dir=run").returncode == 0
    return untimed(folder / "run")


@pytest.mark.slow
@pytest.mark.parametrize("moment", KILLS)
def test_killed_and_resumed_equals_uninterrupted(bbbrun, tmp_path, uninterrupted, moment):
    target, number, how = KILLS[moment].replace(": ", "|").replace(", ", "|").split("|")
    killed = subprocess.run(
        [sys.executable, "-c", KILLER, target, number, how, *WORDS, "hydra.run.dir=run"],
        cwd=tmp_path,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL
    assert not (tmp_path / "run" / "summary.json").exists()
    resumed = bbbrun(*WORDS, "resume=run")
    assert resumed.returncode == 0, resumed.stderr
    assert untimed(tmp_path / "run") == uninterrupted
    assert (tmp_path / "run" / "summary.json").exists()
    lines = (tmp_path / "run" / "metrics.csv").read_text().splitlines()[1:]
    seconds = [float(line.split(",")[2]) for line in lines]
    assert seconds == sorted(seconds)


@pytest.mark.slow
def test_replicas_killed_between_their_rows_or_summaries_go_on_together(bbbrun, tmp_path):
    words = [*WORDS, "replicas=2"]
    whole = bbbrun(*words, "hydra.run.dir=whole")
    assert whole.returncode == 0, whole.stderr
    # The fourth row is the second replica's of the second epoch.
    for target, number, rows in (("append", "4", [3, 2]), ("finish", "2", [5, 5])):
        killer = [sys.executable, "-c", KILLER, f"bbbrun.runs.writer.RunFolder.{target}", number, "before"]
        killed = subprocess.run([*killer, *words, f"hydra.run.dir={target}"], cwd=tmp_path, check=False)
        assert killed.returncode == -signal.SIGKILL
        folders = [tmp_path / target / name for name in ("seed-0", "seed-1")]
        assert [len(untimed(folder)) for folder in folders] == rows
        resumed = bbbrun(*words, f"resume={target}")
        assert resumed.returncode == 0, resumed.stderr
        for folder in folders:
            assert untimed(folder) == untimed(tmp_path / "whole" / folder.name)
            assert (folder / "summary.json").exists()
        assert not (tmp_path / target / "checkpoint.pt").exists()


def interrupt(folder: Path, number: int, *words: str) -> tuple[int, str]:
    """Start a long run, wait for its second row, and send the signal of this number."""
    with subprocess.Popen(
        [sys.executable, "-m", "bbbrun", *words, "hydra.run.dir=run"],
        cwd=folder,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        metrics = folder / "run" / "metrics.csv"
        deadline = time.monotonic() + 120
        while not (metrics.exists() and metrics.read_text().count("\n") > 2) and time.monotonic() < deadline:
            time.sleep(0.05)
        os.kill(process.pid, number)
        _, errors = process.communicate(timeout=120)
    return process.returncode, errors


@pytest.mark.slow
@pytest.mark.parametrize(
    "number",
    [
        signal.SIGTERM,
        pytest.param(
            signal.SIGINT,
            marks=[
                pytest.mark.skipif(
                    signal.getsignal(signal.SIGINT) == signal.SIG_IGN,
                    reason="started in a shell's background, where Ctrl-C is not heard",
                ),
            ],
        ),
    ],
)
def test_a_stop_leaves_a_resumable_run_and_says_how(bbbrun, tmp_path, number):
    words = [*WORDS, "train.epochs=100000"]
    code, errors = interrupt(tmp_path, number, *words)
    assert code == 130
    assert "Traceback" not in errors
    last = errors.strip().splitlines()[-1]
    assert last == f"interrupted; continue with: {shlex.join(['bbbrun', *words, f'resume={tmp_path}/run'])}"
    before = untimed(tmp_path / "run")
    other = bbbrun(*WORDS, "train.epochs=5", "resume=run")
    assert other.returncode == 1
    assert "was started with train.epochs=100000, not 5" in other.stderr
    assert untimed(tmp_path / "run") == before


@pytest.mark.slow
def test_two_processes_cannot_write_one_run(bbbrun, tmp_path):
    words = [*WORDS, "train.epochs=100000"]
    with subprocess.Popen(
        [sys.executable, "-m", "bbbrun", *words, "hydra.run.dir=run"], cwd=tmp_path, stderr=subprocess.DEVNULL
    ) as process:
        deadline = time.monotonic() + 120
        while not (tmp_path / "run" / "checkpoint.pt").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        second = bbbrun(*words, "resume=run")
        process.kill()
    assert second.returncode == 1
    assert "is being written by another process" in second.stderr


def damage_checkpoint(run: Path) -> None:
    (run / "checkpoint.pt").write_bytes(b"not a checkpoint")


def damage_other_checkpoint(run: Path) -> None:
    torch.save({"a": 1}, run / "checkpoint.pt")


def damage_shapes(run: Path) -> None:
    state = torch.load(run / "checkpoint.pt", weights_only=True)
    state["tensors"][0] = state["tensors"][0][:-1]
    torch.save(state, run / "checkpoint.pt")


def damage_cell(run: Path) -> None:
    text = (run / "metrics.csv").read_text()
    (run / "metrics.csv").write_text(text.replace("\n2,20,", "\n2,x,"))


def damage_bytes(run: Path) -> None:
    (run / "metrics.csv").write_bytes(b"\xff\xfe" + (run / "metrics.csv").read_bytes())


def damage_missing_row(run: Path) -> None:
    lines = (run / "metrics.csv").read_text().splitlines(keepends=True)
    (run / "metrics.csv").write_text("".join(lines[:2] + lines[3:]))


def damage_all_rows(run: Path) -> None:
    (run / "metrics.csv").unlink()


def damage_record(run: Path) -> None:
    (run / ".hydra" / "config.yaml").write_text("{")


@pytest.fixture(scope="module")
def finished(tmp_path_factory, run_in) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    assert run_in(folder, *WORDS, "hydra.run.dir=run").returncode == 0
    (folder / "run" / "summary.json").unlink()
    return folder / "run"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (damage_checkpoint, "checkpoint.pt is not a checkpoint that can be read"),
        (damage_other_checkpoint, "checkpoint.pt is not a checkpoint that can be read"),
        (damage_shapes, "checkpoint.pt is of another network or optimizer"),
        (damage_cell, "metrics.csv is damaged"),
        (damage_bytes, "metrics.csv is damaged"),
        (damage_missing_row, "metrics.csv does not hold the rows that checkpoint.pt covers"),
        (damage_all_rows, "metrics.csv does not hold the rows that checkpoint.pt covers"),
        (damage_record, "cannot be read: start a new run"),
    ],
)
def test_a_damaged_run_is_refused_in_one_line(bbbrun, tmp_path, finished, damage, expected):
    shutil.copytree(finished, tmp_path / "run")
    damage(tmp_path / "run")
    result = bbbrun(*WORDS, "resume=run")
    assert result.returncode == 1
    lines = [line for line in result.stderr.splitlines() if not line.startswith(("run folder", "digits:"))]
    assert len(lines) == 1
    assert expected in lines[0]


def test_a_configuration_that_lacks_a_later_key_is_what_it_was():
    before, now = {"seed": 3, "train": {"epochs": 2}}, {"seed": 3, "train": {"epochs": 2}, "precision": "float32"}
    assert (setting(before), differing_on_resume(before, now)) == (setting(now), {})
    now["precision"] = "tf32"
    assert setting(before) != setting(now)
    assert whole(before)["precision"] == "float32"
    assert differing_on_resume(before, now) == {"precision": ("float32", "tf32")}
    # An earlier switch.
    assert setting(before | {"tf32": False}) == setting(before)
    assert setting(before | {"tf32": True}) == setting(now)


def test_a_record_keeps_the_values_that_the_environment_gave(bbbrun, tmp_path):
    words = ("experiment=digits", "train.epochs=1", "network.hidden=[4]", "threads=1", "compile=false")
    first = bbbrun(*words, "seed=${oc.env:N}", "hydra.run.dir=r", N="3")
    assert first.returncode == 0, first.stderr
    config = OmegaConf.load(tmp_path / "r" / ".hydra" / "config.yaml")
    assert OmegaConf.to_container(config, resolve=False)["seed"] == 3
    overrides = OmegaConf.load(tmp_path / "r" / ".hydra" / "overrides.yaml")
    assert "seed=${oc.env:N}" in OmegaConf.to_container(overrides, resolve=False)
    other = bbbrun(*words, "seed=${oc.env:N}", "resume=r", N="9")
    assert (other.returncode, other.stderr.count("\n")) == (1, 1)
    assert "was started with seed=3, not 9" in other.stderr
    missing = bbbrun(*words, "seed=${oc.env:N}", "resume=r")
    assert (missing.returncode, missing.stderr.count("\n")) == (1, 1)
    assert "N" in missing.stderr


@pytest.mark.parametrize(
    "name",
    ["it's (josé, a=b)", *(pytest.param(name, marks=pytest.mark.slow) for name in ("a,b", "a=b", "1e5", "[a]", "b\\"))],
)
def test_the_command_that_continues_is_read_as_it_is_meant(bbbrun, tmp_path, name):
    own = tmp_path / "own files" / "experiment"
    own.mkdir(parents=True)
    (own / "mine.yaml").write_text("# @package _global_\nname: mine\ntrain: {epochs: 1}\nnetwork: {hidden: [4]}\n")
    words = ["--config-dir", "own files", "experiment=mine", "threads=1", "compile=false", "seed=${oc.env:N}"]
    beginning = bbbrun(*words, word("hydra.run.dir", name), N="3")
    assert beginning.returncode == 0, beginning.stderr
    folder = tmp_path / name
    command = json.loads((folder / "summary.json").read_text())["command"]
    _, *typed = shlex.split(command)
    again = bbbrun(*typed, word("hydra.run.dir", "again"), N="3")
    assert again.returncode == 0, again.stderr
    assert untimed(tmp_path / "again") == untimed(folder)
    resumed = bbbrun(*typed, word("resume", str(folder)), N="3")
    assert (resumed.returncode, resumed.stderr) == (0, f"already finished: {folder}\n")


def test_a_folder_whose_name_hydra_would_interpolate_is_refused(run_in, tmp_path):
    folder = tmp_path / "${x}"
    folder.mkdir()
    result = run_in(folder, "train.epochs=1")
    assert (result.returncode, result.stderr.count("\n")) == (1, 1), result.stderr
    assert f"bbbrun cannot run in {folder}: Hydra reads ${{ in a folder's name" in result.stderr
    assert not list(folder.iterdir())
