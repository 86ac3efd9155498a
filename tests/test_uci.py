"""The UCI benchmark's table and its rows of check."""

import json

import pandas as pd
import pytest

from bbbrun.report.items.uci import uci
from bbbrun.report.judge import judge
from bbbrun.report.paper import beyond
from bbbrun.runs.reader import Run
from bbbrun.schema.config import composed, plain
from bbbrun.schema.tables import UCI

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
