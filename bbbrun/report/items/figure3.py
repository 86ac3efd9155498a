"""Figure 3 of the paper: the density of the trained weights, for SGD, dropout and Bayes by Backprop."""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from bbbrun.bayes.draws import Draws
from bbbrun.bayes.methods import build_method
from bbbrun.report.groups import NothingToShow, network_of, parameters, write_runs, write_table
from bbbrun.report.items.cells import DROPOUT, MIXTURE, NO_RUN, SGD, main_cells
from bbbrun.report.plots import density, save
from bbbrun.runs.reader import Run

_BINS = 200


def figure3(runs: list[Run], output: Path) -> list[str]:
    """Write figure3.png, .svg and .csv: the density of the first seed's weights, for Bayes by Backprop of one draw."""
    networks = main_cells(runs, (SGD, DROPOUT, MIXTURE), weights=True)
    if not networks:
        raise NothingToShow(f"{NO_RUN}, or not their weights")
    shown = {method: group[0] for method, (_, group) in networks.items()}
    weights = {method: _weights(run) for method, run in shown.items()}
    edges = np.linspace(-0.2, 0.2, _BINS + 1)  # the paper's range
    densities = {method: density(values, edges) for method, values in weights.items()}
    table = pd.DataFrame({"weight": (edges[1:] + edges[:-1]) / 2} | densities)
    write_table(table, output, "figure3")
    write_runs(shown.values(), output)
    figure = Figure(figsize=(6, 4.5), layout="constrained")
    axes = figure.subplots()
    for method, values in weights.items():
        axes.plot(table["weight"], table[method], label=f"{method}, deviation {values.std():.3f}")
    axes.set(xlabel="weight", ylabel="density", xlim=(edges[0], edges[-1]))
    axes.grid(alpha=0.3)
    figure.legend(loc="outside lower center")
    save(figure, output, "figure3")
    return [f"{len(weights)} methods"]


def _weights(run: Run) -> NDArray[np.float32]:
    """The weights (P,) of a single network, or one draw of them from the posterior."""
    method = build_method(run.options("method"))
    return method.draw(network_of(run), parameters(run), Draws(run.seed, 0, 1), 0).numpy()
