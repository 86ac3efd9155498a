"""A run's own figures, as PNG and SVG, and the helpers of all figures: labels, colours, densities."""

import textwrap
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike, NDArray

from bbbrun.tasks.kinds import COLUMNS

_CROSSES = 200  # training points drawn at most
REGRETS = ("cumulative_regret", "cumulative_expected_regret")

# The panels of a learning curve, each with its lines.
_PANELS = (("valid_error", "test_error", "test_error_mean"), ("test_rmse",), ("nll",), ("complexity",))
# The columns by which curves of several settings are compared.
COMPARED = ("valid_error", "test_rmse", "nll", "complexity", "cumulative_expected_regret")


def label_of(name: str) -> str:
    """The axis label of a column of metrics.csv, with its unit."""
    return COLUMNS[name].title


def draw_metrics(metrics: Path, folder: Path, title: str) -> None:
    """Draw metrics.csv: a training's learning curve, or an agent's regret."""
    header = pd.read_csv(metrics, nrows=0).columns
    (regret_curve if "cumulative_regret" in header else learning_curve)(metrics, folder, title)


def learning_curve(metrics: Path, folder: Path, title: str) -> None:
    """Draw error or rmse, training nll and complexity by epoch, from metrics.csv, as learning_curve.png and .svg."""
    rows = pd.read_csv(metrics)
    panels = [names for names in _PANELS if rows.filter(list(names)).notna().to_numpy().any()]
    figure = Figure(figsize=(4.5 * len(panels), 4), layout="constrained")
    for axes, names in zip(figure.subplots(1, len(panels)), panels, strict=True):
        _panel(axes, rows, names)
    figure.suptitle(title)
    save(figure, folder, "learning_curve")


def compared_curves(curves: pd.DataFrame, keys: list[str], time: str, folder: Path) -> None:
    """Draw the columns of COMPARED over `time`, a line for each combination of the keys, as curves.png and .svg."""
    names = [name for name in COMPARED if name in curves and curves[name].notna().any()]
    groups = dict(iter(curves.groupby(keys, dropna=False, sort=False)))
    labels, shared = labels_of_settings(keys, groups)
    figure = Figure(figsize=(4.5 * len(names), 4.5 + 0.08 * len(labels)), layout="constrained")
    panels = figure.subplots(1, len(names), squeeze=False)[0]
    for axes, name in zip(panels, names, strict=True):
        for number, (label, rows) in enumerate(zip(labels, groups.values(), strict=True)):
            color, style = color_and_variant(number, ("-", "--", ":"))
            marker = "" if len(rows) > 1 else "o"
            axes.plot(rows[time], rows[name], label=label, marker=marker, color=color, linestyle=style)
        # The first values are orders of magnitude above the rest.
        if (curves[name].dropna() > 0).all():
            axes.set_yscale("log")
        axes.set(xlabel=label_of(time), ylabel=label_of(name))
        axes.grid(alpha=0.3, which="both")
    lines = panels[0].get_legend_handles_labels()
    figure.legend(
        *lines, loc="outside lower center", ncols=2, fontsize=7, title=textwrap.fill(shared, 200), title_fontsize=7
    )
    save(figure, folder, "curves")


def labels_of_settings(keys: list[str], combinations: Iterable[Sequence[Any]]) -> tuple[list[str], str]:
    """A label for each combination of the keys' values, and a line that names the values most of them share.

    A label leaves out the values in that line.
    """
    names = [key.removesuffix(".name").split(".")[-1] for key in keys]
    texts = [[_short(value) for value in row] for row in combinations]
    counts = [Counter(column).most_common(1)[0] for column in zip(*texts, strict=True)]
    common = [value if 2 * count > len(texts) else "" for value, count in counts]
    labels = [
        [f"{name} {text}" for name, text, most in zip(names, row, common, strict=True) if text not in ("", most)]
        for row in texts
    ]
    shared = ", ".join(f"{name} {most}" for name, most in zip(names, common, strict=True) if most)
    return [", ".join(label) or "all as said" for label in labels], f"where not said: {shared}" if shared else ""


def color_and_variant(number: int, variants: Sequence[str]) -> tuple[str, str]:
    """The colour of curve `number`, and its line style or marker, another one each time the ten colours recur."""
    return f"C{number % 10}", variants[number // 10 % len(variants)]


def seeds_label(count: int) -> str:
    """The number of seeds, in words."""
    return f"{count} seed{'s' if count > 1 else ''}"


def density(values: NDArray[np.floating], edges: NDArray[np.floating]) -> NDArray[np.floating]:
    """A histogram per unit of `values`, which integrates to the share of the values inside the edges."""
    heights: NDArray[np.floating] = np.histogram(values, edges)[0] / (len(values) * np.diff(edges))
    return heights


def _short(value: Any) -> str:
    """The value as text, of a number with a fraction four significant digits."""
    text = str(value)
    try:
        return f"{float(text):.4g}" if "." in text else text
    except ValueError:
        return text


def predictive_band(predictions: pd.DataFrame, x: ArrayLike, y: ArrayLike, folder: Path, title: str) -> None:
    """Draw the training points (x, y) and the predictive distribution as predictive.png and .svg."""
    figure = Figure(figsize=(6, 4.5), layout="constrained")
    axes = figure.subplots()
    draw_predictive(axes, predictions, x, y)
    axes.legend(loc="upper left")
    figure.suptitle(title)
    save(figure, folder, "predictive")


def draw_predictive(axes: Axes, predictions: pd.DataFrame, x: ArrayLike, y: ArrayLike) -> None:
    """Draw the points as crosses, the median, and the interquartile ranges of the predictive and of the draws' means.

    A single network has no range of draws. Of many points the first are drawn, as more would hide the curve.
    """
    grid = predictions["x"]
    axes.fill_between(grid, predictions["q25"], predictions["q75"], color="#7fb2d9", lw=0, label="25-75 %")
    if (predictions["f_q25"] < predictions["f_q75"]).any():
        axes.fill_between(grid, predictions["f_q25"], predictions["f_q75"], color="#cfe3f2", lw=0, label="draws alone")
    points = np.column_stack((x, y))
    label = "training data" if len(points) <= _CROSSES else f"{_CROSSES} of {len(points):,} training points"
    axes.plot(*points[:_CROSSES].T, "kx", ms=4, mew=0.6, label=label)
    axes.plot(grid, predictions["median"], color="tab:red", label="median")
    axes.set(xlabel="x", ylabel="y", xlim=(grid.iloc[0], grid.iloc[-1]))
    axes.grid(alpha=0.3)


def save(figure: Figure, folder: Path, name: str) -> None:
    """Write the figure into `folder` as NAME.png and NAME.svg."""
    folder.mkdir(parents=True, exist_ok=True)
    for ending in ("png", "svg"):
        figure.savefig(folder / f"{name}.{ending}", dpi=150)


def regret_curve(metrics: Path, folder: Path, title: str) -> None:
    """Draw an agent's cumulative regret by interaction, from metrics.csv, as regret_curve.png and .svg."""
    rows = pd.read_csv(metrics)
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for name, style in zip(REGRETS, ("-", "--"), strict=True):
        axes.plot(rows["step"], rows[name], style, label=label_of(name))
    log_regret(axes, rows[list(REGRETS)])
    axes.set(xlabel=label_of("step"), ylabel=label_of(REGRETS[0]))
    axes.grid(alpha=0.3, which="both")
    axes.legend()
    figure.suptitle(title)
    save(figure, folder, "regret_curve")


def log_regret(axes: Axes, regrets: pd.DataFrame) -> None:
    """Show regret on a logarithmic axis without the values at or below zero; on a linear one if all are."""
    if (regrets > 0).any(axis=None):
        axes.set_yscale("log", nonpositive="mask")


def _panel(axes: Axes, rows: pd.DataFrame, names: Sequence[str]) -> None:
    """Draw columns by epoch. Several have a legend and share their unit."""
    for name, style in zip(names, ("-", "-", "--"), strict=False):
        if rows[name].notna().any():
            marker = "o" if len(rows) < 10 else ""
            axes.plot(rows["epoch"], rows[name], style, label=COLUMNS[name].label, marker=marker)
    # Errors and nll fall by orders of magnitude in the first epochs.
    if (rows[list(names)].min(numeric_only=True) > 0).all() and "complexity" not in names:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter("{x:g}")
    title = label_of(names[0]) if len(names) == 1 else COLUMNS[names[0]].unit
    axes.set(xlabel=label_of("epoch"), ylabel=title, xlim=(0, max(rows["epoch"].max(), 1) * 1.02))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3, which="both")
    if len(names) > 1:
        axes.legend()
