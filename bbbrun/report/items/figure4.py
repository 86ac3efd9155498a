"""Figure 4 of the paper: the signal-to-noise of the weights, their density and cumulative distribution."""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.signal import find_peaks

from bbbrun.bayes.posterior import DiagonalGaussian
from bbbrun.bayes.pruning import decibels
from bbbrun.report.groups import parameters, write_runs, write_table
from bbbrun.report.items.table1 import MIXTURE, mixture_network
from bbbrun.report.plots import density, save
from bbbrun.runs.reader import Run

_BINS = 200
_CUT = 75  # percent; the paper's vertical line
# A mode is a peak of a coarse histogram that stands out by this share of the highest bin. Smaller ones are noise.
_COARSE_BINS, _PROMINENCE = 40, 0.02


def figure4(runs: list[Run], output: Path) -> list[str]:
    """Write figure4.png, .svg, .csv and .md: the signal-to-noise in dB of the first seed's weights; return messages."""
    units, group = mixture_network(runs)
    run = group[0]
    ratio = decibels(DiagonalGaussian(*parameters(run))).numpy()
    low, cut, high = np.quantile(ratio, [0.0005, _CUT / 100, 1])
    edges = np.linspace(low, high, _BINS + 1)
    centres = (edges[1:] + edges[:-1]) / 2
    cumulative = np.searchsorted(np.sort(ratio), centres, side="right") / len(ratio)
    table = pd.DataFrame({"decibels": centres, "density": density(ratio, edges), "cumulative": cumulative})
    write_table(table, output, "figure4")
    write_runs([run], output)
    (output / "figure4.md").write_text(_shape(ratio, low, high), "utf-8")
    figure = Figure(figsize=(9, 4), layout="constrained")
    for axes, column in zip(figure.subplots(1, 2), ("density", "cumulative"), strict=True):
        axes.plot(table["decibels"], table[column])
        line = axes.axvline(cut, color="black", lw=1)
        axes.set(xlabel="signal-to-noise (dB)", ylabel=column, xlim=(low, high))
        axes.grid(alpha=0.3)
    figure.legend([line], [f"{_CUT} % of the weights lie below"], loc="outside lower center")
    figure.suptitle(f"{MIXTURE}, 2 x {units}, seed {run.seed}")
    save(figure, output, "figure4")
    return [f"2 x {units} units, seed {run.seed}"]


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
