"""Which cell of the paper's Table 1 a run belongs to, and which of several runs stand for it."""

from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple

from bbbrun.bayes.methods import BayesByBackprop, Dropout, MaximumLikelihood
from bbbrun.runs.identity import setting
from bbbrun.runs.reader import Run, latest

SGD, DROPOUT = "SGD", "SGD, dropout"
GAUSSIAN, MIXTURE = "Bayes by Backprop, Gaussian", "Bayes by Backprop, scale mixture"
METHODS = (SGD, DROPOUT, GAUSSIAN, MIXTURE)
_LABELS = {
    (MaximumLikelihood.name, "none"): SGD,
    (Dropout.name, "none"): DROPOUT,
    (BayesByBackprop.name, "gaussian"): GAUSSIAN,
    (BayesByBackprop.name, "scale_mixture"): MIXTURE,
}
_UNITS = 1200  # the network of Table 2 and Figures 2 to 4


class Cell(NamedTuple):
    """A row of Table 1 and its number of units; temperature 1 is the paper's."""

    method: str
    units: int
    temperature: float

    @property
    def row(self) -> str:
        """The name of its row."""
        return self.method if self.temperature == 1 else f"{self.method}, temperature {self.temperature:g}"


def cell(run: Run) -> Cell | None:
    """The run's cell; None where it is not of MNIST with two equal hidden layers, or of a method without a row."""
    hidden = run.config["network"]["hidden"] if run.dataset == "mnist" else []
    label = _LABELS.get((run.method, run.config["prior"]["name"]))
    if len(hidden) != 2 or hidden[0] != hidden[1] or label is None:
        return None
    return Cell(label, int(hidden[0]), float(run.config["method"].get("temperature", 1.0)))


def cells(runs: Iterable[Run]) -> dict[Cell, list[Run]]:
    """The runs that stand for each cell, one for each seed, in the order of the paper's rows.

    Of settings that differ in more than the seed, the one trained for most epochs, and among those the one with the
    lowest mean validation error; never by the test error.
    """
    found: dict[Cell, dict[frozenset[tuple[str, str]], list[Run]]] = defaultdict(lambda: defaultdict(list))
    for run in runs:
        where = cell(run)
        if where is not None:
            found[where][setting(run.config)].append(run)
    chosen = {
        where: min((latest(group, lambda run: run.seed) for group in settings.values()), key=_rank)
        for where, settings in found.items()
    }
    order = sorted(chosen, key=lambda where: (-where.temperature, METHODS.index(where.method), where.units))
    return {where: chosen[where] for where in order}


def main_cells(runs: Iterable[Run], methods: tuple[str, ...], *, weights: bool) -> dict[str, tuple[int, list[Run]]]:
    """The units and runs of each method's network at temperature 1: the paper's 1200 units, else the largest.

    weights: of these runs only those whose weights are here, and no method without any.
    """
    found = {where: group for where, group in cells(runs).items() if where.temperature == 1}
    chosen = {}
    for method in methods:
        sizes = [where for where in found if where.method == method]
        if sizes:
            best = max(sizes, key=lambda where: (where.units == _UNITS, where.units))
            group = [run for run in found[best] if run.has_weights or not weights]
            if group:
                chosen[method] = (best.units, group)
    return chosen


def epochs(run: Run) -> int:
    """How many epochs the run was trained for."""
    return int(run.config["train"]["epochs"])


def _rank(runs: list[Run]) -> tuple[int, float]:
    errors = [run.summary["metrics"].get("valid_error", float("inf")) for run in runs]
    return -epochs(runs[0]), sum(errors) / len(errors)
