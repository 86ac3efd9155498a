"""Table 2 of the paper: the test error after weights of low signal-to-noise are removed."""

from pathlib import Path
from typing import Any

import pandas as pd
import torch

from bbbrun.bayes.draws import Draws
from bbbrun.bayes.networks import Network
from bbbrun.bayes.posterior import DiagonalGaussian
from bbbrun.bayes.predictive import class_probabilities
from bbbrun.bayes.pruning import pruning_mask
from bbbrun.bayes.scores import error_percent
from bbbrun.data.images import Images, load_images
from bbbrun.report.groups import mean_and_spread, network_of, parameters, write_runs, write_table
from bbbrun.report.items.table1 import mixture_network
from bbbrun.report.published.paper import published
from bbbrun.runs.reader import Run
from bbbrun.schema.datasets import MnistConfig

REMOVED = (0, 50, 75, 95, 98, 99)  # percent; the paper has all but the last
_DRAWS = 100


def table2(runs: list[Run], output: Path) -> list[str]:
    """Write table2.csv, table2.md and runs.csv into `output`; return messages.

    The network is `mixture_network`, the numbers are means over its seeds. They need the weights and MNIST's test
    images, which are read from the first run's folder of data.
    """
    units, group = mixture_network(runs)
    images = load_images(MnistConfig(**group[0].config["dataset"]), torch.device("cpu"))
    rows = pd.DataFrame([row for run in group for row in prune(run, images)])
    table = mean_and_spread(rows, ["removed"], ["weights", "error", "error_mean"]).drop(columns="weights_std")
    table.insert(1, "units", units)
    # The paper's network has 1200 units.
    table["paper"] = [published("table2", "removed", percent) if units == 1200 else float("nan") for percent in REMOVED]
    write_table(table, output, "table2")
    (output / "table2.md").write_text(_markdown(table), "utf-8")
    write_runs(group, output)
    return [f"{len(group)} runs of 2 x {units} units"]


def prune(run: Run, images: Images) -> list[dict[str, Any]]:
    """A row for each share of weights removed: the number of weights left, and the errors in percent.

    error: of the posterior predictive of _DRAWS draws. error_mean: with w = mu. Both with the removed weights at zero.
    """
    posterior, inputs = DiagonalGaussian(*parameters(run)), images.test.inputs
    network, draws = network_of(run), Draws(run.seed, 0, _DRAWS)
    masks = {percent: pruning_mask(posterior, percent) for percent in REMOVED}
    predictive = {percent: torch.zeros(()) for percent in REMOVED}
    with torch.no_grad():
        for number in range(draws.count):
            weights, _ = draws.sample(posterior, number)
            for percent, mask in masks.items():
                predictive[percent] = predictive[percent] + class_probabilities(network, weights * mask, inputs)
    return [
        {
            "removed": percent,
            "seed": run.seed,
            "weights": int(masks[percent].sum()),
            "error": error_percent(predictive[percent], images.test.labels),
            "error_mean": _error(network, posterior.mu * masks[percent], images),
        }
        for percent in REMOVED
    ]


def _error(network: Network, weights: torch.Tensor, images: Images) -> float:
    return error_percent(class_probabilities(network, weights, images.test.inputs), images.test.labels)


def _markdown(table: pd.DataFrame) -> str:
    lines = ["| removed | weights | test error, percent | with w = mu | paper |", "|---|---|---|---|---|"]
    for _, row in table.iterrows():
        spread = (f" ± {row['error_std']:.2f}", f" ± {row['error_mean_std']:.2f}") if row["runs"] > 1 else ("", "")
        paper = f"{row['paper']:.2f}" if pd.notna(row["paper"]) else ""
        errors = f"{row['error']:.2f}{spread[0]} | {row['error_mean']:.2f}{spread[1]}"
        lines.append(f"| {row['removed']:g} % | {row['weights']:,.0f} | {errors} | {paper} |")
    network = f"2 x {table['units'].iloc[0]} units, scale mixture, {table['runs'].iloc[0]} seed(s)"
    return "\n".join([*lines, "", f"{network}; posterior predictive of {_DRAWS} draws.", ""])
