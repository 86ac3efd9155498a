"""Table 2 of the paper: the test error after weights of low signal-to-noise are removed."""

from pathlib import Path
from typing import Any

import pandas as pd
import torch
from tqdm import tqdm

from bbbrun.bayes.draws import Draws
from bbbrun.bayes.networks import Network
from bbbrun.bayes.posterior import DiagonalGaussian
from bbbrun.bayes.predictive import class_probabilities
from bbbrun.bayes.pruning import pruning_mask
from bbbrun.bayes.scores import error_percent
from bbbrun.data.images import Images, load_images
from bbbrun.report.groups import mean_and_spread, network_of, parameters, write_runs, write_table
from bbbrun.report.items.cells import MIXTURE, Cell, mixture_networks
from bbbrun.report.plots import seeds_label
from bbbrun.report.published.paper import published
from bbbrun.runs.reader import Run
from bbbrun.runtime.device import choose_device

REMOVED = (0, 50, 75, 95, 98, 99)  # percent; the paper has all but the last
_DRAWS = 100


def table2(runs: list[Run], output: Path) -> list[str]:
    """Write table2.csv, table2.md and runs.csv into `output`; return messages.

    The networks are `mixture_networks`, the numbers are means over the seeds of each. They need the weights and MNIST's
    test images, which are read from the folder of data of the network's first run.
    """
    networks = mixture_networks(runs)
    device, rows = choose_device("auto"), []
    for cell, group in networks.items():
        images = load_images(group[0].options("dataset"), device)
        own = {"temperature": cell.temperature, "units": cell.units}
        rows += [own | row for run in group for row in prune(run, images)]
    keys = ["temperature", "removed", "units"]
    table = mean_and_spread(pd.DataFrame(rows), keys, ["weights", "error", "error_mean"]).drop(columns="weights_std")
    table["paper"] = [_paper(*row) for row in table[keys].itertuples(index=False)]
    write_table(table, output, "table2")
    (output / "table2.md").write_text(_markdown(table), "utf-8")
    write_runs([run for group in networks.values() for run in group], output)
    return [f"{cell.network}, {seeds_label(len(group))}" for cell, group in networks.items()]


def _paper(temperature: float, removed: int, units: int) -> float:
    """The paper's error; NaN where it has none, as of every network but that of temperature 1 and 1200 units."""
    return published("table2", "removed", removed) if temperature == 1 and units == 1200 else float("nan")


def prune(run: Run, images: Images) -> list[dict[str, Any]]:
    """A row for each share of weights removed: the number of weights left, and the errors in percent.

    error: of the posterior predictive of _DRAWS draws. error_mean: with w = mu. Both with the removed weights at zero.
    It is computed where the images are, with draws of the same random bits and the same masks on each device.
    """
    stored, inputs = DiagonalGaussian(*parameters(run)), images.test.inputs
    posterior = DiagonalGaussian(*(each.to(inputs.device) for each in stored))
    network, draws = network_of(run), Draws(run.seed, 0, _DRAWS)
    # By the ratios of the CPU: another device's last bits could order two weights otherwise.
    masks = {percent: pruning_mask(stored, percent).to(inputs.device) for percent in REMOVED}
    predictive = {percent: torch.zeros(()) for percent in REMOVED}
    with torch.no_grad():
        for number in tqdm(range(draws.count), f"table2: {run.folder.name}", disable=None, unit="draw"):
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
    """A table for each network, below a line that names it."""
    return "\n".join(_of_network(rows) for _, rows in table.groupby("temperature", sort=False))


def _of_network(table: pd.DataFrame) -> str:
    units, temperature, seeds = (table[name].iloc[0] for name in ("units", "temperature", "runs"))
    network = Cell(MIXTURE, int(units), float(temperature)).network
    note = "; ± the standard deviation over seeds" if seeds > 1 else ""
    lines = [f"{network}, {seeds_label(seeds)}; posterior predictive of {_DRAWS} draws{note}:", ""]
    lines += ["| removed | weights | test error, percent | with w = mu | paper |", "|---|---|---|---|---|"]
    for _, row in table.iterrows():
        spread = (f" ± {row['error_std']:.2f}", f" ± {row['error_mean_std']:.2f}") if row["runs"] > 1 else ("", "")
        paper = f"{row['paper']:.2f}" if pd.notna(row["paper"]) else ""
        errors = f"{row['error']:.2f}{spread[0]} | {row['error_mean']:.2f}{spread[1]}"
        lines.append(f"| {row['removed']:g} % | {row['weights']:,.0f} | {errors} | {paper} |")
    return "\n".join([*lines, ""])
