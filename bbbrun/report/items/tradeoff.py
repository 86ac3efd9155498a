"""What settings cost in validation error and in weights: how many of them can be removed."""

import textwrap
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from matplotlib.figure import Figure

from bbbrun.bayes.methods import BayesByBackprop
from bbbrun.bayes.networks import Network, build_network
from bbbrun.bayes.posterior import DiagonalGaussian
from bbbrun.bayes.predictive import class_probabilities
from bbbrun.bayes.pruning import kept
from bbbrun.bayes.scores import error_percent
from bbbrun.data.images import Images, Split, load_images
from bbbrun.errors import UserError
from bbbrun.report.by import markdown, mean_and_spread
from bbbrun.report.plots import save, told_apart
from bbbrun.runs.identity import differing, setting
from bbbrun.runs.reader import NothingToShow, Run, latest, write_runs
from bbbrun.schema.config import option
from bbbrun.schema.datasets import MnistConfig

REMOVED = (0, 50, 75, 90, 95, 98, 99)  # percent
_COLUMN = 60  # letters of a label that half the figure's width holds
TOLERATED = 0.1  # points of error that removing weights may cost


def tradeoff(runs: list[Run], output: Path) -> list[str]:
    """Write tradeoff.csv, .md, .png and .svg into `output`: a row for each setting of Bayes by Backprop on MNIST.

    valid_error: with w = mu. removable: the largest share of the weights, percent, without which, and without any
    smaller one, that error is at most TOLERATED higher. Means over seeds; the columns before them are the keys in
    which the settings differ. On validation images alone: this is what settings are chosen by.
    """
    groups: dict[frozenset[tuple[str, str]], list[Run]] = {}
    for run in runs:
        if (
            run.has_weights
            and run.dataset == "mnist"
            and run.method == BayesByBackprop.name
            and run.config["dataset"]["valid_size"]
        ):
            groups.setdefault(setting(run.config), []).append(run)
    if len(groups) < 2:
        raise NothingToShow("no two settings of experiment=mnist method=bbb with a validation set and their weights")
    keys = sorted(set().union(*(differing(told, next(iter(groups))) for told in groups)))
    rows, lines = [], []
    judged: list[Run] = []
    images: dict[str, Images] = {}
    for told, group in groups.items():
        names = {key: dict(told).get(key, "") for key in keys}
        for run in latest(group, lambda run: run.seed):
            try:
                rows.append(names | measured(run, images))
                judged.append(run)
            except UserError as error:
                lines.append(f"left out: {error}")
    if not rows:
        raise NothingToShow("; ".join(dict.fromkeys(lines)))
    table = mean_and_spread(pd.DataFrame(rows), keys, ["valid_error", "removable"]).sort_values("valid_error")
    output.mkdir(parents=True, exist_ok=True)
    table.to_csv(output / "tradeoff.csv", index=False, float_format="%.6g")
    write_runs(judged, output)
    labels, rest = told_apart(keys, table[keys].itertuples(index=False))
    shown = table[["runs", "valid_error", "removable"]]
    shown.insert(0, "setting", labels)
    (output / "tradeoff.md").write_text("\n".join(filter(None, [markdown(shown), rest])) + "\n")
    save(_figure(shown, rest), output, "tradeoff")
    return [*lines, f"{len(table)} settings, {len(rows)} runs, which differ in {', '.join(keys)}"]


def measured(run: Run, images: dict[str, Images]) -> dict[str, Any]:
    """valid_error and removable of one run. images: those loaded so far, by their configuration."""
    dataset = run.config["dataset"]
    if str(dataset) not in images:
        images[str(dataset)] = load_images(MnistConfig(**dataset), torch.device("cpu"))
    valid = images[str(dataset)].valid
    network = build_network(
        option("network", run.config["network"]), valid.inputs.shape[1:], images[str(dataset)].classes
    )
    errors = pruned_errors(network, DiagonalGaussian(*run.tensors()[: BayesByBackprop.tensors]), valid)
    return {"valid_error": errors[0], "removable": removable(errors)}


def pruned_errors(network: Network, posterior: DiagonalGaussian, valid: Split) -> dict[int, float]:
    """The validation error, percent, of w = mu without each share of REMOVED."""
    return {
        percent: error_percent(
            class_probabilities(network, posterior.mu * kept(posterior, percent), valid.inputs), valid.labels
        )
        for percent in REMOVED
    }


def removable(errors: dict[int, float]) -> int:
    """The largest share up to which removing weights costs at most TOLERATED."""
    share = 0
    for percent in sorted(errors):
        if errors[percent] > errors[0] + TOLERATED:
            break
        share = percent
    return share


def _figure(table: pd.DataFrame, rest: str) -> Figure:
    columns = 2 if table["setting"].str.len().max() <= _COLUMN else 1
    figure = Figure(figsize=(7, 4.5 + 0.2 / columns * len(table)), layout="constrained")
    axes = figure.subplots()
    for number, (_, row) in enumerate(table.iterrows()):
        # A colour of the ten that comes back does so with another marker.
        color, marker = f"C{number % 10}", "os^v"[number // 10 % 4]
        axes.plot(row["removable"], row["valid_error"], marker, color=color, label=row["setting"])
    axes.set(
        xlabel=f"weights that can be removed for at most {TOLERATED} points of error (percent)",
        ylabel="validation error with w = mu (percent)",
    )
    axes.grid(alpha=0.3)
    figure.legend(
        loc="outside lower center", ncols=columns, fontsize=7, title=textwrap.fill(rest, 110), title_fontsize=7
    )
    return figure
