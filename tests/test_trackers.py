"""bbbrun log: event files and stores hold the rows of metrics.csv, once, also of a running run."""

import json
import logging
from importlib import import_module
from pathlib import Path

import pytest
from PIL import Image

from bbbrun.errors import UserError
from bbbrun.trackers.tracked import tracked_runs
from bbbrun.verbs import log, status

RECORD = "name: small\nseed: 3\nprior:\n  name: gaussian\n  sigma1: 0.5\nagent:\n  name: none\ntrain:\n  epochs: 3\n"


def grow(run: Path, rows: int, *, finished: bool = False) -> None:
    (run / ".hydra").mkdir(parents=True, exist_ok=True)
    (run / ".hydra" / "config.yaml").write_text(RECORD)
    lines = [f"{row},{10 * row},{1.5 * row},{0.5 / row},{'' if row == 1 else 7 - row}" for row in range(1, rows + 1)]
    (run / "metrics.csv").write_text("\n".join(["epoch,step,seconds,nll,valid_error", *lines, "9,9"]))
    if finished:
        (run / "figures").mkdir()
        Image.new("RGB", (4, 3)).save(run / "figures" / "learning_curve.png")
        about = {"metrics": {"nll": 0.5 / rows}, "commit": "abc", "command": "bbbrun", "device": "cpu"}
        (run / "summary.json").write_text(json.dumps(about))


@pytest.fixture
def run(tmp_path) -> Path:
    folder = tmp_path / "results" / "runs" / "small" / "one"
    grow(folder, 2)
    return folder


EXPECTED = {"nll": [(10, 0.5), (20, 0.25), (30, 0.5 / 3)], "valid_error": [(20, 5.0), (30, 4.0)]}


def test_a_run_is_read_by_whole_rows(run):
    (read,) = tracked_runs(run.parent.parent)
    assert (read.name, read.state, read.settings["prior.sigma1"]) == ("small/one", "interrupted", "0.5")
    assert [row.step for row in read.rows] == [10, 20]
    assert read.rows[0].numbers == {"epoch": 1.0, "seconds": 1.5, "nll": 0.5}
    assert read.rows[1].moment - read.rows[0].moment == pytest.approx(1.5)
    assert read.rows[1].moment == pytest.approx((run / "metrics.csv").stat().st_mtime)


def test_tensorboard_reads_back_what_the_run_has(run, tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    target = tmp_path / "board"
    for rows, finished in ((2, False), (3, True), (3, True)):
        if not (run / "summary.json").exists():
            grow(run, rows, finished=finished)
        log.main([str(run), "--to", "tensorboard", "-o", str(target)])
        (file,) = target.rglob("events.out.tfevents.*")
        assert file.parent == target / "small" / "one"
        events = EventAccumulator(str(file.parent)).Reload()
        for name, points in EXPECTED.items():
            assert [each.step for each in events.Scalars(name)] == [step for step, _ in points if step <= 10 * rows]
            values = [value for step, value in points if step <= 10 * rows]
            assert [each.value for each in events.Scalars(name)] == pytest.approx(values)
    assert events.Images("learning_curve")[0].width == 4
    assert "abc" in events.Tensors("summary")[0].tensor_proto.string_val[0].decode()


def test_two_runs_of_one_name_keep_their_event_files(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for place, rows in (("a", 2), ("b", 3)):
        grow(tmp_path / place / "sweep" / "0000", rows)
    board = tmp_path / "board"
    (tmp_path / "link").symlink_to(tmp_path / "a")
    for words in (["a"], ["b"], ["a", "b"], ["b/../a"], ["link"]):
        log.main([*(str(tmp_path / word) for word in words), "--to", "tensorboard", "-o", str(board)])
    assert sorted(path.name for path in (board / "sweep").iterdir()) == ["0000", "0000_2"]
    for name, rows in (("0000", 2), ("0000_2", 3)):
        (file,) = (board / "sweep" / name).glob("events.out.tfevents.*")
        steps = [each.step for each in EventAccumulator(str(file.parent)).Reload().Scalars("nll")]
        assert steps == [10, 20, 30][:rows]


def test_a_run_that_goes_on_is_followed(run, tmp_path, monkeypatch):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    monkeypatch.setattr(log.time, "sleep", lambda seconds: grow(run, 3, finished=True))
    log.main([str(run), "--to", "tensorboard", "-o", str(tmp_path / "board"), "--follow"])
    (file,) = (tmp_path / "board").rglob("events.out.tfevents.*")
    events = EventAccumulator(str(file.parent)).Reload()
    assert [(each.step, each.value) for each in events.Scalars("nll")] == [
        (step, pytest.approx(value)) for step, value in EXPECTED["nll"]
    ]


def test_a_run_that_fails_is_followed_no_longer(run, tmp_path, monkeypatch):
    pytest.importorskip("tensorboard")
    rounds = []

    def sleep(seconds: float) -> None:
        rounds.append(seconds)
        (run / "error.txt").write_text("why")

    monkeypatch.setattr(log.time, "sleep", sleep)
    log.main([str(run), "--to", "tensorboard", "-o", str(tmp_path / "board"), "--follow"])
    monkeypatch.setattr(status.time, "sleep", sleep)
    status.main([str(run), "--watch"])
    assert len(rounds) == 1


@pytest.mark.parametrize(("name", "content"), [(".hydra/config.yaml", "a: [1"), ("metrics.csv", "epoch,step\n1,2\n")])
def test_a_run_that_cannot_be_read_is_named(run, name, content):
    (run / name).write_text(content)
    with pytest.raises(UserError, match=f"the run in {run} cannot be read"):
        tracked_runs(run)


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_mlflow_reads_back_what_the_run_has(run, tmp_path):
    pytest.importorskip("mlflow", exc_type=ImportError)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    store = f"sqlite:///{tmp_path / 'mlflow.db'}"
    for rows, finished in ((2, False), (3, True), (3, True)):
        if not (run / "summary.json").exists():
            grow(run, rows, finished=finished)
        log.main([str(run), "--to", "mlflow", "-o", store])
    from mlflow.tracking import MlflowClient

    client = MlflowClient(store)
    experiment = client.get_experiment_by_name("small")
    (known,) = client.search_runs([experiment.experiment_id])
    assert (known.info.run_name, known.info.status) == ("small/one", "FINISHED")
    assert known.data.params["prior.sigma1"] == "0.5"
    assert known.data.tags["commit"] == "abc"
    for name, points in EXPECTED.items():
        history = client.get_metric_history(known.info.run_id, name)
        assert [(each.step, each.value) for each in history] == [(step, pytest.approx(value)) for step, value in points]
    files = [each.path for each in client.list_artifacts(known.info.run_id)]
    assert sorted(files) == ["config.yaml", "figures", "metrics.csv", "summary.json"]
    assert (tmp_path / "mlflow.files").is_dir()
    other = run.parent / "two"
    grow(other, 2)
    (read,) = tracked_runs(other)
    tracker = import_module("bbbrun.trackers.mlflow").MLflow(store)
    tracker.update(read._replace(state="interrupted"))
    tracker.update(read._replace(state="running"))
    ends = {each.info.run_name: each.info.end_time for each in client.search_runs([experiment.experiment_id])}
    assert ends["small/two"] is None
    assert ends["small/one"] is not None


def test_what_cannot_be_logged_is_one_line(bbbrun, tmp_path):
    (tmp_path / "empty").mkdir()
    for words, expected in (
        (["empty"], "empty holds no run that has begun"),
        (["nothing"], "nothing is not a folder"),
    ):
        result = bbbrun("log", *words, "--to", "tensorboard")
        assert (result.returncode, result.stderr.count("\n")) == (1, 1)
        assert expected in result.stderr
    assert not (tmp_path / "results").exists()
