"""Figure 4 of the paper: the signal-to-noise of the weights, their density and cumulative distribution."""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray
from scipy.signal import find_peaks

from bbbrun.bayes.posterior import DiagonalGaussian
from bbbrun.bayes.pruning import decibels
from bbbrun.report.groups import parameters, write_runs, write_table
from bbbrun.report.items.cells import mixture_networks
from bbbrun.report.plots import density, save
from bbbrun.runs.reader import Run

_BINS = 200
_CUT = 75  # percent; the paper's vertical line
# A mode is a peak of a coarse histogram that stands out by this share of the highest bin. Smaller ones are noise.
_COARSE_BINS, _PROMINENCE = 40, 0.02


def figure4(runs: list[Run], output: Path) -> list[str]:
    """Write figure4.png, .svg, .csv and .md: the signal-to-noise in dB of each network's weights; return messages.

    The networks are `mixture_networks`, each the first of its seeds.
    """
    shown = {cell: group[0] for cell, group in mixture_networks(runs).items()}
    figure = Figure(figsize=(9, 4 + 0.25 * len(shown)), layout="constrained")
    left, right = figure.subplots(1, 2)
    tables, shapes, names, curves = [], [], [], []
    for number, (cell, run) in enumerate(shown.items()):
        ratio = decibels(DiagonalGaussian(*parameters(run))).numpy()
        low, cut, high = np.quantile(ratio, [0.0005, _CUT / 100, 1])
        table = _curves(ratio, low, high)
        names.append(f"{cell.network}, seed {run.seed}")
        shapes.append(f"{names[-1]}. {_shape(ratio, low, high)}")
        for axes, column in ((left, "density"), (right, "cumulative")):
            (curve,) = axes.plot(table["decibels"], table[column], color=f"C{number}")
            axes.axvline(cut, color=f"C{number}", lw=1, ls="--")
            axes.set(xlabel="signal-to-noise (dB)", ylabel=column)
            axes.grid(visible=True, alpha=0.3)
        curves.append(curve)
        table.insert(0, "temperature", cell.temperature)
        tables.append(table)
    write_table(pd.concat(tables), output, "figure4")
    write_runs(shown.values(), output)
    (output / "figure4.md").write_text("\n".join(shapes), "utf-8")
    cuts = Line2D([], [], color="grey", lw=1, ls="--")
    figure.legend([*curves, cuts], [*names, f"{_CUT} % of the weights lie below"], loc="outside lower center")
    save(figure, output, "figure4")
    return names


def _curves(ratio: NDArray[np.floating], low: float, high: float) -> pd.DataFrame:
    """The density and the cumulative distribution of the ratios, dB, between low and high."""
    edges = np.linspace(low, high, _BINS + 1)
    centres = (edges[1:] + edges[:-1]) / 2
    cumulative = np.searchsorted(np.sort(ratio), centres, side="right") / len(ratio)
    return pd.DataFrame({"decibels": centres, "density": density(ratio, edges), "cumulative": cumulative})


def _shape(ratio: NDArray[np.floating], low: float, high: float) -> str:
    """The modes of the density and the share below 0 dB, in words, beside section 5.1 of the paper."""
    counts, edges = np.histogram(ratio, np.linspace(low, high, _COARSE_BINS + 1))
    modes, _ = find_peaks(counts, prominence=_PROMINENCE * counts.max())
    centres = ", ".join(f"{(edges[mode] + edges[mode + 1]) / 2:.0f}" for mode in modes)
    noisy = 100 * (ratio < 0).mean()
    return (
        f"Modes of the density: {len(modes)}, near {centres} dB; the paper's has two. "
        f"{noisy:.1f} % of the weights have sigma above abs(mu), below 0 dB.\n"
    )
