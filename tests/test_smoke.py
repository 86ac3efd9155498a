"""bbbrun check --smoke: short runs against records of other seeds and of their own seed, with known numbers."""

import json
import math
import os
from functools import partial
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from omegaconf import OmegaConf
from scipy.stats import t

import bbbrun.report.smoke
from bbbrun.cli import run_verb
from bbbrun.report.smoke import smoke
from bbbrun.runs.identity import setting
from bbbrun.runs.jobs import Job, wanted
from bbbrun.runs.reader import finished_runs
from bbbrun.schema.config import composed, plain

check = partial(run_verb, "check")
RECORDS = Path(__file__).parents[1] / "results" / "smoke"
DIGITS = ("experiment=digits", "train.epochs=2")


def record(folder, words, rows, x_width=None):
    """A finished run's record: `words`, and metrics.csv of these rows."""
    (folder / ".hydra").mkdir(parents=True)
    config = plain(composed(words))
    OmegaConf.save(OmegaConf.create(config), folder / ".hydra" / "config.yaml")
    table = pd.DataFrame(rows)
    table.to_csv(folder / "metrics.csv", index=False)
    metrics = {name: value for name, value in table.iloc[-1].items() if name not in ("epoch", "step")}
    about = {"metrics": metrics, "seconds": 1.0, "steps_per_second": 1.0, "commit": "abc", "device": "cpu"}
    about |= {"versions": {}, "command": " ".join(words), "folder": str(folder)}
    (folder / "summary.json").write_text(json.dumps(about))
    if x_width is not None:
        x = np.linspace(-0.2, 1.2, 141)
        half = np.where((x < -1e-6) | (x > 0.5 + 1e-6), x_width / 2, 0.05)
        pd.DataFrame({"x": x, "median": x, "q25": x - half, "q75": x + half}).to_csv(
            folder / "predictions.csv", index=False
        )


def epochs(early, late):
    """Two epochs of 50 steps with these numbers."""
    return [{"epoch": 1, "step": 50, **early}, {"epoch": 2, "step": 100, **late}]


def recorded(folder, *complexities):
    """Records of seeds from 100 on, with these complexities after the second epoch."""
    for number, (early, complexity) in enumerate(zip((900.0, 911.5, 920.0), complexities, strict=False)):
        rows = epochs({"complexity": early}, {"complexity": complexity})
        record(folder / str(number), (*DIGITS, f"seed={100 + number}"), rows)


def judged(short, records):
    """The verdicts but for those of the column `step`."""
    table = smoke(finished_runs([short]), finished_runs([records]))
    return table[table["number"] != "step"]


def verdict(tmp_path, name, early, late):
    record(tmp_path / name, (*DIGITS, "seed=0"), epochs({"complexity": early}, {"complexity": late}))
    (row,) = judged(tmp_path / name, tmp_path / "records").to_dict("records")
    return row


def test_a_number_is_held_from_both_sides_at_every_row_by_students_quantile(tmp_path):
    recorded(tmp_path / "records", 990.0, 1003.0, 1007.0)
    # Two numbers and two steps, from both sides, 1 % among the eight: Student's quantile for two degrees of freedom.
    # The mean of the late ones is 1000, their squared deviation (100 + 9 + 49) / 2; the early ones' mean is 910.5.
    half = t.ppf(1 - 0.01 / 8, 2) * math.sqrt(79) * math.sqrt(4 / 3)
    early_half = t.ppf(1 - 0.01 / 8, 2) * math.sqrt(100.75) * math.sqrt(4 / 3)
    for name, early, late, expected in (
        ("inside", 910.0, 1000 + 0.99 * half, "pass"),
        ("above", 910.0, 1000 + 1.01 * half, "miss"),
        ("below", 910.0, 1000 - 1.01 * half, "miss"),
        ("early", 910.5 + 1.01 * early_half, 1000.0, "miss"),
    ):
        row = verdict(tmp_path, name, early, late)
        assert (row["number"], row["rule"], row["seeds"], row["verdict"]) == ("complexity", "band", 3, expected)
    # What is furthest off is what is shown.
    assert (row["at"], row["ours"]) == ("epoch 1", 910.5 + 1.01 * early_half)
    assert (row["least"], row["most"]) == pytest.approx((910.5 - early_half, 910.5 + early_half))


def test_no_band_is_narrower_than_a_thousandth_or_than_what_is_counted(tmp_path):
    for seed in (100, 101, 102):
        # 0.5 % is one of 200 images.
        rows = epochs({"lr": 1e-3, "valid_error": 3.0}, {"lr": 7e-4, "valid_error": 2.5})
        record(tmp_path / "records" / str(seed), (*DIGITS, f"seed={seed}"), rows)
    for name, lr, error, expected in (
        ("same", 1e-3, 2.5, ["pass", "pass"]),
        ("near", 1.0009e-3, 3.0, ["pass", "pass"]),
        ("off", 1.0011e-3, 3.5, ["miss", "miss"]),
    ):
        rows = epochs({"lr": lr, "valid_error": 3.0}, {"lr": 7e-4, "valid_error": error})
        record(tmp_path / name, (*DIGITS, "seed=0"), rows)
        assert judged(tmp_path / name, tmp_path / "records")["verdict"].to_list() == expected


def test_the_first_steps_of_a_recorded_seed_are_held_to_its_digits(tmp_path):
    def rows(first, later):
        return [{"epoch": 1, "step": 10, "nll": first}, {"epoch": 2, "step": 110, "nll": later}]

    # So far apart that no band says anything.
    for seed, nll in ((0, 2.0), (100, 1.013), (101, 2.0), (102, 3.0)):
        record(tmp_path / "records" / str(seed), (*DIGITS, f"seed={seed}"), rows(nll, nll))
    for name, first, later, expected in (
        ("same", 2.0015, 2.5, "pass"),
        ("off", 2.0025, 2.5, "miss"),
        ("later", 2.0, 2.1, "pass"),
    ):
        record(tmp_path / name, (*DIGITS, "seed=0"), rows(first, later))
        table = judged(tmp_path / name, tmp_path / "records").set_index("rule")
        # Its own record makes no band.
        assert table.loc["band", ["seeds", "verdict"]].to_list() == [3, "pass"]
        assert table.loc["digits", ["at", "verdict"]].to_list() == ["epoch 1", expected]


def test_a_run_that_takes_other_steps_is_a_miss(tmp_path):
    recorded(tmp_path / "records", 990.0, 1003.0, 1007.0)
    for name, step, expected in (("same", 50, "pass"), ("more", 60, "miss")):
        early, late = epochs({"complexity": 910.0}, {"complexity": 1000.0})
        record(tmp_path / name, (*DIGITS, "seed=0"), [early | {"step": step}, late | {"step": 2 * step}])
        table = smoke(finished_runs([tmp_path / name]), finished_runs([tmp_path / "records"]))
        assert table.set_index("number")["verdict"].to_dict() == {"step": expected, "complexity": "pass"}


def test_a_column_that_is_missing_or_not_a_number_is_a_miss(tmp_path):
    for seed in (100, 101, 102):
        rows = epochs({"nll": 2.0 + seed, "test_ece": 1.0 + seed}, {"nll": 2.0 + seed, "test_ece": 1.0 + seed})
        record(tmp_path / "records" / str(seed), (*DIGITS, f"seed={seed}"), rows)
    record(tmp_path / "short", (*DIGITS, "seed=0"), epochs({"nll": 103.0}, {"nll": 103.0}))
    table = judged(tmp_path / "short", tmp_path / "records").set_index("number")
    assert table["verdict"].to_dict() == {"nll": "pass", "test_ece": "miss"}


def test_a_regression_must_widen_where_there_is_no_data(tmp_path):
    end = [{"epoch": 4000, "step": 4000, "test_rmse": 0.06, "test_nll": -1.5}]
    for number, width in enumerate((1.9, 2.0, 2.1, 2.0, 1.95, 2.05)):
        words = ("experiment=regression", f"seed={100 + number}")
        record(tmp_path / "records" / str(number), words, end, x_width=width)
    record(tmp_path / "wide", ("experiment=regression",), end, x_width=1.9)
    record(tmp_path / "narrow", ("experiment=regression",), end, x_width=1.4)
    wide, narrow = (
        judged(tmp_path / name, tmp_path / "records").set_index("number")["verdict"] for name in ("wide", "narrow")
    )
    assert wide.to_dict() == {"test_rmse": "pass", "test_nll": "pass", "widening": "pass"}
    assert narrow["widening"] == "miss"


@pytest.fixture
def only_digits(monkeypatch):
    """The digits' short run alone in place of all."""
    words = (*DIGITS, "seed=0")
    monkeypatch.setattr(bbbrun.report.smoke, "wanted", lambda only, seeds: [Job(words, plain(composed(words)))])


def exit_code(*words):
    with pytest.raises(SystemExit) as stop:
        check([str(word) for word in words])
    return stop.value.code


def test_what_too_few_seeds_are_like_is_not_run_and_exits_1(tmp_path, capsys, only_digits):
    rows = epochs({"complexity": 910.0}, {"complexity": 1000.0})
    record(tmp_path / "short" / "a", (*DIGITS, "seed=0"), rows)
    # Runs of one's own beside it are not judged.
    record(tmp_path / "short" / "b", ("experiment=digits",), epochs({"complexity": 1.0}, {"complexity": 1.0}))
    recorded(tmp_path / "records", 990.0, 1000.0)
    record(tmp_path / "records" / "seed again", (*DIGITS, "seed=100"), rows)
    record(tmp_path / "records" / "other setting", (*DIGITS, "seed=3", "prior.pi=0.25"), rows)
    assert exit_code(tmp_path / "short", "--smoke", tmp_path / "records") == 1
    assert "0 pass, 0 miss, 1 not run" in capsys.readouterr().out
    # Nor is a run its own bound.
    assert exit_code(tmp_path / "short", "--smoke", tmp_path / "short") == 1
    record(tmp_path / "records" / "third", (*DIGITS, "seed=7"), rows)
    assert exit_code(tmp_path / "short", "--smoke", tmp_path / "records") == 0
    # A record that was evaluated less often cannot judge the rows that it lacks.
    record(tmp_path / "records" / "fewer rows", (*DIGITS, "seed=8", "train.evaluate_every=2"), rows[1:])
    assert exit_code(tmp_path / "short", "--smoke", tmp_path / "records") == 1
    assert exit_code(tmp_path / "short", "--smoke", tmp_path, "--only", "table1") == 2
    assert "--only has no effect with --smoke" in capsys.readouterr().err


def test_other_seeds_are_judged_where_they_are_named(tmp_path, capsys, monkeypatch):
    jobs = {seed: Job((*DIGITS, f"seed={seed}"), plain(composed((*DIGITS, f"seed={seed}")))) for seed in (0, 7)}
    monkeypatch.setattr(bbbrun.report.smoke, "wanted", lambda only, seeds: [jobs[seed] for seed in seeds or [0]])
    recorded(tmp_path / "records", 990.0, 1000.0, 1010.0)
    for seed, complexity in ((0, 5000.0), (7, 1000.0)):
        rows = epochs({"complexity": 910.0}, {"complexity": complexity})
        record(tmp_path / "short" / str(seed), jobs[seed].words, rows)
    words = (tmp_path / "short", "--smoke", tmp_path / "records")
    assert [exit_code(*words), exit_code(*words, "--seeds", "7"), exit_code(*words, "--seeds", "0,7")] == [1, 0, 1]
    capsys.readouterr()
    assert exit_code(*words, "--seeds", "7,x") == 1
    assert "--seeds takes whole numbers" in capsys.readouterr().err
    assert exit_code(tmp_path / "short", "--seeds", "7") == 2
    assert "--seeds has no effect without --smoke" in capsys.readouterr().err


def test_a_short_run_that_is_not_there_is_not_run(tmp_path, capsys):
    record(tmp_path / "short", ("experiment=digits",), [{"epoch": 1, "step": 1, "test_error": 9.0}])
    assert exit_code(tmp_path / "short", "--smoke", tmp_path / "short") == 1
    assert f"0 pass, 0 miss, {len(wanted(['smoke'], None))} not run" in capsys.readouterr().out


def test_a_damaged_run_is_one_line(tmp_path, capsys, only_digits):
    recorded(tmp_path / "records", 990.0, 1000.3, 1010.0)
    record(tmp_path / "short" / "a", (*DIGITS, "seed=0"), [{"step": 50, "complexity": 1.0}])
    assert exit_code(tmp_path / "short", "--smoke", tmp_path / "records") == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("bbbrun check: error: a run's record in")
    assert exit_code(tmp_path / "short", "--smoke", "") == 2
    assert "a name, not an empty word" in capsys.readouterr().err


def test_verdicts_for_other_programs_read_back(tmp_path, capsys, only_digits):
    recorded(tmp_path / "records", 990.0, 1000.3, 1010.0)
    record(tmp_path / "good", (*DIGITS, "seed=0"), epochs({"complexity": 910.0}, {"complexity": 1000.0}))
    record(tmp_path / "bad", (*DIGITS, "seed=0"), epochs({"complexity": 910.0}, {"complexity": 5000.0}))
    files = ["--json", tmp_path / "out.json", "--junit", tmp_path / "out.xml"]
    for name, code, counts, failures in (
        ("good", 0, {"pass": 2, "miss": 0, "not run": 0}, 0),
        ("bad", 1, {"pass": 1, "miss": 1, "not run": 0}, 1),
    ):
        assert exit_code(tmp_path / name, "--smoke", tmp_path / "records", *files) == code
        read = json.loads((tmp_path / "out.json").read_text())
        assert read["counts"] == counts
        step, row = read["rows"]
        assert (step["number"], row["number"], row["seeds"]) == ("step", "complexity", 3)
        assert row["at"] == "epoch 2" or not code
        suite = ElementTree.parse(tmp_path / "out.xml").getroot().find("testsuite")
        assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("2", str(failures), "0")
        case = suite.findall("testcase")[1]
        assert case.get("classname") == "experiment=digits train.epochs=2 seed=0"
        assert case.get("name").startswith("complexity, band")
        assert [each.tag for each in case] == ["failure"] * failures
    assert "ours 5000" in case.find("failure").get("message")
    (tmp_path / "link.json").symlink_to(tmp_path / "linked.json")
    (tmp_path / "linked.json").write_text("old")
    assert exit_code(tmp_path / "good", "--smoke", tmp_path / "records", "--json", tmp_path / "link.json") == 0
    assert (tmp_path / "link.json").is_symlink()
    assert json.loads((tmp_path / "linked.json").read_text())["counts"] == {"pass": 2, "miss": 0, "not run": 0}
    reading, writing = os.pipe()
    assert exit_code(tmp_path / "good", "--smoke", tmp_path / "records", "--json", f"/dev/fd/{writing}") == 0
    os.close(writing)
    with os.fdopen(reading) as pipe:
        assert json.loads(pipe.read())["counts"]["pass"] == 2
    # What is not run passes no check, so a CI system must not show it as passed or skipped.
    assert exit_code(tmp_path / "good", "--smoke", tmp_path / "good", *files) == 1
    suite = ElementTree.parse(tmp_path / "out.xml").getroot().find("testsuite")
    assert (suite.get("errors"), [each.tag for each in suite.find("testcase")]) == ("1", ["error"])
    assert json.loads((tmp_path / "out.json").read_text())["rows"][0]["ours"] is None
    capsys.readouterr()
    assert exit_code(tmp_path / "good", "--smoke", tmp_path / "records", "--json", tmp_path / "none" / "out.json") == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "none/out.json" in line


def test_each_short_run_has_the_records_that_judge_it():
    records = finished_runs([RECORDS])
    for job in wanted(["smoke"], None):
        seeds = {run.seed for run in records if setting(run.config) == setting(job.config)}
        # Three others for a band, and its own for the digits.
        assert job.config["seed"] in seeds
        assert len(seeds - {job.config["seed"]}) >= 3


@pytest.mark.slow
def test_the_others_hold_nearly_each_record():
    """At most 1 % of sound runs may have a number outside: of these, three are allowed."""
    records = finished_runs([RECORDS])
    table = smoke(records, records)
    assert set(table["rule"]) == {"band"}
    outside = table.loc[table["verdict"] != "pass", "run"].unique()
    assert len(outside) <= 3
    # Every column of each, but for the time.
    for run in records:
        filled = run.metrics().dropna(axis="columns", how="all")
        columns = set(filled.columns.drop("seconds")) - {filled.columns[0]}
        assert set(table.loc[table["run"] == run.summary["command"], "number"]) >= columns
