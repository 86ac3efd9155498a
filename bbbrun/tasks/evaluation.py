"""Scores of trained runs: of an ensemble's predictions for a set, or of its detection of foreign inputs."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from bbbrun.bayes.scores import (
    brier_score,
    coverage_at_risk,
    detection,
    error_percent,
    expected_calibration_error,
    mean_nll,
    risk_by_coverage,
)
from bbbrun.bayes.uncertainty import ClassPrediction, NumberMixture, class_prediction
from bbbrun.tasks.prediction import Ensemble, finite
from bbbrun.training.task import Column

# Scores that detect foreign inputs: a higher one is more foreign.
SUSPICIONS: dict[str, Callable[[ClassPrediction], Tensor]] = {
    "entropy": lambda predicted: predicted.total,
    "mutual_information": lambda predicted: predicted.epistemic,
    "max_probability": lambda predicted: -predicted.probabilities.amax(dim=1),
}
_UNCERTAINTY = (
    Column("entropy", "entropy of the predictive", "nats"),
    Column("aleatoric", "aleatoric uncertainty", "nats"),
    Column("epistemic", "epistemic uncertainty", "nats"),
)
CLASSES = (
    Column("error", "error", "percent"),
    Column("nll", "nll", "nats per example"),
    Column("brier", "Brier score"),
    Column("ece", "calibration error, equal width", "percent"),
    Column("ece_equal_mass", "calibration error, equal mass", "percent"),
    Column("aurc", "area under risk-coverage", "percent"),
    Column("coverage_at_1", "coverage at 1 % risk", "percent"),
    *_UNCERTAINTY,
)
FOREIGN_COLUMNS = (
    *(
        Column(f"{name}_{by}", f"{label} by {by.replace('_', ' ')}")
        for by in SUSPICIONS
        for name, label in (("auroc", "AUROC"), ("aupr", "AUPR"), ("fpr95", "FPR at 95 %"))
    ),
    *_UNCERTAINTY,
)
NUMBERS = (
    Column("rmse", "RMSE", "the target's unit"),
    Column("nll", "nll", "nats per example"),
    Column("inside_50", "inside the 25-75 % interval", "percent"),
    Column("inside_90", "inside the 5-95 % interval", "percent"),
    Column("standard_deviation", "predicted standard deviation", "the target's unit"),
    Column("epistemic", "epistemic standard deviation", "the target's unit"),
)
NAMES = tuple(dict.fromkeys(column.name for column in (*NUMBERS, *CLASSES, *FOREIGN_COLUMNS)))  # in a table's order


def predicted_classes(ensemble: Ensemble, inputs: Any) -> ClassPrediction:
    """The ensemble's predictions for any number of inputs; raises ValueError for inputs of another layout."""
    table = pd.concat(list(ensemble.tables(inputs)), ignore_index=True)
    # After the class and its probability.
    probabilities = table.iloc[:, 2 : 2 + ensemble.classes].to_numpy(copy=True)
    rest = [torch.from_numpy(table[name].to_numpy(copy=True)) for name in ("total", "aleatoric", "epistemic")]
    return ClassPrediction(torch.from_numpy(probabilities), *rest)


def joined(predictions: list[ClassPrediction]) -> ClassPrediction:
    """The ensemble of runs that predicted alone, with equal weights."""
    probabilities = torch.stack([each.probabilities for each in predictions]).mean(dim=0)
    return class_prediction(probabilities, torch.stack([each.aleatoric for each in predictions]).mean(dim=0))


def class_scores(predicted: ClassPrediction, labels: NDArray[Any]) -> dict[str, float]:
    """The scores named in CLASSES; labels (N,), 0 .. K - 1."""
    probabilities, truth = predicted.probabilities, torch.from_numpy(np.asarray(labels, np.int64))
    risk = risks(predicted, labels)
    return {
        "error": error_percent(probabilities, truth),
        "nll": mean_nll(probabilities, truth),
        "brier": brier_score(probabilities, truth),
        "ece": expected_calibration_error(probabilities, truth),
        "ece_equal_mass": expected_calibration_error(probabilities, truth, equal_mass=True),
        "aurc": 100 * risk.mean().item(),
        "coverage_at_1": coverage_at_risk(risk, 0.01),
    } | _uncertainty(predicted)


def risks(predicted: ClassPrediction, labels: NDArray[Any]) -> Tensor:
    """`risk_by_coverage` by the probability of the predicted class, (N,)."""
    confidence, classes = predicted.probabilities.max(dim=1)
    return risk_by_coverage(confidence, classes != torch.from_numpy(np.asarray(labels, np.int64)))


def foreign_scores(test: ClassPrediction, foreign: ClassPrediction) -> dict[str, float]:
    """The scores named in FOREIGN_COLUMNS; without mutual information for a single network, which has none."""
    numbers: dict[str, float] = {}
    for by, suspicion in SUSPICIONS.items():
        of_test, of_foreign = suspicion(test).numpy(), suspicion(foreign).numpy()
        if of_test.any() or of_foreign.any():
            numbers |= {f"{name}_{by}": value for name, value in detection(of_test, of_foreign)._asdict().items()}
    return numbers | _uncertainty(foreign)


def _uncertainty(predicted: ClassPrediction) -> dict[str, float]:
    names = {"entropy": predicted.total, "aleatoric": predicted.aleatoric, "epistemic": predicted.epistemic}
    return {name: values.mean().item() for name, values in names.items()}


def number_scores(ensemble: Ensemble, inputs: Any, y: NDArray[Any]) -> dict[str, float]:
    """The scores named in NUMBERS; y (N,). Raises ValueError for inputs of another layout."""
    tables, densities = [], []
    truth = torch.from_numpy(np.asarray(y, np.float64))
    for first in range(0, len(y), ensemble.rows):
        part = slice(first, first + ensemble.rows)
        values = inputs.iloc[part] if isinstance(inputs, pd.DataFrame) else inputs[part]
        mixture, blocks = ensemble.mixture(values, first)
        assert isinstance(mixture, NumberMixture)
        tables += [mixture.table(rows) for rows in blocks]
        densities += [mixture.log_density(rows, truth[part][rows]) for rows in blocks]
    table = finite(pd.concat(tables, ignore_index=True), 0)
    return {
        "rmse": float(np.sqrt(np.mean((table["mean"] - y) ** 2))),
        "nll": -torch.cat(densities).mean().item(),
        "inside_50": 100 * float(((table["q25"] <= y) & (y <= table["q75"])).mean()),
        "inside_90": 100 * float(((table["q05"] <= y) & (y <= table["q95"])).mean()),
        "standard_deviation": float(table["standard_deviation"].mean()),
        "epistemic": float(table["epistemic"].mean()),
    }
