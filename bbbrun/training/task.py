"""The contract of a task: what is learnt, how it is judged, and the columns of its metrics.csv."""

from collections.abc import Callable
from typing import NamedTuple

import pandas as pd
from torch import Tensor

from bbbrun.bayes.draws import Draws
from bbbrun.bayes.likelihoods import Likelihood
from bbbrun.bayes.networks import Network


class Column(NamedTuple):
    """A column of metrics.csv, and its label in figures and tables.

    unit: empty for a number without one.
    """

    name: str
    label: str
    unit: str = ""

    @property
    def title(self) -> str:
        """The label with its unit in brackets, for an axis or the head of a table."""
        return f"{self.label} ({self.unit})" if self.unit else self.label


STEP = Column("step", "training step")
SECONDS = Column("seconds", "time", "s")
NLL = Column("nll", "training nll", "nats per example")
COMPLEXITY = (
    Column("log_posterior", "log q(w)", "nats"),
    Column("log_prior", "log P(w)", "nats"),
    Column("complexity", "complexity", "nats"),
)
FREE_ENERGY = Column("free_energy", "free energy", "nats")
EPOCHS = (
    Column("epoch", "epoch"),
    STEP,
    SECONDS,
    Column("lr", "learning rate"),
    NLL,
    *COMPLEXITY,
    FREE_ENERGY,
)  # the first columns of every task that is trained by epochs


class Problem(NamedTuple):
    """What is learnt: the network's outputs for inputs (N, ...), and their likelihood given targets (N, ...)."""

    inputs: Tensor
    targets: Tensor
    network: Network
    likelihood: Likelihood


class Predictions(NamedTuple):
    """The predictions of a finished training: a table, and for a single input the training points (x, y)."""

    table: pd.DataFrame
    points: tuple[Tensor, Tensor] | None = None


class Judgement(NamedTuple):
    """The task's columns of a row of metrics.csv, and a function for the predictions of a finished training."""

    row: dict[str, float]
    predictions: Callable[[], Predictions] | None = None


class Task(NamedTuple):
    """A problem, and how a training by epochs is judged.

    columns: the columns that `evaluate` adds to a row, from the parameters and the draws of the prediction. shown: the
    columns in the progress line. chance: the error, percent, of always predicting the most frequent class; None where
    there are no classes.
    """

    problem: Problem
    columns: tuple[Column, ...]
    evaluate: Callable[[list[Tensor], Draws], Judgement]
    shown: tuple[str, ...]
    chance: float | None = None
