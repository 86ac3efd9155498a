"""bbbrun check --smoke: short runs against what full ones had then, out of runs whose numbers are known."""

import json

import numpy as np
import pandas as pd
import pytest
from omegaconf import OmegaConf

import bbbrun.report.smoke
from bbbrun.report.smoke import smoke
from bbbrun.runs.identity import differing, setting
from bbbrun.runs.jobs import Job, wanted
from bbbrun.runs.reader import finished_runs
from bbbrun.schema.config import composed, plain
from bbbrun.verbs.check import main as check

MNIST = ("experiment=mnist", "network.hidden=[400,400]")


def record(folder, words, rows, x_width=None):
    """A finished run's record: `words`, and metrics.csv of these rows."""
    (folder / ".hydra").mkdir(parents=True)
    config = plain(composed(words))
    OmegaConf.save(OmegaConf.create(config), folder / ".hydra" / "config.yaml")
    table = pd.DataFrame(rows)
    table.to_csv(folder / "metrics.csv", index=False)
    metrics = {name: value for name, value in table.iloc[-1].items() if name not in ("epoch", "step")}
    about = {"metrics": metrics, "seconds": 1.0, "steps_per_second": 1.0, "commit": "abc", "device": "cpu"}
    (folder / "summary.json").write_text(json.dumps(about | {"versions": {}, "command": " ".join(words)}))
    if x_width is not None:
        x = np.linspace(-0.2, 1.2, 141)
        half = np.where((x < -1e-6) | (x > 0.5 + 1e-6), x_width / 2, 0.05)
        pd.DataFrame({"x": x, "median": x, "q25": x - half, "q75": x + half}).to_csv(
            folder / "predictions.csv", index=False
        )


def judged(short, full):
    return smoke(finished_runs([short]), finished_runs([full])).set_index("number")


def test_an_error_rate_is_bounded_by_the_full_runs_error_at_that_epoch(tmp_path):
    rows = [{"epoch": 10, "step": 3910, "test_error": 2.5}, {"epoch": 600, "step": 234600, "test_error": 1.4}]
    record(tmp_path / "full" / "a", (*MNIST, "seed=0"), rows)
    # Three binomial standard errors of 2.5 % at 10,000 images are 0.468 points.
    for name, error in (("under", 2.96), ("over", 2.98)):
        record(tmp_path / name, (*MNIST, "train.epochs=10"), [{"epoch": 10, "step": 3910, "test_error": error}])
    assert judged(tmp_path / "under", tmp_path / "full").loc["test_error", ["seeds", "verdict"]].to_list() == [
        1,
        "pass",
    ]
    assert judged(tmp_path / "over", tmp_path / "full").loc["test_error", "verdict"] == "miss"


def test_regret_is_bounded_by_the_seeds_of_the_full_runs(tmp_path):
    for seed, regret in enumerate((1000.0, 1100.0, 1200.0)):
        rows = [{"step": 2000, "cumulative_regret": regret}, {"step": 50_000, "cumulative_regret": 9000.0}]
        record(tmp_path / "full" / str(seed), ("experiment=bandit", f"seed={seed}"), rows)
    # 1,100 and 3 standard deviations of 100.
    for name, regret in (("under", 1399.0), ("over", 1401.0)):
        record(
            tmp_path / name, ("experiment=bandit", "agent.steps=2000"), [{"step": 2000, "cumulative_regret": regret}]
        )
    assert judged(tmp_path / "under", tmp_path / "full")["verdict"].to_list() == ["pass"]
    (row,) = judged(tmp_path / "over", tmp_path / "full").to_dict("records")
    assert (row["bound"], row["seeds"], row["verdict"]) == ("at most 1400", 3, "miss")


def test_a_regression_must_widen_where_there_is_no_data(tmp_path):
    end = [{"epoch": 4000, "step": 4000, "test_rmse": 0.06, "test_nll": -1.5}]
    for seed, width in enumerate((1.8, 2.0, 2.2)):
        record(tmp_path / "full" / str(seed), ("experiment=regression", f"seed={seed}"), end, x_width=width)
    # Of widths of 18, 20 and 22 times that inside, 20 less 3 standard deviations of 2.
    record(tmp_path / "wide", ("experiment=regression",), end, x_width=1.41)
    record(tmp_path / "narrow", ("experiment=regression",), end, x_width=1.39)
    wide, narrow = (judged(tmp_path / name, tmp_path / "full")["verdict"] for name in ("wide", "narrow"))
    assert wide.to_dict() == {"test_rmse": "pass", "test_nll": "pass", "widening": "pass"}
    assert narrow["widening"] == "miss"


@pytest.fixture
def only_mnist(monkeypatch):
    """MNIST's short run alone in place of all."""
    words = (*MNIST, "train.epochs=10", "seed=0")
    monkeypatch.setattr(bbbrun.report.smoke, "wanted", lambda only, seeds: [Job(words, plain(composed(words)))])


def test_what_no_full_run_is_like_is_not_run_and_exits_1(tmp_path, capsys, only_mnist):
    rows = [{"epoch": 10, "step": 3910, "test_error": 2.5}, {"epoch": 600, "step": 234600, "test_error": 1.4}]
    record(tmp_path / "full" / "other setting", (*MNIST, "prior.pi=0.25"), rows)
    record(tmp_path / "full" / "no row then", (*MNIST, "seed=1"), rows[1:])
    record(tmp_path / "full" / "short itself", (*MNIST, "train.epochs=10", "seed=2"), rows[:1])
    record(tmp_path / "short" / "a", (*MNIST, "train.epochs=10"), rows[:1])
    # Runs of one's own beside it are not judged.
    record(tmp_path / "short" / "b", ("experiment=digits",), [{"epoch": 1, "step": 1, "test_error": 99.0}])
    with pytest.raises(SystemExit) as stop:
        check([str(tmp_path / "short"), "--smoke", str(tmp_path / "full")])
    assert stop.value.code == 1
    assert "0 pass, 0 miss, 1 not run" in capsys.readouterr().out
    # Nor is a run its own bound.
    with pytest.raises(SystemExit) as stop:
        check([str(tmp_path / "short"), "--smoke", str(tmp_path / "short")])
    assert stop.value.code == 1
    record(tmp_path / "full" / "alike", (*MNIST, "seed=3"), rows)
    with pytest.raises(SystemExit) as stop:
        check([str(tmp_path / "short"), "--smoke", str(tmp_path / "full")])
    assert stop.value.code == 0
    with pytest.raises(SystemExit) as stop:
        check([str(tmp_path / "short"), "--smoke", str(tmp_path), "--only", "table1"])
    assert stop.value.code == 2
    assert "--only has no effect with --smoke" in capsys.readouterr().err


def test_one_seed_has_no_spread_to_judge_by_and_a_seed_counts_once(tmp_path):
    rows = [{"step": 2000, "cumulative_regret": 1000.0}, {"step": 50_000, "cumulative_regret": 9000.0}]
    for name in ("here", "elsewhere"):
        record(tmp_path / "full" / name, ("experiment=bandit", "seed=1"), rows)
        rows = [rows[0] | {"cumulative_regret": 1010.0}, rows[1]]
    record(tmp_path / "short", ("experiment=bandit", "agent.steps=2000"), [rows[0] | {"cumulative_regret": 900.0}])
    (row,) = judged(tmp_path / "short", tmp_path / "full").to_dict("records")
    assert (row["seeds"], row["verdict"]) == (1, "not run")


def test_a_short_run_that_is_not_there_is_not_run(tmp_path, capsys):
    record(tmp_path / "short", ("experiment=digits",), [{"epoch": 1, "step": 1, "test_error": 9.0}])
    with pytest.raises(SystemExit) as stop:
        check([str(tmp_path / "short"), "--smoke", str(tmp_path / "short")])
    assert stop.value.code == 1
    assert "0 pass, 0 miss, 3 not run" in capsys.readouterr().out


def test_a_damaged_run_is_one_line(tmp_path, capsys, only_mnist):
    rows = [{"epoch": 10, "step": 3910, "test_error": 2.5}, {"epoch": 600, "step": 234600, "test_error": 1.4}]
    record(tmp_path / "full", (*MNIST, "seed=3"), [row | {"test_error": 101.0} for row in rows])
    record(tmp_path / "short", (*MNIST, "train.epochs=10"), rows[:1])
    with pytest.raises(SystemExit) as stop:
        check([str(tmp_path / "short"), "--smoke", str(tmp_path / "full")])
    assert stop.value.code == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("bbbrun check: error: a run's record in")
    with pytest.raises(SystemExit) as stop:
        check([str(tmp_path / "short"), "--smoke", ""])
    assert stop.value.code == 2
    assert "the name of a folder, not an empty word" in capsys.readouterr().err


def test_the_short_runs_are_full_ones_of_the_paper_but_for_their_length():
    full = wanted([], [0])
    for job in wanted(["smoke"], None):
        differ = [differing(setting(job.config), setting(other.config)) for other in full]
        assert any(keys <= {"train.epochs", "agent.steps"} for keys in differ)
    assert {job.config["train"]["epochs"] for job in full if job.config["dataset"]["name"] == "mnist"} == {600}
