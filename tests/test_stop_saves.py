"""A stop saves a checkpoint, from which the run continues to the metrics.csv of one that was never stopped."""

import csv
import importlib
import os
import signal
from pathlib import Path

import pytest
import torch

import bbbrun as api
from bbbrun.runs.checkpoints import read_checkpoint
from bbbrun.runtime import stops
from bbbrun.training.session import Session

# No checkpoint but that of the stop, and the last.
SLOW = ["threads=1", "device=cpu", "compile=false", "train.checkpoint_seconds=1000", "network.hidden=[4]"]
DIGITS = [*SLOW, "experiment=digits", "train.epochs=4", "train.evaluate_every=2"]
REGRESSION = [*SLOW, "experiment=regression", "train.epochs=3", "dataset.train_points=500", "train.evaluate_every=1"]
REGRESSION += ["train.batch_size=128"]
BANDIT = [*SLOW, "experiment=wheel", "agent.steps=9", "agent.updates=3", "train.evaluate_every=3"]
STEPS, OBJECTIVE = "bbbrun.training.trainer:Trainer.steps", "bbbrun.training.trainer:Trainer.objective"
APPEND, ACT = "bbbrun.runs.writer:RunFolder.append", "bbbrun.tasks.agent:Agent.act"
DRAW = "bbbrun.report.plots:draw_metrics"

# kind, what is called when the stop comes, the how-manyth time, steps done and rows written in the checkpoint
MOMENTS = [
    (DIGITS, STEPS, 15, 15, 0),
    (DIGITS, OBJECTIVE, 2, 40, 1),
    (DIGITS, APPEND, 2, 40, 2),
    (REGRESSION, STEPS, 6, 6, 1),
    (BANDIT, STEPS, 6, 6, 2),
    (BANDIT, APPEND, 2, 6, 2),
    *(
        pytest.param(*moment, marks=pytest.mark.slow)
        for moment in (
            (DIGITS, STEPS, 1, 1, 0),
            (DIGITS, STEPS, 20, 20, 0),
            (DIGITS, OBJECTIVE, 1, 20, 0),
            (DIGITS, APPEND, 1, 20, 1),
            (DIGITS, STEPS, 21, 21, 1),
            (DIGITS, STEPS, 37, 37, 1),
            (DIGITS, DRAW, 1, 40, 2),
            (REGRESSION, OBJECTIVE, 2, 8, 1),
            (BANDIT, ACT, 1, 1, 0),
            (BANDIT, ACT, 5, 5, 1),
            (BANDIT, OBJECTIVE, 3, 9, 3),
        )
    ),
]


@pytest.fixture
def stop(monkeypatch):
    """Have SIGTERM stop the run as in the command line, at the n-th call of a function."""
    before = signal.signal(signal.SIGTERM, stops._stop)

    def arrange(target: str, number: int) -> None:
        monkeypatch.setattr(stops._Stop, "moment", None)
        module, _, name = target.partition(":")
        owner = importlib.import_module(module)
        *classes, name = name.split(".")
        for one in classes:
            owner = getattr(owner, one)
        real, count = getattr(owner, name), 0

        def counting(*arguments, **named):
            nonlocal count
            count += 1
            if count == number:
                os.kill(os.getpid(), signal.SIGTERM)
            return real(*arguments, **named)

        monkeypatch.setattr(owner, name, counting)

    yield arrange
    signal.signal(signal.SIGTERM, before)


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open() as file:
        return [{key: value for key, value in row.items() if key != "seconds"} for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The rows of each kind of run without a stop."""
    torch.set_num_threads(1)
    results = {}
    for kind in (DIGITS, REGRESSION, BANDIT):
        folder = tmp_path_factory.mktemp("whole") / "run"
        api.run(api.compose(*kind), folder)
        results[kind[5]] = rows(folder)
    return results


@pytest.mark.parametrize(("kind", "target", "number", "steps", "written"), MOMENTS)
def test_a_stop_saves_where_the_run_stands(tmp_path, monkeypatch, stop, whole, kind, target, number, steps, written):
    folder = tmp_path / "run"
    with monkeypatch.context() as patches:
        patches.setattr("bbbrun.report.plots.draw_metrics", lambda *_: None)
        stop(target, number)
        with pytest.raises(KeyboardInterrupt):
            api.run(api.compose(*kind), folder)
    checkpoint = read_checkpoint(folder / "checkpoint.pt")
    assert (checkpoint["step"], checkpoint["rows"], len(rows(folder))) == (steps, written, written)
    monkeypatch.setattr(stops._Stop, "moment", None)
    api.run(api.compose(*kind, f"resume={folder}"), folder)
    assert rows(folder) == whole[kind[5]]


def test_a_kill_after_the_row_that_a_stop_came_before(tmp_path, monkeypatch, stop, whole):
    """The checkpoint is of the row's own step, and does not cover it."""
    folder = tmp_path / "run"
    stop(OBJECTIVE, 1)
    with pytest.raises(KeyboardInterrupt):
        api.run(api.compose(*DIGITS), folder)
    monkeypatch.setattr(stops._Stop, "moment", None)
    with monkeypatch.context() as patches:
        patches.setattr(Session, "save", lambda *_, **__: (_ for _ in ()).throw(OSError("killed")))
        with pytest.raises(OSError, match="killed"):
            api.run(api.compose(*DIGITS, f"resume={folder}"), folder)
    assert len(rows(folder)) == 1
    assert read_checkpoint(folder / "checkpoint.pt")["rows"] == 0
    api.run(api.compose(*DIGITS, f"resume={folder}"), folder)
    assert rows(folder) == whole[DIGITS[5]]


def test_a_run_that_diverged_saves_nothing_on_a_stop(tmp_path, stop):
    stop(STEPS, 8)
    with pytest.raises(KeyboardInterrupt):
        api.run(api.compose(*DIGITS, "method=mle", "optimizer.lr=1e30"), tmp_path / "run")
    assert not (tmp_path / "run" / "checkpoint.pt").exists()


def test_a_stop_that_a_library_swallows_is_heard_at_the_next_step(tmp_path, monkeypatch, stop):
    from bbbrun.training.progress import Progress

    real, count = Progress.update, 0

    def swallowing(progress, steps):
        nonlocal count
        count += 1
        if count == 4:
            try:
                os.kill(os.getpid(), signal.SIGTERM)
            except KeyboardInterrupt:
                return
        real(progress, steps)

    monkeypatch.setattr(stops._Stop, "moment", None)
    monkeypatch.setattr(Progress, "update", swallowing)
    with pytest.raises(KeyboardInterrupt):
        api.run(api.compose(*DIGITS), tmp_path / "run")
    assert read_checkpoint(tmp_path / "run" / "checkpoint.pt")["step"] == 5
