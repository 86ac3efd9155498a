"""Figure 6 from runs with known numbers."""

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from omegaconf import OmegaConf

from bbbrun.report.groups import NothingToShow
from bbbrun.report.items.figure6 import figure6, is_stuck
from bbbrun.report.judge import judge
from bbbrun.report.published.paper import claims, points
from bbbrun.report.spread import interquartile_mean, mean_half_width, resampled
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
    # Half of the mushrooms are edible: an agent that passes all loses 2.5 an interaction.
    rows |= {
        "reward": 2.0,
        "regret": 0.5,
        "cumulative_expected_regret": [2 * regret for regret in regrets],
        "eaten_edible": 7,
        "eaten_poisonous": 1,
    }
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
    # With one degree of freedom Student's quantile is tan(0.475 pi).
    half = math.tan(0.475 * math.pi) * 10
    readable = (tmp_path / "figure6" / "summary.md").read_text()
    assert f"| Bayes by Backprop | 2 | 0 | 30 ± {half:.0f} | 30 | 30 (20 to 40) |" in readable
    assert "| greedy | 1 | 0 | 60 | 60 | 60 |" in readable
    differences = pd.read_csv(tmp_path / "figure6" / "differences.csv").set_index(["method", "other"])
    assert differences.loc[("Bayes by Backprop", "greedy"), ["pairs", "lower", "difference"]].tolist() == [1, 1, -40]
    assert "| Bayes by Backprop | greedy | 1 | 1 | 0 | 0 | -40 | unknown |" in readable
    names = {path.name for path in (tmp_path / "figure6").iterdir()}
    assert {"figure6.png", "figure6.svg", "5_percent_greedy_seed0.csv", "Bayes_by_Backprop_seed1.csv"} <= names


def test_without_runs_there_is_nothing_to_show_and_no_folder(runs, tmp_path):
    wheel = [run for run in runs if run.dataset == "wheel"]
    with pytest.raises(NothingToShow, match="no finished run of experiment=bandit"):
        figure6(wheel, tmp_path / "none")
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("late", "stuck"),
    [(2.5, True), (7.5, True), (1.3, True), (1.2, False), (0.0, False)],
    ids=["passes all", "eats all", "over half", "under half", "always right"],
)
def test_an_agent_is_stuck_by_what_it_does_at_the_end(late, stuck):
    """Of 20 rows of 100 interactions only the last two count."""
    for early in (0.0, 7.5):
        losses = pd.Series([early] * 18 + [late] * 2) * 100
        rows = pd.DataFrame({"step": range(100, 2100, 100), "cumulative_expected_regret": losses.cumsum()})
        # What is paid scatters around what is expected; the oracle's reward, their sum, is 2.5 in every row.
        rows["regret"] = [1.0, 4.0] * 10
        rows["reward"] = 2.5 - rows["regret"]
        assert is_stuck(rows) == stuck


def test_a_first_row_alone_can_be_judged():
    row = {"step": [100], "reward": [2.0], "regret": [0.5], "cumulative_expected_regret": [249.0]}
    assert is_stuck(pd.DataFrame(row))
    assert not is_stuck(pd.DataFrame(row | {"cumulative_expected_regret": [100.0]}))


def test_statistics_of_several_runs():
    values = pd.Series([1.0, 2, 3, 4, 5, 6, 7, 1000])
    assert interquartile_mean(values) == (3 + 4 + 5 + 6) / 4
    interval = resampled(values, interquartile_mean)
    assert interval.low <= 4.5 <= interval.high
    assert resampled(values, interquartile_mean) == interval
    low, high = scipy.stats.t.interval(0.95, 7, loc=values.mean(), scale=scipy.stats.sem(values))
    assert mean_half_width(values) == pytest.approx((high - low) / 2)
    assert math.isnan(mean_half_width(values[:1]))
    assert all(map(math.isnan, resampled(values[:1], interquartile_mean)))


def test_the_bootstrap_interval_covers_the_true_median():
    generator = np.random.default_rng(1)
    covered = 0
    for _ in range(200):
        interval = resampled(generator.normal(10, 2, 20), np.median)
        covered += interval.low <= 10 <= interval.high
    assert 0.88 <= covered / 200 <= 1


def test_the_check_judges_the_mean(tmp_path):
    """The paper's curves are means of five runs."""
    table = pd.DataFrame({"agent": "greedy", "steps": 50_000, "cumulative_regret": [4e3, 5e3, 6e3, 7e3, 130e3]})
    (tmp_path / "figure6").mkdir()
    table.to_csv(tmp_path / "figure6" / "summary.csv")
    claim = {"item": "figure6", "row": "greedy", "column": 50_000, "rule": "at_most", "value": 8100.0}
    claim |= {"tolerance": 405.0, "runs": 5, "deviation": math.nan, "source": ""}
    (row,) = judge(tmp_path, ["figure6"], [claim]).to_dict("records")
    assert (row["ours"], row["verdict"], row["compared"]) == ("30400", "miss", "same within error")


def test_the_papers_points_are_drawn_and_not_judged():
    assert points("figure6", "greedy").to_dict() == {5000: 3500, 10_000: 4800, 20_000: 6200, 50_000: 8100}
    assert set(claims().query("item == 'figure6'")["column"]) == {50_000}
