"""Figure 5 of the paper: Bayes by Backprop and the standard network on the regression curve, side by side."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure

from bbbrun.bayes.methods import BayesByBackprop
from bbbrun.bayes.one_network import MaximumLikelihood
from bbbrun.data.curve import curve, curve_points, curve_quartiles
from bbbrun.report.groups import NothingToShow, markdown, one_setting
from bbbrun.report.plots import draw_predictive, save
from bbbrun.report.spread import mean_half_width, with_interval
from bbbrun.runs.reader import Run
from bbbrun.schema.datasets import RegressionCurveConfig

# Columns of summary.csv, in words.
_MEASURES = {
    "median_rmse_inside": "error of the median inside",
    "iqr_inside": "width of the central 50 % inside",
    "iqr_at_1": "width at x = 1",
    "coverage_50": "test points in the central 50 % (percent)",
    "test_rmse": "test RMSE",
    "test_nll": "test nll (nats)",
}
_PANELS = {BayesByBackprop.name: BayesByBackprop.label, MaximumLikelihood.name: "standard network"}


def figure5(runs: list[Run], output: Path) -> list[str]:
    """Write figure5.png and .svg, summary.csv and .md, and each run's predictions into `output`; return messages."""
    candidates = [run for run in runs if run.dataset == "regression_curve" and not run.cold]
    chosen = one_setting(candidates, lambda run: run.method)
    if not chosen:
        raise NothingToShow("no finished run of experiment=regression")
    output.mkdir(parents=True, exist_ok=True)
    summary = pd.DataFrame([summarise(run) for run in chosen])
    summary.to_csv(output / "summary.csv", index=False)
    (output / "summary.md").write_text(_readable(summary, chosen[0]), "utf-8")
    for run in chosen:
        name = f"{run.method}_seed{run.seed}.csv"
        run.predictions().to_csv(output / name, index=False, float_format="%.6g")
    shown = {method: next((run for run in chosen if run.method == method), None) for method in _PANELS}
    panels = [(run, _PANELS[method]) for method, run in shown.items() if run is not None]
    if panels:
        _draw(panels, output)
    missing = [f"no finished run of method={method}: no panel" for method, run in shown.items() if run is None]
    older = len(candidates) - len(chosen)
    return [*missing, f"{len(chosen)} runs" + (f", {older} older or of other settings left out" if older else "")]


def summarise(run: Run) -> dict[str, Any]:
    """A row of summary.csv.

    median_rmse_inside: the error of the median against the noiseless curve, over the grid points inside the range of
    the training points. iqr_inside: the mean of q75 - q25 over the same points. iqr_at_1: q75 - q25 at x = 1, empty
    where the grid ends before. coverage_50: the percentage of the test points between their q25 and q75, which is 50
    where the predictive is right; empty in records of before it was measured.
    """
    dataset, table = _dataset(run), run.predictions()
    # Rounding may put the grid point on the border just beyond it.
    inside = table["x"].between(dataset.x_low - 1e-6, dataset.x_high + 1e-6)
    width = table["q75"] - table["q25"]
    error = table["median"] - curve(torch.tensor(table["x"].to_numpy())).numpy()
    return {
        "method": run.method,
        "seed": run.seed,
        "test_rmse": run.summary["metrics"]["test_rmse"],
        "test_nll": run.summary["metrics"]["test_nll"],
        "coverage_50": run.summary["metrics"].get("coverage_50"),
        "median_rmse_inside": float(np.sqrt((error[inside] ** 2).mean())),
        "iqr_inside": width[inside].mean(),
        "iqr_at_1": np.interp(1.0, table["x"], width, left=np.nan, right=np.nan),
        "seconds": run.summary["seconds"],
        "steps": run.metrics()["step"].iloc[-1],
        **run.provenance(),
    }


def _readable(summary: pd.DataFrame, run: Run) -> str:
    """The table a person reads: a row for each network, means over seeds with their 95 % intervals."""
    rows = [
        {"network": _PANELS.get(str(method), method), "runs": len(group)}
        | {
            title: with_interval(group[name].mean(), mean_half_width(group[name]), digits=3)
            for name, title in _MEASURES.items()
        }
        for method, group in summary.groupby("method", sort=False)
    ]
    dataset = _dataset(run)
    grid = torch.linspace(dataset.x_low, dataset.x_high, 101)
    quartiles = curve_quartiles(dataset, grid)
    true = float((quartiles[1] - quartiles[0]).mean())
    inside = f"{dataset.x_low:g} to {dataset.x_high:g}"
    note = (
        f"Inside is the range of the training points, x from {inside}, where the true central 50 % are {true:.3f} wide."
    )
    return markdown(pd.DataFrame(rows)) + f"\n{note} ± is the 95 % interval over seeds.\n"


def _draw(panels: list[tuple[Run, str]], output: Path) -> None:
    figure = Figure(figsize=(5 * len(panels), 4), layout="constrained")
    row = figure.subplots(1, len(panels), sharex=True, sharey=True, squeeze=False)[0]
    for axes, (run, title) in zip(row, panels, strict=True):
        train, _ = curve_points(_dataset(run), run.seed)
        predictions = run.predictions()
        draw_predictive(axes, predictions, train.inputs[:, 0], train.labels)
        for quartile in curve_quartiles(_dataset(run), torch.tensor(predictions["x"].to_numpy())):
            axes.plot(predictions["x"], quartile, ":", color="black", lw=1, label="true 25 and 75 %")
        axes.set_title(f"{title}, seed {run.seed}")
    lines = dict(zip(*reversed(row[0].get_legend_handles_labels()), strict=True))
    figure.legend(lines.values(), lines.keys(), loc="outside lower center", ncols=len(lines))
    save(figure, output, "figure5")


def _dataset(run: Run) -> RegressionCurveConfig:
    dataset: RegressionCurveConfig = run.options("dataset")
    return dataset
