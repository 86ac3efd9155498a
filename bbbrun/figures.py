"""Figures out of a run's files, as PNG and SVG."""

from pathlib import Path

import matplotlib
import pandas as pd

matplotlib.use("Agg")

import matplotlib.pyplot as plt


def learning_curve(metrics: Path, folder: Path, title: str) -> None:
    """Draw error (percent) and the objective's parts by epoch out of metrics.csv as learning_curve.png and .svg."""
    rows = pd.read_csv(metrics)
    figure, (errors, objective) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    marker = "o" if len(rows) == 1 else None
    for column, label in (
        ("valid_error", "validation"),
        ("test_error", "test"),
        ("test_error_mean", "test, w = mu"),
    ):
        if rows[column].notna().any():
            errors.plot(rows["epoch"], rows[column], label=label, marker=marker)
    errors.set(xlabel="epoch", ylabel="error (percent)", title=title)
    errors.legend()
    objective.plot(rows["epoch"], rows["nll"], color="C0", label="nll", marker=marker)
    objective.set(xlabel="epoch", ylabel="training nll (nats per example)")
    lines = objective.get_lines()
    if rows["complexity"].notna().any():
        right = objective.twinx()
        lines += right.plot(rows["epoch"], rows["complexity"], color="C1", label="complexity", marker=marker)
        right.set_ylabel("complexity (nats)")
    objective.legend(lines, [str(line.get_label()) for line in lines])
    folder.mkdir(exist_ok=True)
    for ending in ("png", "svg"):
        figure.savefig(folder / f"learning_curve.{ending}", dpi=150)
    plt.close(figure)
