"""The regression: its mathematics against other sources, the real command line, and the figure of finished runs."""

import csv
import json
import math
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import integrate, optimize, stats
from torch.distributions import Categorical, MixtureSameFamily, Normal

from bbbrun.bayes.likelihoods import log_mixture, log_normal, mixture_coverage, mixture_quantile
from bbbrun.bayes.networks import mlp
from bbbrun.cli import run_verb
from bbbrun.data.curve import curve, curve_points, curve_quartiles
from bbbrun.schema.config import composed, option
from bbbrun.schema.datasets import RegressionCurveConfig
from bbbrun.tasks.regression import conditional_gaussian, on_unit_range

TINY = (
    "device=cpu",
    "experiment=regression",
    "train.epochs=4",
    "train.evaluate_every=2",
    "network.hidden=[8]",
    "dataset.train_points=30",
    "dataset.test_points=20",
    "dataset.grid_points=29",
    "threads=1",
    "compile=false",
)
FEW_DRAWS = "method.final_samples=3"
GENERATOR = torch.Generator().manual_seed(0)
MEANS = torch.randn(7, 40, generator=GENERATOR, dtype=torch.float64)
SIGMAS = torch.rand(7, 40, generator=GENERATOR, dtype=torch.float64) + 0.01


def dataset(**changes: object) -> RegressionCurveConfig:
    values = {
        "name": "regression_curve",
        "train_points": 100,
        "test_points": 50,
        "x_low": 0.0,
        "x_high": 0.5,
        "noise_sigma": 0.02,
        "scale_inputs": True,
        "likelihood_sigma": None,
        "sigma_scale": 0.1,
        "sigma_floor": 1e-3,
        "grid_low": -0.2,
        "grid_high": 1.2,
        "grid_points": 15,
    }
    return RegressionCurveConfig(**(values | changes))


def test_log_normal_equals_torch_distributions():
    y = torch.linspace(-3, 3, 40, dtype=torch.float64)
    torch.testing.assert_close(log_normal(y, MEANS, SIGMAS), Normal(MEANS, SIGMAS).log_prob(y))


def test_log_mixture_equals_torch_distributions():
    y = torch.linspace(-3, 3, 40, dtype=torch.float64)
    reference = MixtureSameFamily(Categorical(torch.ones(40, 7)), Normal(MEANS.T, SIGMAS.T))
    torch.testing.assert_close(log_mixture(y, MEANS, SIGMAS), reference.log_prob(y))


@pytest.mark.parametrize("probability", [0.25, 0.5, 0.75])
def test_mixture_quantiles_equal_a_root_finder(probability):
    result = mixture_quantile(probability, MEANS, SIGMAS)
    for number in range(MEANS.shape[1]):
        means, sigmas = MEANS[:, number].numpy(), SIGMAS[:, number].numpy()

        def excess(y: float, means: np.ndarray = means, sigmas: np.ndarray = sigmas) -> float:
            return stats.norm.cdf(y, means, sigmas).mean() - probability

        assert result[number].item() == pytest.approx(optimize.brentq(excess, -10, 10, xtol=1e-13), abs=1e-10)


def test_coverage_counts_what_lies_between_the_quantiles():
    lower, upper = (mixture_quantile(share, MEANS, SIGMAS) for share in (0.1, 0.9))
    for inward, expected in ((1e-6, 100.0), (-1e-6, 0.0)):
        assert mixture_coverage(lower + inward, MEANS, SIGMAS, 0.8) == expected
        assert mixture_coverage(upper - inward, MEANS, SIGMAS, 0.8) == expected
    y = torch.randn(20_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    means = torch.zeros(1, 20_000, dtype=torch.float64)
    assert mixture_coverage(y, means, means + 1) == pytest.approx(50, abs=3 * 100 * 0.5 / 20_000**0.5)
    assert mixture_coverage(y, means, means + 1.5) > 65


def test_mixture_quantiles_of_one_component_and_of_equal_ones_are_its_own():
    for components in (1, 5):
        means = torch.full((components, 1), 2.0)
        sigmas = torch.full((components, 1), 0.5)
        expected = 2 + 0.5 * stats.norm.ppf(0.75)
        assert mixture_quantile(0.75, means, sigmas).item() == pytest.approx(expected, abs=1e-12)


def test_the_median_of_a_mirrored_mixture_is_its_middle():
    means, sigmas = torch.tensor([[-3.0], [5.0]]), torch.tensor([[0.7], [0.7]])
    assert mixture_quantile(0.5, means, sigmas).item() == pytest.approx(1)


def test_two_outputs_give_a_density_with_its_floor():
    mean, sigma = conditional_gaussian(dataset(sigma_scale=0.2))[0](torch.tensor([[1.5, 0.0], [-2.0, -200.0]]))
    assert mean.tolist() == [1.5, -2.0]
    torch.testing.assert_close(sigma, torch.tensor([1e-3 + 0.2 * math.log(2), 1e-3]))
    area, _ = integrate.quad(lambda y: log_normal(torch.tensor(y), mean[0], sigma[0]).exp().item(), 0.5, 2.5)
    assert area == pytest.approx(1, abs=1e-5)


def test_inputs_are_mapped_onto_the_unit_range():
    plain = mlp(1, [3], 2)
    weights = torch.randn(plain.size, generator=GENERATOR)
    x = torch.tensor([[2.0], [3.0], [5.0], [6.5]])
    expected = plain(weights, torch.tensor([[-1.0], [-0.5], [0.5], [1.25]]))
    torch.testing.assert_close(on_unit_range(plain, 2.0, 6.0)(weights, x), expected)


def test_one_output_has_the_fixed_sigma():
    mean, sigma = conditional_gaussian(dataset(likelihood_sigma=0.3))[0](torch.tensor([[1.5], [-2.0]]))
    assert mean.tolist() == [1.5, -2.0]
    torch.testing.assert_close(sigma, torch.tensor([0.3, 0.3]))


def test_the_curve_is_the_papers():
    x, e = np.random.default_rng(0).normal(size=(2, 100))
    expected = x + 0.3 * np.sin(2 * np.pi * (x + e)) + 0.3 * np.sin(4 * np.pi * (x + e)) + e
    np.testing.assert_allclose(curve(torch.tensor(x), torch.tensor(e)).numpy(), expected, rtol=0, atol=1e-12)


def test_points_are_a_function_of_the_seed_and_of_their_number_in_order():
    train, test = curve_points(dataset(), 3)
    again, _ = curve_points(dataset(train_points=10), 3)
    other, _ = curve_points(dataset(), 4)
    assert torch.equal(train.inputs[:10], again.inputs)
    assert torch.equal(train.labels[:10], again.labels)
    assert not torch.isin(train.inputs, torch.cat([other.inputs, test.inputs])).any()


def test_points_are_uniform_in_x_with_noise_of_the_standard_deviation_asked_for():
    points, _ = curve_points(dataset(train_points=20_000, x_low=-1.0, x_high=2.0), 0)
    x = points.inputs[:, 0].double()
    assert stats.kstest(x.numpy(), "uniform", (-1, 3)).pvalue > 1e-3
    # The noise inverted to first order.
    small, _ = curve_points(dataset(train_points=20_000, noise_sigma=1e-4), 0)
    x = small.inputs[:, 0].double()
    slope = 1 + 0.6 * np.pi * torch.cos(2 * np.pi * x) + 1.2 * np.pi * torch.cos(4 * np.pi * x)
    e = ((small.labels.double() - curve(x)) / slope)[slope.abs() > 0.5]
    assert e.std().item() == pytest.approx(1e-4, rel=0.05)
    assert abs(e.mean().item()) < 5e-6


def table(run: Path, name: str = "metrics.csv") -> list[dict[str, str]]:
    with (run / name).open() as file:
        return [{key: value for key, value in row.items() if key != "seconds"} for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def finished(tmp_path_factory, run_in) -> Path:
    """A folder of two tiny finished runs, bbb and mle."""
    folder = tmp_path_factory.mktemp("finished")
    for words in (("hydra.run.dir=runs/bbb", FEW_DRAWS), ("hydra.run.dir=runs/mle", "method=mle")):
        assert run_in(folder, *TINY, *words).returncode == 0
    return folder / "runs"


def test_a_run_leaves_its_metrics_predictions_and_figures(finished):
    for method in ("bbb", "mle"):
        run = finished / method
        rows = table(run)
        assert ",".join(rows[0]) == (
            "epoch,step,lr,nll,log_posterior,log_prior,complexity,free_energy,test_rmse,test_nll,coverage_50"
        )
        assert [row["epoch"] for row in rows] == ["2", "4"]
        metrics = json.loads((run / "summary.json").read_text())["metrics"]
        assert metrics["test_rmse"] == float(rows[-1]["test_rmse"])
        names = {path.name for path in (run / "figures").iterdir()}
        assert names == {f"{name}.{end}" for name in ("learning_curve", "predictive") for end in ("png", "svg")}


def test_predictions_are_quantiles_in_order_over_the_grid(finished):
    bbb, sgd = (pd.read_csv(finished / method / "predictions.csv") for method in ("bbb", "mle"))
    for predictions in (bbb, sgd):
        assert list(predictions) == ["x", "median", "q25", "q75", "f_q25", "f_q75"]
        np.testing.assert_allclose(predictions["x"], np.linspace(-0.2, 1.2, 29), atol=1e-12)
        assert (predictions["q25"] < predictions["median"]).all()
        assert (predictions["median"] < predictions["q75"]).all()
    assert (bbb["f_q25"] < bbb["f_q75"]).all()
    # One network, one Gaussian: no spread of its own, and quartiles that lie evenly about the mean.
    np.testing.assert_array_equal(sgd["f_q25"], sgd["f_q75"])
    np.testing.assert_allclose(sgd["median"], sgd["f_q25"], atol=1e-9)
    np.testing.assert_allclose(sgd["q25"] + sgd["q75"], 2 * sgd["median"], atol=1e-9)


def test_the_true_quartiles_are_those_of_many_points():
    config = option("dataset", composed(["experiment=regression"])["dataset"])
    x = torch.tensor([-0.1, 0.0, 0.3, 0.77, 1.0])
    e = config.noise_sigma * torch.randn(400_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for place, quartiles in zip(x, curve_quartiles(config, x).T, strict=True):
        drawn = torch.sort(curve(place.double(), e)).values
        # The share of the points below each quartile, to four standard errors.
        shares = torch.searchsorted(drawn, quartiles) / len(drawn)
        torch.testing.assert_close(shares, torch.tensor([0.25, 0.75]), rtol=0, atol=4 * 0.43 / len(drawn) ** 0.5)


# Each ends the process as a kill does when the function is called for the n-th time.
KILLS = {"in training": ("save_checkpoint", 3), "before the predictions": ("save_predictions", 1)}

KILLER = """
import os, sys
from bbbrun.cli import main
from bbbrun.runs.writer import RunFolder
name, left = sys.argv.pop(1), int(sys.argv.pop(1))
original = getattr(RunFolder, name)

def killing(*words):
    global left
    left -= 1
    return original(*words) if left else os._exit(9)

setattr(RunFolder, name, killing)
main()
"""


@pytest.mark.slow
@pytest.mark.parametrize("moment", KILLS)
def test_a_killed_and_resumed_run_equals_an_uninterrupted_one(bbbrun, tmp_path, finished, moment):
    name, number = KILLS[moment]
    words = (*TINY, FEW_DRAWS, "train.checkpoint_seconds=0")
    command = [sys.executable, "-c", KILLER, name, str(number), *words, "hydra.run.dir=run"]
    assert subprocess.run(command, cwd=tmp_path, check=False).returncode == 9
    run = tmp_path / "run"
    assert not {path.name for path in run.iterdir()} & {"summary.json", "predictions.csv"}
    result = bbbrun(*words, "resume=run")
    assert result.returncode == 0, result.stderr
    assert table(run) == table(finished / "bbb")
    assert (run / "predictions.csv").read_bytes() == (finished / "bbb" / "predictions.csv").read_bytes()
    assert (run / "summary.json").exists()


def test_a_fixed_sigma_is_the_width_of_a_single_network(bbbrun, tmp_path):
    result = bbbrun(*TINY, "method=mle", "dataset.likelihood_sigma=0.3", "hydra.run.dir=run")
    assert result.returncode == 0, result.stderr
    predictions = pd.read_csv(tmp_path / "run" / "predictions.csv")
    width = 2 * 0.3 * stats.norm.ppf(0.75)
    np.testing.assert_allclose(predictions["q75"] - predictions["q25"], width, atol=1e-6)
    # With sigma fixed the nll is a known function of the rmse, its constant included.
    last = table(tmp_path / "run")[-1]
    expected = 0.5 * (float(last["test_rmse"]) / 0.3) ** 2 + np.log(0.3) + 0.5 * np.log(2 * np.pi)
    assert float(last["test_nll"]) == pytest.approx(expected, rel=1e-6)


WRONG = [
    ("dataset.train_points=0", "dataset.train_points must be a whole number of at least 1, not 0"),
    ("dataset.test_points=0", "dataset.test_points must be a whole number of at least 1, not 0"),
    ("dataset.grid_points=1", "dataset.grid_points must be a whole number of at least 2, not 1"),
    ("dataset.x_high=0", "dataset.x_high must be finite and above dataset.x_low = 0.0, not 0.0"),
    ("dataset.grid_low=-inf", "dataset.grid_low must be a finite number, not -inf"),
    ("dataset.noise_sigma=-1", "dataset.noise_sigma must be 0 or more, not -1.0"),
    ("dataset.likelihood_sigma=0", "dataset.likelihood_sigma must be from 1e-15 to 1e15, not 0.0"),
    ("dataset.sigma_floor=0", "dataset.sigma_floor must be from 1e-15 to 1e15, not 0.0"),
    ("dataset.sigma_scale=nan", "dataset.sigma_scale must be from 1e-15 to 1e15, not nan"),
    ("dataset.pixel_divisor=2", "unknown key 'dataset.pixel_divisor': the dataset chosen takes"),
]


@pytest.mark.parametrize(("words", "expected"), WRONG, ids=[words for words, _ in WRONG])
def test_wrong_input_gets_one_line(bbbrun, words, expected):
    result = bbbrun("experiment=regression", words)
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith("bbbrun: error: ")
    assert expected in line


def report(folder: Path, *words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bbbrun", "report", *map(str, words)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_the_report_draws_figure_5_out_of_finished_runs(tmp_path, finished):
    (tmp_path / "unfinished").mkdir()
    shutil.copytree(finished, tmp_path / "runs")
    shutil.copytree(finished / "bbb", tmp_path / "runs" / "unfinished")
    (tmp_path / "runs" / "unfinished" / "summary.json").unlink()
    result = report(tmp_path, "runs", "-o", "out", "--only", "figure5", "figure6")
    skipped = "figure6: no finished run of experiment=bandit: skipped\n"
    assert (result.returncode, result.stderr) == (0, f"figure5: 2 runs\n{skipped}")
    left = sorted(path.name for path in (tmp_path / "out" / "figure5").iterdir())
    assert left == ["bbb_seed0.csv", "figure5.png", "figure5.svg", "mle_seed0.csv", "summary.csv", "summary.md"]
    summary = pd.read_csv(tmp_path / "out" / "figure5" / "summary.csv")
    assert summary[["method", "seed", "steps"]].to_numpy().tolist() == [["bbb", 0, 4], ["mle", 0, 4]]
    assert summary["command"][1].endswith("method=mle")
    for method, row in zip(("bbb", "mle"), summary.itertuples(), strict=True):
        assert row.coverage_50 == pd.read_csv(finished / method / "metrics.csv")["coverage_50"].iloc[-1]
        predictions = pd.read_csv(finished / method / "predictions.csv")
        compact = pd.read_csv(tmp_path / "out" / "figure5" / f"{method}_seed0.csv")
        np.testing.assert_allclose(compact, predictions, rtol=1e-5, atol=1e-9)
        # The grid of steps of 0.05 has 11 points on [0, 0.5], and x = 1 is its 25th.
        inside = predictions[4:15]
        x = inside["x"].to_numpy()
        truth = x + 0.3 * np.sin(2 * np.pi * x) + 0.3 * np.sin(4 * np.pi * x)
        assert row.median_rmse_inside == pytest.approx(np.sqrt(np.mean((inside["median"] - truth) ** 2)))
        assert row.iqr_inside == pytest.approx((inside["q75"] - inside["q25"]).mean())
        assert row.iqr_at_1 == pytest.approx(predictions["q75"][24] - predictions["q25"][24])


def test_the_report_takes_the_latest_of_runs_alike_and_says_so(tmp_path, finished, capsys):
    for name in ("1", "2"):
        shutil.copytree(finished / "mle", tmp_path / "runs" / name)
    run_verb("report", [str(tmp_path / "runs"), "-o", str(tmp_path / "out")])
    errors = capsys.readouterr().err
    assert "1 runs, 1 older or of other settings left out" in errors
    assert "no finished run of method=bbb: no panel" in errors
    assert len(pd.read_csv(tmp_path / "out" / "figure5" / "summary.csv")) == 1


def test_the_report_says_in_one_line_what_is_wrong(tmp_path, finished, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    damaged = tmp_path / "damaged"
    shutil.copytree(finished / "mle", damaged)
    (damaged / "summary.json").write_text("{")
    (tmp_path / "occupied").write_text("")
    cases = [
        (("nowhere", "-o", "out"), "nowhere is not a folder"),
        (("empty", "-o", "out"), "empty holds no finished run"),
        (("damaged", "-o", "out"), "the record of the run in damaged cannot be read"),
        ((finished, "-o", "occupied"), "occupied/figure5: Not a directory"),
    ]
    for words, expected in cases:
        with pytest.raises(SystemExit, match="1"):
            run_verb("report", [str(word) for word in words])
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("bbbrun report: error: ")
        assert expected in line


@pytest.mark.slow
def test_the_defaults_give_figure_5_over_five_seeds(bbbrun, tmp_path):
    for experiment in ("regression", "regression_mle"):
        result = bbbrun(f"experiment={experiment}", "replicas=5")
        assert result.returncode == 0, result.stderr
    assert report(tmp_path, "results/runs", "-o", "out").returncode == 0
    summary = pd.read_csv(tmp_path / "out" / "figure5" / "summary.csv").set_index("method")
    bbb, sgd = summary.loc["bbb"], summary.loc["mle"]
    assert bbb["seed"].tolist() == sgd["seed"].tolist() == list(range(5))
    assert (bbb["median_rmse_inside"] < 0.02).all()
    assert 45 < bbb["coverage_50"].mean() < 60
    # Beyond the data Bayes by Backprop knows that it does not know; the single network does not.
    assert (bbb["iqr_at_1"] >= 5 * bbb["iqr_inside"]).all()
    assert (bbb["iqr_at_1"].to_numpy() >= 4 * sgd["iqr_at_1"].to_numpy()).all()
