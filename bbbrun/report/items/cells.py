"""The cells of the paper's Table 1: which runs of MNIST belong to each, and the network of Table 2 and the figures."""

from collections.abc import Iterable
from typing import Any, NamedTuple

from bbbrun.bayes.methods import BayesByBackprop
from bbbrun.bayes.one_network import Dropout, MaximumLikelihood
from bbbrun.report.groups import NothingToShow, by_setting, grouped, one_per_seed
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
        return self.method if self.temperature == 1 else f"{self.method}, temperature {self.temperature:.12g}"

    @property
    def network(self) -> str:
        """The name of the cell's network: that of its row, and its size."""
        return f"{self.row}, 2 x {self.units} units"


def cell_of(run: Run) -> Cell | None:
    """The run's cell; None unless it is of MNIST, the paper's kind of network and protocol, and a method with a row."""
    network = run.config["network"]
    hidden = network.get("hidden", []) if run.dataset == "mnist" and network["name"] == "mlp" else []
    label = _LABELS.get((run.method, run.config["prior"]["name"]))
    if len(hidden) != 2 or hidden[0] != hidden[1] or label is None or not by_protocol(run.config):
        return None
    return Cell(label, int(hidden[0]), float(run.config["method"].get("temperature", 1.0)))


def by_protocol(config: dict[str, Any]) -> bool:
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
    return -epochs_of(runs[0]), -(last_draws(runs[0]) or 0), sum(errors) / len(errors)


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


def epochs_of(run: Run) -> int:
    """How many epochs the run was trained for."""
    return int(run.config["train"]["epochs"])


def last_draws(run: Run) -> int | None:
    """The draws of the run's last evaluation; None for a method without draws."""
    method = run.config["method"]
    draws: int | None = method.get("final_samples") or method.get("test_samples")
    return draws
