"""Figures 2, 3 and 4 of the paper: error by epoch, density of the weights, signal-to-noise of the weights."""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.signal import find_peaks

from bbbrun.bayes.draws import Draws
from bbbrun.bayes.methods import BayesByBackprop, build_method
from bbbrun.bayes.posterior import DiagonalGaussian
from bbbrun.bayes.pruning import decibels
from bbbrun.report.items.cells import DROPOUT, MIXTURE, SGD, main_cells
from bbbrun.report.plots import save
from bbbrun.runs.reader import NothingToShow, Run, write_runs
from bbbrun.schema.config import option

_SHOWN = (SGD, DROPOUT, MIXTURE)  # of the paper's Figures 2 and 3
_NONE = "no finished run of experiment=mnist of the methods shown"
_BINS = 200
_CUT = 75  # percent; the paper's vertical line
# What is a mode and no noise: of so many bins one that stands out by this share of the highest.
_COARSE, _PROMINENCE = 40, 0.02


def figure2(runs: list[Run], output: Path) -> list[str]:
    """Write figure2.png, .svg and .csv: the test error by epoch, the mean over seeds.

    The last point may be of more draws than the others: method.final_samples.
    """
    found = main_cells(runs, _SHOWN, weights=False)
    if not found:
        raise NothingToShow(_NONE)
    curves = []
    for method, (units, group) in found.items():
        rows = pd.concat([run.metrics()[["epoch", "test_error"]] for run in group])
        errors = rows.groupby("epoch")["test_error"].agg(["mean", "std", "count"]).reset_index()
        curves.append(errors.assign(method=method, units=units))
    table = pd.concat(curves)
    _write(table, output, "figure2", [run for _, group in found.values() for run in group])
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for method, rows in zip(found, curves, strict=True):
        axes.plot(rows["epoch"], rows["mean"], label=f"{method}, 2 x {rows['units'].iloc[0]}, {_seeds(rows['count'])}")
    # The paper's range; the first epochs' errors lie above it.
    axes.set(xlabel="epoch", ylabel="test error (percent)", ylim=(0.8, 2.2), xlim=(0, table["epoch"].max()))
    axes.grid(alpha=0.3)
    axes.legend()
    save(figure, output, "figure2")
    return [f"{len(found)} methods"]


def figure3(runs: list[Run], output: Path) -> list[str]:
    """Write figure3.png, .svg and .csv: the density of the trained weights, one draw of them for Bayes by Backprop."""
    found = main_cells(runs, _SHOWN, weights=True)
    if not found:
        raise NothingToShow(f"{_NONE}, or not their weights")
    shown = {method: group[0] for method, (_, group) in found.items()}
    weights = {method: _weights(run) for method, run in shown.items()}
    edges = np.linspace(-0.2, 0.2, _BINS + 1)  # the paper's range
    densities = {method: _density(values, edges) for method, values in weights.items()}
    table = pd.DataFrame({"weight": (edges[1:] + edges[:-1]) / 2} | densities)
    _write(table, output, "figure3", list(shown.values()))
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for method, values in weights.items():
        axes.plot(table["weight"], table[method], label=f"{method}, deviation {values.std():.3f}")
    axes.set(xlabel="weight", ylabel="density", xlim=(edges[0], edges[-1]))
    axes.grid(alpha=0.3)
    axes.legend()
    save(figure, output, "figure3")
    return [f"{len(weights)} methods"]


def figure4(runs: list[Run], output: Path) -> list[str]:
    """Write figure4.png, .svg, .csv, .md: density and cumulative distribution of the weights' signal-to-noise in dB."""
    found = main_cells(runs, (MIXTURE,), weights=True)
    if not found:
        raise NothingToShow("no finished run of experiment=mnist with the scale mixture, or not its weights")
    units, group = found[MIXTURE]
    ratio = decibels(DiagonalGaussian(*group[0].tensors()[: BayesByBackprop.tensors])).numpy()
    low, cut, high = np.quantile(ratio, [0.0005, _CUT / 100, 1])
    edges = np.linspace(low, high, _BINS + 1)
    table = pd.DataFrame(
        {
            "decibels": (edges[1:] + edges[:-1]) / 2,
            "density": _density(ratio, edges),
            "cumulative": np.searchsorted(np.sort(ratio), (edges[1:] + edges[:-1]) / 2, side="right") / len(ratio),
        }
    )
    _write(table, output, "figure4", group[:1])
    (output / "figure4.md").write_text(_shape(ratio, low, high))
    figure = Figure(figsize=(9, 4), layout="constrained")
    for axes, column in zip(figure.subplots(1, 2), ("density", "cumulative"), strict=True):
        axes.plot(table["decibels"], table[column])
        axes.axvline(cut, color="black", lw=1, label=f"{_CUT} % of the weights lie below")
        axes.set(xlabel="signal-to-noise (dB)", ylabel=column, xlim=(low, high))
        axes.grid(alpha=0.3)
        axes.legend()
    figure.suptitle(f"{MIXTURE}, 2 x {units}, seed {group[0].seed}")
    save(figure, output, "figure4")
    return [f"2 x {units} units, seed {group[0].seed}"]


def _shape(ratio: NDArray[np.floating], low: float, high: float) -> str:
    """What the density looks like, in words, beside section 5.1 of the paper."""
    counts, edges = np.histogram(ratio, np.linspace(low, high, _COARSE + 1))
    modes, _ = find_peaks(counts, prominence=_PROMINENCE * counts.max())
    places = ", ".join(f"{(edges[mode] + edges[mode + 1]) / 2:.0f}" for mode in modes)
    noisy = 100 * (ratio < 0).mean()
    return (
        f"Modes of the density: {len(modes)}, near {places} dB; the paper's has two. {noisy:.1f} % of the weights have "
        "sigma above abs(mu), below 0 dB.\n"
    )


def _weights(run: Run) -> NDArray[np.float32]:
    method = build_method(option("method", run.config["method"]))
    weights = method.draw(run.tensors()[: method.tensors], Draws(run.seed, 0, 1), 0)
    return weights.numpy()


def _density(values: NDArray[np.floating], edges: NDArray[np.floating]) -> NDArray[np.floating]:
    """A histogram over all values, also those outside the edges, so that it integrates to the share inside."""
    density: NDArray[np.floating] = np.histogram(values, edges)[0] / (len(values) * np.diff(edges))
    return density


def _write(table: pd.DataFrame, output: Path, name: str, runs: list[Run]) -> None:
    output.mkdir(parents=True, exist_ok=True)
    table.to_csv(output / f"{name}.csv", index=False, float_format="%.6g")
    write_runs(runs, output)


def _seeds(counts: pd.Series) -> str:
    return f"{counts.max()} seed{'s' if counts.max() > 1 else ''}"
