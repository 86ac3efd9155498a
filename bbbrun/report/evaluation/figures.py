"""The figures of `bbbrun evaluate`: calibration, abstaining, foreign inputs, and harder inputs."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from bbbrun.bayes.uncertainty import ClassPrediction
from bbbrun.report.plots import color_and_variant, save
from bbbrun.tasks.evaluation import CLASSES, risks

Shown = dict[str, list[ClassPrediction]]  # method -> the predictions of each seed's run

_BINS = 15  # of confidence
_TITLES = {column.name: column.title for column in CLASSES}
_UNITS = {"rotated": "rotation (degrees)", "shifted": "shift (pixels)"}


def draw_reliability(shown: Shown, labels: NDArray[Any], folder: Path, name: str) -> None:
    """Draw accuracy against confidence, in equally wide bins, the runs of a method taken together."""
    figure, axes = _axes(1)
    axes[0].plot([0, 1], [0, 1], "k:", lw=1)
    for number, (method, predictions) in enumerate(shown.items()):
        probabilities = np.concatenate([each.probabilities.numpy() for each in predictions])
        confidence = probabilities.max(axis=1)
        right = probabilities.argmax(axis=1) == np.tile(labels, len(predictions))
        index = np.clip((confidence * _BINS).astype(int), 0, _BINS - 1)
        filled = np.flatnonzero(np.bincount(index, minlength=_BINS) >= 5)
        points = [(confidence[index == each].mean(), right[index == each].mean()) for each in filled]
        color, marker = color_and_variant(number, ("o", "s", "^"))
        axes[0].plot(*np.transpose(points), marker=marker, color=color, label=method)
    axes[0].set(xlabel="confidence", ylabel="accuracy", title="bins of 5 examples or more")
    _finish(figure, axes, folder, name)


def draw_risk(shown: Shown, labels: NDArray[Any], folder: Path, name: str) -> None:
    """Draw the error of the most confident predictions over their share, the mean over the runs of a method."""
    figure, axes = _axes(1)
    for number, (method, predictions) in enumerate(shown.items()):
        risk = 100 * np.mean([risks(each, labels).numpy() for each in predictions], axis=0)
        color, style = color_and_variant(number, ("-", "--", ":"))
        axes[0].plot(100 * np.arange(1, len(risk) + 1) / len(risk), risk, style, color=color, label=method)
    axes[0].set(xlabel="coverage (percent)", ylabel="error of what is covered (percent)")
    _finish(figure, axes, folder, name)


def draw_foreign(test: Shown, foreign: Shown, folder: Path, title: str) -> None:
    """Draw histograms of the predictive's entropy on the test set and on foreign inputs, a panel for each method."""
    figure, axes = _axes(len(foreign))
    most = np.log(next(iter(foreign.values()))[0].probabilities.shape[1])
    edges = list(np.linspace(0, most, 41))
    for panel, method in zip(axes, foreign, strict=True):
        for predictions, label in ((test[method], "test set"), (foreign[method], title)):
            entropies = np.concatenate([each.total.numpy() for each in predictions])
            shares = np.full(len(entropies), 100 / len(entropies))
            panel.hist(entropies, edges, weights=shares, histtype="step", label=label)
        panel.set(xlabel=_TITLES["entropy"], ylabel="inputs (percent)", title=method, yscale="log")
    _finish(figure, axes, folder, "entropy")


def draw_levels(rows: pd.DataFrame, folder: Path, name: str) -> None:
    """Draw error, entropy and epistemic uncertainty over the level, such as the angle, a line for each method."""
    names = ("error", "entropy", "epistemic")
    figure, axes = _axes(len(names))
    for number, (method, group) in enumerate(rows.groupby("method", sort=False)):
        color, style = color_and_variant(number, ("-", "--", ":"))
        for panel, column in zip(axes, names, strict=True):
            panel.plot(group["level"], group[column], style, color=color, label=method)
            if group[f"{column}_ci95"].notna().any():
                low, high = (group[column] + sign * group[f"{column}_ci95"] for sign in (-1, 1))
                panel.fill_between(group["level"], low, high, color=color, alpha=0.15, lw=0)
    for panel, column in zip(axes, names, strict=True):
        panel.set(xlabel=_UNITS.get(name, "level"), ylabel=_TITLES[column])
    _finish(figure, axes, folder, name)


def _axes(panels: int) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(4.8 * panels, 4), layout="constrained")
    return figure, list(figure.subplots(1, panels, squeeze=False)[0])


def _finish(figure: Figure, axes: list[Axes], folder: Path, name: str) -> None:
    for panel in axes:
        panel.grid(alpha=0.3)
    if axes[0].get_legend_handles_labels()[0]:  # of few rows there may be none
        axes[0].legend(fontsize=8)
    folder.mkdir(parents=True, exist_ok=True)
    save(figure, folder, name)
