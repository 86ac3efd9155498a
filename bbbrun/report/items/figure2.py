"""Figure 2 of the paper: the test error on MNIST by epoch, for SGD, dropout and Bayes by Backprop."""

import math
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from bbbrun.report.groups import NothingToShow, write_runs, write_table
from bbbrun.report.items.table1 import DROPOUT, MIXTURE, NO_RUN, SGD, main_cells
from bbbrun.report.plots import label_of, save, seeds_label
from bbbrun.report.published.paper import published
from bbbrun.runs.reader import Run

_LAST = 600  # the epoch of the paper's errors in Table 1


def figure2(runs: list[Run], output: Path) -> list[str]:
    """Write figure2.png, .svg and .csv: the test error by epoch, the mean over seeds; return messages.

    The last epoch may use more draws than the others: method.final_samples.
    """
    networks = main_cells(runs, (SGD, DROPOUT, MIXTURE), weights=False)
    if not networks:
        raise NothingToShow(NO_RUN)
    curves = []
    for method, (units, group) in networks.items():
        rows = pd.concat([run.metrics()[["epoch", "test_error"]] for run in group])
        errors = rows.groupby("epoch")["test_error"].agg(["mean", "std", "count"]).reset_index()
        curves.append(errors.assign(method=method, units=units))
    table = pd.concat(curves)
    write_table(table, output, "figure2")
    write_runs([run for _, group in networks.values() for run in group], output)
    figure = Figure(figsize=(7, 5), layout="constrained")
    axes = figure.subplots()
    for (method, (units, _)), rows in zip(networks.items(), curves, strict=True):
        label = f"{method}, 2 x {units}, {seeds_label(rows['count'].max())}"
        (line,) = axes.plot(rows["epoch"], rows["mean"], label=label)
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
