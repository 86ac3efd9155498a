"""Figure 2 of the paper: the test error on MNIST by epoch, for SGD, dropout and Bayes by Backprop."""

import math
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from bbbrun.report.groups import NothingToShow, write_runs, write_table
from bbbrun.report.items.cells import DROPOUT, MIXTURE, NO_RUN, SGD, last_draws, main_cells
from bbbrun.report.plots import label_of, save, seeds_label
from bbbrun.report.published.paper import published
from bbbrun.report.spread import mean_half_width
from bbbrun.runs.reader import Run

_LAST = 600  # the epoch of the paper's errors in Table 1
_SEEDS_OF_A_BAND = 3


def figure2(runs: list[Run], output: Path) -> list[str]:
    """Write figure2.png, .svg and .csv: the test error by epoch, mean and 95 % interval over seeds; return messages.

    All points of a line are of as many draws. The last epoch may have more, method.final_samples: then it is a cross.
    """
    networks = main_cells(runs, (SGD, DROPOUT, MIXTURE), weights=False)
    if not networks:
        raise NothingToShow(NO_RUN)
    curves = []
    for method, (units, group) in networks.items():
        points = pd.concat([_errors(run) for run in group]).groupby(["epoch", "draws"], dropna=False)["test_error"]
        rows = points.agg(["mean", "std", "count"]).assign(ci95=points.agg(mean_half_width)).reset_index()
        curves.append(rows.assign(method=method, units=units))
    table = pd.concat(curves)
    write_table(table, output, "figure2")
    write_runs([run for _, group in networks.values() for run in group], output)
    figure = Figure(figsize=(7, 5), layout="constrained")
    axes = figure.subplots()
    for (method, (units, _)), rows in zip(networks.items(), curves, strict=True):
        label = f"{method}, 2 x {units}, {seeds_label(rows['count'].max())}"
        few = rows["draws"].min()
        crosses = rows["draws"] > few
        curve, more = rows[~crosses], rows[crosses]
        (line,) = axes.plot(curve["epoch"], curve["mean"], label=label)
        if curve["count"].min() >= _SEEDS_OF_A_BAND:
            low, high = (curve["mean"] + sign * curve["ci95"] for sign in (-1, 1))
            axes.fill_between(curve["epoch"], low, high, color=line.get_color(), alpha=0.2, lw=0)
        if len(more):
            text = f"by {more['draws'].max():g} draws; the line by {few:g}"
            axes.plot(more["epoch"], more["mean"], "x", color=line.get_color(), label=text, clip_on=False)
        paper = published("table1", method, units)
        if rows["epoch"].max() == _LAST and not math.isnan(paper):
            axes.plot(_LAST, paper, "o", color=line.get_color(), alpha=0.5, clip_on=False)
    # The paper's range. The errors of the first epochs lie above it.
    axes.set(xlabel=label_of("epoch"), ylabel=label_of("test_error"), ylim=(0.8, 2.2), xlim=(0, table["epoch"].max()))
    axes.grid(alpha=0.3)
    axes.plot([], [], "o", color="grey", alpha=0.5, label="the paper's at its last epoch")
    figure.legend(loc="outside lower center", ncols=2)
    save(figure, output, "figure2")
    return [f"{len(networks)} methods"]


def _errors(run: Run) -> pd.DataFrame:
    """The run's epoch and test_error, and the draws of each; NaN for a method without draws."""
    rows = run.metrics()[["epoch", "test_error"]]
    draws = pd.Series(run.config["method"].get("test_samples"), rows.index, dtype=float)
    draws.iloc[-1] = last_draws(run)
    return rows.assign(draws=draws)
