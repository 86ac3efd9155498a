"""The trade-off between settings: their validation error, and the share of weights that can be removed."""

import textwrap
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from matplotlib.figure import Figure

from bbbrun.bayes.methods import BayesByBackprop
from bbbrun.bayes.networks import Network
from bbbrun.bayes.posterior import DiagonalGaussian
from bbbrun.bayes.predictive import class_probabilities
from bbbrun.bayes.pruning import pruning_mask
from bbbrun.bayes.scores import error_percent
from bbbrun.data.images import Images, Split, load_images
from bbbrun.errors import UserError
from bbbrun.report.groups import (
    NothingToShow,
    grouped,
    markdown,
    mean_and_spread,
    network_of,
    one_per_seed,
    parameters,
    write_runs,
    write_table,
)
from bbbrun.report.plots import color_and_variant, label_of, labels_of_settings, save
from bbbrun.runs.identity import differing, setting
from bbbrun.runs.reader import Run

REMOVED = (0, 50, 75, 90, 95, 98, 99)  # percent
_COLUMN = 60  # characters that half the figure's width holds
TOLERATED = 0.1  # points of error that removing weights may add


def tradeoff(runs: list[Run], output: Path) -> list[str]:
    """Write tradeoff.csv, .md, .png and .svg into `output`: a row for each setting of Bayes by Backprop on MNIST.

    The first columns are the keys in which the settings differ. valid_error: percent, with w = mu. removable: percent
    of the weights, as `removable` gives it. Both are means over seeds. They use the validation images only, since
    settings are chosen by them.
    """
    groups = grouped(filter(_has_validation_error, runs), lambda run: setting(run.config, "dataset.test"))
    if len(groups) < 2:
        raise NothingToShow("no two settings of experiment=mnist method=bbb with a validation set and their weights")
    keys = sorted(set().union(*(differing(each, next(iter(groups))) for each in groups)))
    rows, messages = [], []
    measured: list[Run] = []
    images: dict[str, Images] = {}
    for key_values, group in groups.items():
        values = {key: dict(key_values).get(key, "") for key in keys}
        for run in one_per_seed(group):
            try:
                rows.append(values | _measurements(run, images))
                measured.append(run)
            except UserError as error:
                messages.append(f"left out: {error}")
    if not rows:
        raise NothingToShow("; ".join(dict.fromkeys(messages)))
    table = mean_and_spread(pd.DataFrame(rows), keys, ["valid_error", "removable"]).sort_values("valid_error")
    write_table(table, output, "tradeoff")
    write_runs(measured, output)
    labels, shared = labels_of_settings(keys, table[keys].itertuples(index=False))
    shown = table[["runs", "valid_error", "removable"]]
    shown.insert(0, "setting", labels)
    (output / "tradeoff.md").write_text("\n".join(filter(None, [markdown(shown), shared])) + "\n", "utf-8")
    save(_figure(shown, shared), output, "tradeoff")
    return [*messages, f"{len(table)} settings, {len(rows)} runs, which differ in {', '.join(keys)}"]


def _has_validation_error(run: Run) -> bool:
    """Whether the run has weights of Bayes by Backprop on MNIST, and validation images to judge them by."""
    bayes_on_mnist = run.dataset == "mnist" and run.method == BayesByBackprop.name
    return bayes_on_mnist and run.has_weights and bool(run.config["dataset"]["valid_size"])


def _measurements(run: Run, images: dict[str, Images]) -> dict[str, Any]:
    """valid_error and removable of one run. images: those loaded so far, by their configuration; grows."""
    dataset = run.config["dataset"]
    if str(dataset) not in images:
        images[str(dataset)] = load_images(run.options("dataset"), torch.device("cpu"))
    loaded = images[str(dataset)]
    errors = pruned_errors(network_of(run), DiagonalGaussian(*parameters(run)), loaded.valid)
    return {"valid_error": errors[0], "removable": removable(errors)}


def pruned_errors(network: Network, posterior: DiagonalGaussian, valid: Split) -> dict[int, float]:
    """The validation error, percent, with w = mu, after each share of REMOVED is set to zero."""
    return {
        percent: error_percent(
            class_probabilities(network, posterior.mu * pruning_mask(posterior, percent), valid.inputs), valid.labels
        )
        for percent in REMOVED
    }


def removable(errors: dict[int, float]) -> int:
    """The largest share of weights, percent, up to which every removal raises the error by at most TOLERATED."""
    share = 0
    for percent in sorted(errors):
        if errors[percent] > errors[0] + TOLERATED + 1e-9:  # a rate at the bound is none above it
            break
        share = percent
    return share


def _figure(table: pd.DataFrame, shared: str) -> Figure:
    columns = 2 if table["setting"].str.len().max() <= _COLUMN else 1
    figure = Figure(figsize=(7, 4.5 + 0.2 / columns * len(table)), layout="constrained")
    axes = figure.subplots()
    for number, (_, row) in enumerate(table.iterrows()):
        color, marker = color_and_variant(number, "os^v")
        axes.plot(row["removable"], row["valid_error"], marker, color=color, label=row["setting"])
    axes.set(
        xlabel=f"weights that can be removed for at most {TOLERATED} points of error (percent)",
        ylabel=label_of("valid_error_mean"),
    )
    axes.grid(alpha=0.3)
    figure.legend(
        loc="outside lower center", ncols=columns, fontsize=7, title=textwrap.fill(shared, 110), title_fontsize=7
    )
    return figure
