"""The contract of a task: what is learnt, how it is judged, and the columns of its metrics.csv."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import pandas as pd
from torch import Tensor

from bbbrun.bayes.draws import Draws
from bbbrun.bayes.likelihoods import Likelihood
from bbbrun.bayes.networks import Network
from bbbrun.data.layouts import Layout


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
    """What a finished training predicts: a table, and over the range of one input the training points (x, y) in it."""

    table: pd.DataFrame
    points: tuple[Tensor, Tensor] | None = None


class Judgement(NamedTuple):
    """The task's columns of a row of metrics.csv, and how to make what a finished training keeps of predictions."""

    row: dict[str, float]
    predictions: Callable[[], Predictions] | None = None


class Mixture(Protocol):
    """The predictive of N inputs, a mixture over draws of the weights, as it is added up."""

    def add(self, rows: slice, draw: int, components: Sequence[Tensor]) -> None:
        """Add what draw number `draw` says of these rows, in the terms of the Predictor's `components`."""

    def table(self, rows: slice) -> pd.DataFrame:
        """What is predicted for these rows, once all draws are added."""


class Predictor(NamedTuple):
    """How a trained network predicts.

    layout: what its inputs look like. classes: how many it tells apart, 0 where it predicts a number. components:
    outputs (B, K) -> the parameters of their distribution, (B, ...) each. mixture: (N, the share of each draw) -> an
    empty mixture of such distributions. meaning: what the predictors of one ensemble share beside the data set's name.
    """

    network: Network
    layout: Layout
    classes: int
    components: Callable[[Tensor], Sequence[Tensor]]
    mixture: Callable[[int, Sequence[float]], Mixture]
    meaning: tuple[Any, ...] = ()


class Task(NamedTuple):
    """A problem, and how a training by epochs is judged.

    columns: what `evaluate` adds to a row, from the parameters and the draws of the prediction. shown: the columns
    that a person watches. chance: the error, percent, of always giving the most frequent class; None where there are
    no classes.
    """

    problem: Problem
    columns: tuple[Column, ...]
    evaluate: Callable[[list[Tensor], Draws], Judgement]
    shown: tuple[str, ...]
    chance: float | None = None
