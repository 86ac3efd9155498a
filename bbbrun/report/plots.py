"""Figures out of a run's files, as PNG and SVG."""

import textwrap
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

_PANELS = (
    ("error (percent)", {"valid_error": "validation", "test_error": "test", "test_error_mean": "test, w = mu"}),
    ("test rmse", {"test_rmse": "test"}),
    ("training nll (nats per example)", {"nll": "nll"}),
    ("complexity (nats)", {"complexity": "complexity"}),
)

# What curves of several settings are compared by.
COMPARED = {
    "valid_error": "validation error (percent)",
    "test_rmse": "test rmse",
    "nll": "training nll (nats per example)",
    "complexity": "complexity (nats)",
    "cumulative_expected_regret": "cumulative expected regret",
}


def draw_metrics(metrics: Path, folder: Path, title: str) -> None:
    """Draw what metrics.csv holds: a training's learning curve, or an agent's regret."""
    header = pd.read_csv(metrics, nrows=0).columns
    (regret_curve if "cumulative_regret" in header else learning_curve)(metrics, folder, title)


def learning_curve(metrics: Path, folder: Path, title: str) -> None:
    """Draw error or rmse, training nll and complexity by epoch, out of metrics.csv, as learning_curve.png and .svg."""
    rows = pd.read_csv(metrics)
    panels = [(label, lines) for label, lines in _PANELS if rows.filter(list(lines)).notna().to_numpy().any()]
    figure = Figure(figsize=(4.5 * len(panels), 4), layout="constrained")
    for axes, (label, lines) in zip(figure.subplots(1, len(panels)), panels, strict=True):
        _panel(axes, rows, label, lines)
    figure.suptitle(title)
    save(figure, folder, "learning_curve")


def compared_curves(curves: pd.DataFrame, keys: list[str], time: str, folder: Path) -> None:
    """Draw the columns of COMPARED over `time`, a line for each combination of the keys, as curves.png and .svg."""
    names = [name for name in COMPARED if name in curves and curves[name].notna().any()]
    groups = dict(iter(curves.groupby(keys, dropna=False, sort=False)))
    labels, rest = told_apart(keys, groups)
    figure = Figure(figsize=(4.5 * len(names), 4.5 + 0.08 * len(labels)), layout="constrained")
    panels = figure.subplots(1, len(names), squeeze=False)[0]
    for axes, name in zip(panels, names, strict=True):
        for number, (label, rows) in enumerate(zip(labels, groups.values(), strict=True)):
            # A colour of the ten that comes back does so with another style.
            style = {"color": f"C{number % 10}", "linestyle": ("-", "--", ":")[number // 10 % 3]}
            axes.plot(rows[time], rows[name], label=label, marker="" if len(rows) > 1 else "o", **style)
        # Large at the start; what matters comes after.
        if (curves[name].dropna() > 0).all():
            axes.set_yscale("log")
        axes.set(xlabel="interaction" if time == "step" else time, ylabel=COMPARED[name])
        axes.grid(alpha=0.3, which="both")
    lines = panels[0].get_legend_handles_labels()
    figure.legend(
        *lines, loc="outside lower center", ncols=2, fontsize=7, title=textwrap.fill(rest, 200), title_fontsize=7
    )
    save(figure, folder, "curves")


def told_apart(keys: list[str], combinations: Iterable[Sequence[Any]]) -> tuple[list[str], str]:
    """A label for each combination of the keys' values, of those that most do not share, and a line with the others."""
    names = [key.removesuffix(".name").split(".")[-1] for key in keys]
    texts = [[_short(value) for value in row] for row in combinations]
    counts = [Counter(column).most_common(1)[0] for column in zip(*texts, strict=True)]
    shared = [value if 2 * count > len(texts) else "" for value, count in counts]
    told = [
        [f"{name} {text}" for name, text, most in zip(names, row, shared, strict=True) if text not in ("", most)]
        for row in texts
    ]
    rest = ", ".join(f"{name} {most}" for name, most in zip(names, shared, strict=True) if most)
    return [", ".join(label) or "all as said" for label in told], f"where not said: {rest}" if rest else ""


def _short(value: Any) -> str:
    """The value as text, a broken number, or the text of one, in four digits."""
    text = str(value)
    try:
        return f"{float(text):.4g}" if "." in text else text
    except ValueError:
        return text


def predictive_band(predictions: pd.DataFrame, x: ArrayLike, y: ArrayLike, folder: Path, title: str) -> None:
    """Draw the training points (x, y) and the predictions over them as predictive.png and .svg."""
    figure = Figure(figsize=(6, 4.5), layout="constrained")
    axes = figure.subplots()
    draw_predictive(axes, predictions, x, y)
    axes.legend(loc="upper left")
    figure.suptitle(title)
    save(figure, folder, "predictive")


def draw_predictive(axes: Axes, predictions: pd.DataFrame, x: ArrayLike, y: ArrayLike) -> None:
    """Crosses for the points, the median, and the interquartile bands: predictive, and of the draws' means alone.

    Draws that agree, as those of a single network do, have no band of their own.
    """
    grid = predictions["x"]
    axes.fill_between(grid, predictions["q25"], predictions["q75"], color="#7fb2d9", lw=0, label="25-75 %")
    if (predictions["f_q25"] < predictions["f_q75"]).any():
        axes.fill_between(grid, predictions["f_q25"], predictions["f_q75"], color="#cfe3f2", lw=0, label="draws alone")
    axes.plot(x, y, "kx", ms=4, mew=0.6, label="training data")
    axes.plot(grid, predictions["median"], color="tab:red", label="median")
    axes.set(xlabel="x", ylabel="y", xlim=(grid.iloc[0], grid.iloc[-1]))
    axes.grid(alpha=0.3)


def save(figure: Figure, folder: Path, name: str) -> None:
    """Write the figure into `folder` as NAME.png and NAME.svg."""
    folder.mkdir(parents=True, exist_ok=True)
    for ending in ("png", "svg"):
        figure.savefig(folder / f"{name}.{ending}", dpi=150)


def regret_curve(metrics: Path, folder: Path, title: str) -> None:
    """Draw an agent's cumulative regret by interaction out of metrics.csv as regret_curve.png and .svg."""
    rows = pd.read_csv(metrics)
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot(rows["step"], rows["cumulative_regret"], label="as rewarded")
    axes.plot(rows["step"], rows["cumulative_expected_regret"], "--", label="expected")
    log_regret(axes, rows[["cumulative_regret", "cumulative_expected_regret"]])
    axes.set(xlabel="interaction", ylabel="cumulative regret")
    axes.grid(alpha=0.3, which="both")
    axes.legend()
    figure.suptitle(title)
    save(figure, folder, "regret_curve")


def log_regret(axes: Axes, regrets: pd.DataFrame) -> None:
    """Show regret on a logarithmic axis, which leaves out what luck put at or below zero; linear if that is all."""
    if (regrets > 0).any(axis=None):
        axes.set_yscale("log", nonpositive="mask")


def _panel(axes: Axes, rows: pd.DataFrame, label: str, lines: dict[str, str]) -> None:
    for (column, name), style in zip(lines.items(), ("-", "-", "--"), strict=False):
        if rows[column].notna().any():
            axes.plot(rows["epoch"], rows[column], style, label=name, marker="o" if len(rows) < 10 else "")
    # Errors and nll fall by orders of magnitude in the first epochs; what matters comes after.
    if (rows[list(lines)].min(numeric_only=True) > 0).all() and "complexity" not in lines:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter("{x:g}")
    axes.set(xlabel="epoch", ylabel=label, xlim=(0, max(rows["epoch"].max(), 1) * 1.02))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3, which="both")
    if len(lines) > 1:
        axes.legend()
