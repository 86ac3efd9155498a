"""Figure 6 out of runs whose numbers are known."""

import json
from pathlib import Path

import pandas as pd
import pytest
from omegaconf import OmegaConf

from bbbrun.report.groups import NothingToShow
from bbbrun.report.items.figure6 import figure6
from bbbrun.runs.reader import finished_runs


def finished(
    folder: Path,
    method: str,
    seed: int,
    epsilon: float,
    regrets: list[float],
    dataset="mushroom",
    **method_options: float,
) -> None:
    (folder / ".hydra").mkdir(parents=True)
    config = {"dataset": {"name": dataset}, "method": {"name": method} | method_options, "seed": seed}
    config["agent"] = {"epsilon": epsilon, "steps": 100 * len(regrets)}
    OmegaConf.save(OmegaConf.create(config), folder / ".hydra" / "config.yaml")
    rows = {"step": [100 * (n + 1) for n in range(len(regrets))], "cumulative_regret": regrets}
    rows |= {"cumulative_expected_regret": [2 * regret for regret in regrets], "eaten_edible": 7, "eaten_poisonous": 1}
    pd.DataFrame(rows).to_csv(folder / "metrics.csv", index=False)
    summary = {"metrics": {}, "seconds": 1.5, "steps_per_second": 10.0, "commit": "abc", "device": "cpu"}
    summary |= {"command": f"bbbrun {method}", "versions": {"torch": "1"}}
    (folder / "summary.json").write_text(json.dumps(summary))


@pytest.fixture
def runs(tmp_path):
    finished(tmp_path / "runs" / "a", "bbb", 0, 0, [10, 20])
    finished(tmp_path / "runs" / "b", "bbb", 1, 0, [30, 50])
    finished(tmp_path / "runs" / "c", "mle", 0, 0.05, [40, 100])
    finished(tmp_path / "runs" / "d", "mle", 0, 0, [40, 60])
    # As records of earlier versions name the method.
    finished(tmp_path / "runs" / "e", "sgd", 0, 0, [1])  # too short to stand beside the others
    finished(tmp_path / "runs" / "f", "bbb", 1, 0, [30, 40])  # the same agent and seed, later
    finished(tmp_path / "runs" / "g", "bbb", 1, 0, [30, 40], dataset="wheel")
    finished(tmp_path / "runs" / "h", "bbb", 0, 0, [1, 2], temperature=0.01)  # another objective
    finished(tmp_path / "runs" / "i", "bbb", 0, 0, [1, 2], train_samples=9)  # another setting, with fewer seeds
    return finished_runs([tmp_path / "runs"])


def test_curves_are_means_over_seeds_of_the_longest_and_latest_runs(runs, tmp_path):
    messages = figure6(runs, tmp_path / "figure6")
    assert messages == ["3 runs shorter, older or of other settings: left out", "4 runs of 200 interactions"]
    curves = pd.read_csv(tmp_path / "figure6" / "curves.csv").set_index(["agent", "step"])
    last = curves.loc[("Bayes by Backprop", 200)]
    assert (last["cumulative_regret"], last["runs"]) == (30, 2)
    assert last["cumulative_regret_std"] == pytest.approx(200**0.5, rel=1e-5)
    assert last["cumulative_expected_regret"] == 60
    assert curves.loc[("5% greedy", 200)]["cumulative_regret"] == 100
    assert curves.loc[("greedy", 200)]["cumulative_regret"] == 60
    summary = pd.read_csv(tmp_path / "figure6" / "summary.csv")
    assert list(zip(summary["agent"], summary["seed"], summary["cumulative_regret"], strict=True)) == [
        ("5% greedy", 0, 100),
        ("Bayes by Backprop", 0, 20),
        ("Bayes by Backprop", 1, 40),
        ("greedy", 0, 60),
    ]
    assert set(summary["command"]) == {"bbbrun bbb", "bbbrun mle"}
    assert "| Bayes by Backprop | 2 | 30 |" in (tmp_path / "figure6" / "summary.md").read_text()
    names = {path.name for path in (tmp_path / "figure6").iterdir()}
    assert {"figure6.png", "figure6.svg", "5_percent_greedy_seed0.csv", "Bayes_by_Backprop_seed1.csv"} <= names


def test_without_runs_there_is_nothing_to_show_and_no_folder(runs, tmp_path):
    wheel = [run for run in runs if run.dataset == "wheel"]
    with pytest.raises(NothingToShow, match="no finished run of experiment=bandit"):
        figure6(wheel, tmp_path / "none")
    assert not (tmp_path / "none").exists()
