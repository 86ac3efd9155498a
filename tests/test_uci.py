"""The UCI benchmark's table and its rows of check."""

import json
import re
from pathlib import Path

import pandas as pd
import pytest

from bbbrun.report.items.uci import uci
from bbbrun.report.judge import judge
from bbbrun.report.published.paper import beyond
from bbbrun.runs.reader import Run
from bbbrun.schema.config import composed, plain
from bbbrun.schema.tables import UCI
from bbbrun.verbs.report import main as report

RESULTS = Path(__file__).parents[1] / "results" / "uci"
FACTS = {"seconds": 1.0, "command": "bbbrun", "commit": "abc", "device": "cpu", "versions": {}}


def run(folder, split, rmse, nll, **dataset):
    config = plain(CONFIG) | {"seed": dataset.pop("seed", 0)}
    own = config["dataset"] | {"split": split} | dataset
    return Run(
        folder / str(split), config | {"dataset": own}, FACTS | {"metrics": {"test_rmse": rmse, "test_nll": nll}}
    )


CONFIG = composed(["experiment=uci", "dataset.name=yacht"])


def test_a_set_has_its_mean_over_splits_beside_the_published_one(tmp_path):
    runs = [run(tmp_path, split, 1.0 + split / 10, 2.0) for split in range(20)]
    # Rows held out to choose by, and a second seed with fewer splits, are not shown.
    runs += [run(tmp_path, 0, 9.0, 9.0, valid_share=0.2), run(tmp_path, 3, 9.0, 9.0, seed=1)]
    assert uci(runs, tmp_path / "uci") == ["20 runs of 1 sets"]
    table = pd.read_csv(tmp_path / "uci" / "uci.csv")
    assert table.loc[0, "test_rmse"] == pytest.approx(1.95)
    spread = pd.Series([1 + split / 10 for split in range(20)])
    assert table.loc[0, "test_rmse_std"] == pytest.approx(spread.std(), rel=1e-5)
    assert table.loc[0, "test_rmse_se"] == pytest.approx(spread.std() / 20**0.5, rel=1e-5)
    assert (
        "| yacht | Bayes by Backprop | 20 | 1.95 ± 0.59 | 0.968 | 2 ± 0 | 1.449 |"
        in (tmp_path / "uci" / "uci.md").read_text()
    )
    verdicts = judge(tmp_path, ["uci"], beyond().to_dict("records")).set_index("row")["verdict"]
    assert verdicts["yacht RMSE"] == "miss"
    assert verdicts["boston nll"] == "not run"


def test_what_others_published_is_of_every_set():
    assert set(beyond()["row"]) == {f"{name} {number}" for name in UCI for number in ("RMSE", "nll")}


def test_a_folder_of_the_benchmark_alone_is_judged_by_it(tmp_path, run_in):
    runs = [run(tmp_path, split, 0.5, 1.0) for split in range(20)]
    uci(runs, tmp_path / "uci")
    done = run_in(tmp_path, "check", ".", "--json", "verdicts.json")
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1] == "2 pass, 0 miss, 16 not run"
    assert len(json.loads((tmp_path / "verdicts.json").read_text())) > 0


def test_the_records_give_the_committed_table_and_what_the_page_says_of_it(tmp_path):
    report([str(RESULTS / "runs"), "-o", str(tmp_path), "--only", "uci"])
    assert (tmp_path / "uci" / "uci.md").read_text() == (RESULTS / "uci" / "uci.md").read_text()
    table = pd.read_csv(tmp_path / "uci" / "uci.csv").set_index("set")
    ratio = table["test_rmse"] / table["test_rmse_published"]
    text = _one_line(RESULTS / "README.md")
    assert f"The RMSE of boston is above theirs by {100 * (ratio['boston'] - 1):.1f} %" in text
    assert sorted(ratio.index[ratio > 1]) == ["boston", "kin8nm"]
    assert round(table["test_rmse"]["kin8nm"], 3) == table["test_rmse_published"]["kin8nm"]
    assert (table["test_nll"] <= table["test_nll_published"]).all()


def test_the_prior_is_the_better_one_on_rows_held_out():
    tried = pd.read_csv(RESULTS / "tuning" / "by" / "by.csv")
    constant = tried[tried["dataset.noise"] == "constant"]
    by_set = constant.groupby(["dataset.name", "prior"])["valid_nll"].mean().unstack()
    assert set(by_set.index) == set(UCI)
    assert by_set.mean().idxmin() == "gaussian"
    wins = (by_set["gaussian"] < by_set["scale_mixture"]).sum()
    assert (
        f"N(0, 0.4^2) has {by_set['gaussian'].mean():.3f}, the tables' mixture of deviations 1 and 0.25 has "
        f"{by_set['scale_mixture'].mean():.3f}; the first is ahead on {wins} of the nine sets, on naval alone by more"
    ) in _one_line(RESULTS / "README.md")
    by_split = constant.pivot(index=["dataset.name", "dataset.split"], columns="prior", values="valid_nll")
    gains = (by_split["scale_mixture"] - by_split["gaussian"]).groupby("dataset.name").agg(["mean", "sem"])
    assert list(gains.index[gains["mean"] > gains["sem"]]) == ["naval"]


def _one_line(page):
    return re.sub(r"\s+", " ", page.read_text("utf-8"))
