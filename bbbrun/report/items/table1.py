"""Table 1 of the paper: MNIST's test error, three methods and two priors, three sizes of network."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from bbbrun.bayes.methods import BayesByBackprop
from bbbrun.bayes.one_network import Dropout, MaximumLikelihood
from bbbrun.report.compare import Difference, paired
from bbbrun.report.groups import NothingToShow, by_setting, grouped, markdown, one_per_seed, write_runs, write_table
from bbbrun.report.published.paper import published, standard_error
from bbbrun.report.spread import least_to_most
from bbbrun.runs.reader import Run

SGD, DROPOUT = "SGD", "SGD, dropout"
GAUSSIAN, MIXTURE = "Bayes by Backprop, Gaussian", "Bayes by Backprop, scale mixture"
METHODS = (SGD, DROPOUT, GAUSSIAN, MIXTURE)
_LABELS = {
    (MaximumLikelihood.name, "none"): SGD,
    (Dropout.name, "none"): DROPOUT,
    (BayesByBackprop.name, "gaussian"): GAUSSIAN,
    (BayesByBackprop.name, "scale_mixture"): MIXTURE,
}
_VALIDATION_IMAGES = 10_000  # the paper's
_UNITS = 1200  # the network of Table 2 and Figures 2 to 4
NO_RUN = "no finished run of experiment=mnist of the methods shown"


class Cell(NamedTuple):
    """A cell of Table 1: a method and its units per hidden layer. temperature: 1 is the paper's objective."""

    method: str
    units: int
    temperature: float

    @property
    def row(self) -> str:
        """The name of the cell's row."""
        return self.method if self.temperature == 1 else f"{self.method}, temperature {self.temperature:g}"

    @property
    def network(self) -> str:
        """The name of the cell's network: that of its row, and its size."""
        return f"{self.row}, 2 x {self.units} units"


def cell_of(run: Run) -> Cell | None:
    """The run's cell; None unless it is of MNIST, by the paper's protocol and of a method that has a row."""
    hidden = run.config["network"].get("hidden", []) if run.dataset == "mnist" else []
    label = _LABELS.get((run.method, run.config["prior"]["name"]))
    if len(hidden) != 2 or hidden[0] != hidden[1] or label is None or not _by_protocol(run.config):
        return None
    return Cell(label, int(hidden[0]), float(run.config["method"].get("temperature", 1.0)))


def _by_protocol(config: dict[str, Any]) -> bool:
    """Whether a run has the paper's split and estimator, at temperature 1 its minibatch weights, and a test error."""
    method = config["method"]
    tempered = method.get("temperature", 1.0) != 1
    weighted = tempered or method.get("minibatch_weights", "paper") == "paper"
    dataset = config["dataset"]
    judged = bool(dataset["test"] and dataset["valid_size"] == _VALIDATION_IMAGES)
    return judged and weighted and bool(method.get("estimator", "weights") == "weights")


def cells(runs: Iterable[Run]) -> dict[Cell, list[Run]]:
    """The runs of each cell, one per seed, in the order of the paper's rows.

    Of several settings the one with most epochs is taken, among those the one with most draws at its last evaluation,
    then the one with the lowest mean validation error. The test error has no influence on it.
    """
    chosen = {
        cell: min(map(one_per_seed, by_setting(group).values()), key=_rank)
        for cell, group in grouped(runs, cell_of).items()
        if cell is not None
    }
    order = sorted(chosen, key=lambda cell: (-cell.temperature, METHODS.index(cell.method), cell.units))
    return {cell: chosen[cell] for cell in order}


def _rank(runs: list[Run]) -> tuple[int, int, float]:
    errors = [run.summary["metrics"].get("valid_error", float("inf")) for run in runs]
    return -_epochs(runs[0]), -(last_draws(runs[0]) or 0), sum(errors) / len(errors)


def main_cells(runs: Iterable[Run], methods: tuple[str, ...], *, weights: bool) -> dict[str, tuple[int, list[Run]]]:
    """The units and runs of each method's network at temperature 1: the paper's 1200 units, else the largest.

    weights: only runs that have their weights, and only methods with such runs.
    """
    sizes = _main_sizes(runs, weights).items()
    found = {cell.method: (cell.units, group) for cell, group in sizes if cell.temperature == 1}
    return {method: found[method] for method in methods if method in found}


def mixture_networks(runs: Iterable[Run]) -> dict[Cell, list[Run]]:
    """The runs with weights of the scale mixture's network at each temperature: 1 first, then from high to low.

    Each has the paper's 1200 units, else its largest size. Raises NothingToShow where no network has its weights.
    """
    networks = {cell: group for cell, group in _main_sizes(runs, weights=True).items() if cell.method == MIXTURE}
    if not networks:
        raise NothingToShow("no finished run of experiment=mnist with the scale mixture, or not its weights")
    order = sorted(networks, key=lambda cell: (cell.temperature != 1, -cell.temperature))
    return {cell: networks[cell] for cell in order}


def _main_sizes(runs: Iterable[Run], weights: bool) -> dict[Cell, list[Run]]:
    """The runs of `cells` in one size of each method and temperature: the paper's 1200 units, else the largest.

    weights: only of runs that have their weights.
    """
    groups = cells(run for run in runs if run.has_weights or not weights)
    # The last of each method and temperature stays.
    sizes = sorted(groups, key=lambda cell: (cell.units == _UNITS, cell.units))
    main = {(cell.method, cell.temperature): cell for cell in sizes}.values()
    return {cell: groups[cell] for cell in main}


def table1(runs: list[Run], output: Path) -> list[str]:
    """Write table1.csv, table1.md, runs.csv and paired.csv into `output`; return messages.

    error: percent, of the posterior predictive with the draws of the last evaluation. error_mean: percent, with
    w = mu. Both are means over seeds, beside their standard deviations. difference: our error minus the paper's, in
    points and in standard errors of the paper's. paired.csv: see `paired`; only where runs keep their predictions.
    """
    chosen = cells(runs)
    if not chosen:
        raise NothingToShow("no finished run of experiment=mnist with two equal hidden layers")
    table = pd.DataFrame([row(cell, group) for cell, group in chosen.items()])
    write_table(table, output, "table1")
    text = _markdown(table)
    pairs = paired({(cell.units, cell.row): group for cell, group in chosen.items()})
    if len(pairs):
        write_table(pairs, output, "paired")
        text += f"\n{_paired_text(pairs)}"
    (output / "table1.md").write_text(text, "utf-8")
    shown = [run for group in chosen.values() for run in group]
    write_runs(shown, output, _details)
    rest = sum(run.dataset == "mnist" and not _by_protocol(run.config) for run in runs)
    messages = [f"{len(chosen)} cells, {len(shown)} runs"]
    if rest:
        unlike = "another split, estimator or weighting than the paper's, or without a test error"
        messages.insert(0, f"{rest} runs of {unlike}: left out")
    return messages


def row(cell: Cell, group: list[Run]) -> dict[str, Any]:
    """A row of table1.csv."""
    metrics = pd.DataFrame([run.summary["metrics"] for run in group]).reindex(
        columns=["test_error", "test_error_mean", "valid_error", "test_nll", "test_ece"]
    )
    mean, spread = metrics.mean(), metrics.std()
    paper = published("table1", cell.method, cell.units) if cell.temperature == 1 else float("nan")
    difference = mean["test_error"] - paper
    return {
        "method": cell.method,
        "units": cell.units,
        "temperature": cell.temperature,
        "epochs": _epochs(group[0]),
        "seeds": len(group),
        "draws": last_draws(group[0]),
        "error": mean["test_error"],
        "error_std": spread["test_error"],
        "error_mean": mean["test_error_mean"],
        "error_mean_std": spread["test_error_mean"],
        "valid_error": mean["valid_error"],
        "nll": mean["test_nll"],
        "ece": mean["test_ece"],
        "paper": paper,
        "difference": difference,
        "difference_in_standard_errors": difference / standard_error(paper),
        "seconds": np.mean([run.summary["seconds"] for run in group]),
    }


def _markdown(table: pd.DataFrame) -> str:
    """Errors in the paper's layout, w = mu after a slash, the paper's in brackets; nll and calibration below."""
    counts = [f"{name} {least_to_most(table[name])}" for name in ("epochs", "seeds")]
    draws = f"draws of the posterior predictive {least_to_most(table['draws'])}" if table["draws"].notna().any() else ""
    note = "Error of the posterior predictive, after a slash that with w = mu; the paper's in brackets."
    errors = _by_size(table, "test error, percent", _error)
    scores = _by_size(table, "nll, nats / calibration error, percent", _scores)
    return "\n".join([*errors, "", " ".join([note, ", ".join(filter(None, [*counts, draws])) + "."]), "", *scores, ""])


def _paired_text(pairs: pd.DataFrame) -> str:
    """The pairs as a table: how many images only one network gets wrong, and the difference of the errors."""
    shown = pairs.rename(columns={"only_method": "only the first is wrong", "only_other": "only the second"})
    halves = shown.pop("half")
    shown["difference"] = [Difference(*each).text for each in zip(shown["difference"], halves, strict=True)]
    note = "Image by image, means over the seeds that both have; the difference in points, with its 95 % interval."
    return f"{markdown(shown)}\n{note}\n"


def _by_size(table: pd.DataFrame, title: str, entry: Callable[[pd.Series], str]) -> list[str]:
    """A table with a line for each method and a column for each size."""
    sizes = sorted(table["units"].unique())
    lines = [f"| {title} | " + " | ".join(f"{size} units" for size in sizes) + " |", "|---" * (len(sizes) + 1) + "|"]
    entries: dict[str, dict[int, str]] = {}
    for _, row in table.iterrows():
        name = Cell(row["method"], row["units"], row["temperature"]).row
        entries.setdefault(name, {})[row["units"]] = entry(row)
    rows = {name: " | ".join(row.get(size, "") for size in sizes) for name, row in entries.items()}
    return lines + [f"| {name} | {row} |" for name, row in rows.items()]


def _error(row: pd.Series) -> str:
    mean = f" / {row['error_mean']:.2f}" if pd.notna(row["error_mean"]) else ""
    paper = f" ({row['paper']:.2f})" if pd.notna(row["paper"]) else ""
    return f"{row['error']:.2f}{mean}{paper}"


def _scores(row: pd.Series) -> str:
    return f"{row['nll']:.4f} / {row['ece']:.2f}" if pd.notna(row["nll"]) else ""


def _epochs(run: Run) -> int:
    return int(run.config["train"]["epochs"])


def last_draws(run: Run) -> int | None:
    """The draws of the run's last evaluation; None for a method without draws."""
    method = run.config["method"]
    draws: int | None = method.get("final_samples") or method.get("test_samples")
    return draws


def _details(run: Run) -> dict[str, Any]:
    cell = cell_of(run)
    assert cell is not None
    metrics = {name: run.summary["metrics"].get(name) for name in ("test_error", "test_error_mean", "valid_error")}
    return cell._asdict() | {"epochs": _epochs(run)} | metrics
