"""The contract of a task: what is learnt, how it is judged, and the columns of its metrics.csv."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import pandas as pd
from numpy.typing import ArrayLike
from torch import Tensor

from bbbrun.bayes.draws import Draws
from bbbrun.bayes.likelihoods import Likelihood
from bbbrun.bayes.networks import Network


class Column(NamedTuple):
    """A column of metrics.csv, and what figures and tables call it.

    unit: empty for a number without one. less_is_better: None where neither is.
    """

    name: str
    label: str
    unit: str = ""
    less_is_better: bool | None = None

    @property
    def title(self) -> str:
        """The label with its unit in brackets, for an axis or the head of a table."""
        return f"{self.label} ({self.unit})" if self.unit else self.label


STEP = Column("step", "training step")
SECONDS = Column("seconds", "time", "s")
NLL = Column("nll", "training nll", "nats per example", True)
COMPLEXITY = (
    Column("log_posterior", "log q(w)", "nats"),
    Column("log_prior", "log P(w)", "nats"),
    Column("complexity", "complexity", "nats"),
)
FREE_ENERGY = Column("free_energy", "free energy", "nats", True)
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
    """What is learnt: which outputs `network` should give for the inputs (N, ...), and how the targets judge them."""

    inputs: Tensor
    targets: Tensor
    network: Network
    likelihood: Likelihood


class Predictions(NamedTuple):
    """What a finished training predicts over a range of its input: the table, and the training points in it."""

    table: pd.DataFrame
    x: Tensor
    y: Tensor


class Predictor(NamedTuple):
    """What a trained network predicts.

    predict: (draws of its weights, each (P,), inputs in the data set's own units) -> a row for each input.
    """

    network: Network
    predict: Callable[[Iterable[Tensor], ArrayLike], pd.DataFrame]


class Task(NamedTuple):
    """A problem, and how a training by epochs is judged.

    columns: what `evaluate` adds to a row, from the parameters and the draws of the prediction. shown: the columns
    that a person watches. predictions: what to keep of a finished training, or None. chance: the error, percent, of
    always giving the most frequent class; None where there are no classes.
    """

    problem: Problem
    columns: tuple[Column, ...]
    evaluate: Callable[[list[Tensor], Draws], dict[str, float]]
    shown: tuple[str, ...]
    predictions: Callable[[list[Tensor], Draws], Predictions] | None = None
    chance: float | None = None
