"""The committed records of the paper's runs give the committed Table 1, by `bbbrun report` and by other code."""

import csv
import json
import statistics
from collections import defaultdict
from pathlib import Path

import pytest
import yaml

from bbbrun.verbs.report import main as report

PAPER = Path(__file__).parent.parent / "results" / "paper"
KEY = ("method", "units", "temperature")
NAMES = {
    ("sgd", "none"): "SGD",
    ("mle", "none"): "SGD",
    ("dropout", "none"): "SGD, dropout",
    ("bbb", "gaussian"): "Bayes by Backprop, Gaussian",
    ("bbb", "scale_mixture"): "Bayes by Backprop, scale mixture",
}
# column of table1.csv -> metric of summary.json
MEANS = {
    "error": "test_error",
    "error_mean": "test_error_mean",
    "valid_error": "valid_error",
    "nll": "test_nll",
    "ece": "test_ece",
}


def rows(path: Path) -> dict[tuple[str, ...], dict[str, str]]:
    """The rows of a table1.csv by their cell."""
    with path.open() as file:
        return {tuple(row[name] for name in KEY): row for row in csv.DictReader(file)}


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """The table1/ that bbbrun report makes of all records of MNIST."""
    output = tmp_path_factory.mktemp("report")
    report([*map(str, sorted((PAPER / "runs").glob("mnist*"))), "-o", str(output), "--only", "table1"])
    return output / "table1"


def valid_error(summaries):
    return statistics.mean(summary["metrics"]["valid_error"] for summary in summaries)


def test_the_records_give_the_committed_table(made):
    assert rows(made / "table1.csv") == rows(PAPER / "table1" / "table1.csv")
    assert (made / "table1.md").read_text() == (PAPER / "table1" / "table1.md").read_text()


def test_the_table_is_the_mean_and_spread_of_the_summaries(made):
    cells = defaultdict(lambda: defaultdict(dict))
    for path in sorted((PAPER / "runs").glob("mnist*/*/summary.json")):
        config = yaml.safe_load((path.parent / ".hydra" / "config.yaml").read_text())
        method = config["method"]
        first, second = config["network"]["hidden"]
        assert first == second
        name = NAMES[method["name"], config["prior"]["name"]]
        cell = (name, str(first), f"{method.get('temperature', 1):g}")
        summary = json.loads(path.read_text())
        optimizer = config["optimizer"]
        same = cells[cell][config["train"]["epochs"], optimizer["name"], optimizer["lr"]]
        assert summary["seed"] not in same, "two records of one run: which one counts is not this test's"
        same[summary["seed"]] = summary
    table = rows(made / "table1.csv")
    assert set(table) == set(cells)
    for cell, settings in cells.items():
        row = table[cell]
        # The longest, and of several the one of the lowest validation error.
        summaries = settings[min(settings, key=lambda setting: (-setting[0], valid_error(settings[setting].values())))]
        assert int(row["seeds"]) == len(summaries)
        metrics = [summary["metrics"] for summary in summaries.values()]
        for column, metric in MEANS.items():
            values = [one[metric] for one in metrics if metric in one]
            if not values:
                assert row[column] == ""
                continue
            assert float(row[column]) == pytest.approx(statistics.mean(values), rel=1e-5)
            if f"{column}_std" in row and len(values) > 1:
                assert float(row[f"{column}_std"]) == pytest.approx(statistics.stdev(values), rel=1e-5, abs=1e-12)
        seconds = statistics.mean(summary["seconds"] for summary in summaries.values())
        assert float(row["seconds"]) == pytest.approx(seconds, rel=1e-5)
        if row["paper"]:
            difference = statistics.mean(one["test_error"] for one in metrics) - float(row["paper"])
            assert float(row["difference"]) == pytest.approx(difference, rel=1e-4, abs=1e-6)
