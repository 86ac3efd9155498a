"""How a trained network predicts: the contract of each kind of task for inputs that it was not judged on."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import pandas as pd
from torch import Tensor

from bbbrun.bayes.networks import Network
from bbbrun.data.layouts import Layout


class Mixture(Protocol):
    """The predictive of N inputs, a mixture over draws of the weights, summed up draw by draw."""

    def add(self, rows: slice, draw: int, components: Sequence[Tensor]) -> None:
        """Add the `components` of draw number `draw` for these rows, as of Predictor."""

    def table(self, rows: slice) -> pd.DataFrame:
        """The predictions for these rows, once all draws are added."""


class Predictor(NamedTuple):
    """How a trained network predicts.

    layout: the layout of its inputs. classes: their number, 0 where it predicts a number. components:
    outputs (B, K) -> the parameters of their distribution, (B, ...) each. mixture: (N, the share of each draw) -> an
    empty mixture of such distributions. meaning: equal for the predictors of one ensemble, as is the data set's name.
    """

    network: Network
    layout: Layout
    classes: int
    components: Callable[[Tensor], Sequence[Tensor]]
    mixture: Callable[[int, Sequence[float]], Mixture]
    meaning: tuple[Any, ...] = ()
