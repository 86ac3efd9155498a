"""Predictions of trained runs: the mixture over all draws of one run or of an ensemble, for any number of inputs."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from bbbrun.bayes.draws import BlockSampler, Draws
from bbbrun.bayes.methods import METHODS, build_method, drawn
from bbbrun.bayes.networks import Network
from bbbrun.errors import UserError
from bbbrun.runs.reader import Run
from bbbrun.tasks.kinds import predictor
from bbbrun.tasks.predictor import Mixture, Predictor

# Rows in one forward pass. Rows are always cut into such blocks from the first one on, so that each product has the
# same factors and no rounding depends on how many rows arrive at once.
_BLOCK = 1000
_MOST_BLOCK = 10_000  # products of so many rows take a tenth less time than of 1000
_NUMBERS = 1 << 24  # numbers that the rows predicted at once may take
_MOST = 50_000  # rows predicted at once: beyond, the next draw's weights cost next to nothing


class Member(NamedTuple):
    """A run of an ensemble: how it predicts, and its draws' weights, each (P,), made anew and the same at each call.

    random: whether the seed changes its predictions.
    """

    run: Run
    predictor: Predictor
    draws: int
    random: bool
    weights: Callable[[], Iterable[Tensor]]


def parameters_of(run: Run, size: int | None) -> list[Tensor]:
    """The method's parameters, each (P,), or as many times P as it has networks, P = size; None: of any size.

    Raises UserError where the weights are missing, of another network than the record's, or not finite.
    """
    count, copies = METHODS[run.method].tensors, build_method(run.options("method")).copies
    tensors = run.tensors()[:count]
    total = copies * size if size is not None else tensors[0].numel() if tensors and _is_plain(tensors[0]) else 0
    valid = [_is_plain(each) and each.shape == (total,) and each.dtype == torch.float32 for each in tensors]
    if len(valid) < count or not all(valid):
        raise UserError(f"{run.folder}: its checkpoint does not hold the {total} weights of the network in its record")
    if not all(bool(each.isfinite().all()) for each in tensors):
        raise UserError(f"{run.folder}: its weights are not finite")
    return [each.contiguous() for each in tensors]


def _is_plain(value: object) -> bool:
    """Whether it is a tensor of numbers in memory: a checkpoint may hold others."""
    return isinstance(value, Tensor) and value.device.type == "cpu" and value.layout is torch.strided


def member_of(run: Run, draws: int, seed: int, mean: bool) -> Member:
    """The run as a member of an ensemble: `draws` draws of its weights, or its only weights.

    mean: w = mu in place of draws. Raises UserError for a run that does not predict, and for an ensemble's mean.
    """
    predicts = predictor(run)
    network, method = predicts.network, build_method(run.options("method"))
    parameters = parameters_of(run, network.size)
    at_mean = method.mean(parameters) if mean else None
    if mean and at_mean is None and method.copies > 1:
        raise UserError(
            f"--mean (from Python mean=True): method={run.method} has {method.copies} networks and no mean of them"
        )
    if at_mean is not None:
        return Member(run, predicts, 1, False, lambda: [at_mean])
    samples = Draws(seed, 0, method.available(draws), BlockSampler())
    return Member(run, predicts, samples.count, method.random, lambda: drawn(method, network, parameters, samples))


def _block(network: Network, draws: int) -> int:
    """Rows in one forward pass of a network with `draws` draws: as many as its widest layer leaves memory for."""
    if network.layers is None or network.operations:
        return _BLOCK  # how much an input takes within the network is not known
    width = max(shape[0] for shape in network.shapes) + 4 * draws
    return _BLOCK * max(1, min(_MOST_BLOCK, _NUMBERS // width) // _BLOCK)


class Ensemble:
    """The predictive mixture of one run's draws, or of several runs' draws with equal weight for each run.

    rows: how many to predict at once, a function of the network and the number of draws alone. classes: their number, 0
    where it predicts a number.
    """

    def __init__(self, members: Sequence[Member]) -> None:
        first = members[0].predictor
        for member in members:
            # The classes of two data sets have the same numbers and other meanings.
            predictor = member.predictor
            same = predictor.layout.shape == first.layout.shape and predictor.meaning == first.meaning
            if member.run.dataset != members[0].run.dataset or not same:
                raise UserError(
                    f"{members[0].run.folder} and {member.run.folder} do not predict the same: no ensemble of both, "
                    "so name each in a call of its own"
                )
        self._members, self.layout, self.classes = members, first.layout, first.classes
        self.draws = sum(member.draws for member in members)
        # Whole numbers where one run has as many draws as another, or one alone: sums of such shares are exact.
        most = max(member.draws for member in members)
        self._shares = [most / member.draws for member in members for _ in range(member.draws)]
        width = math.prod(self.layout.shape) + 4 * self.draws
        self._block = min(_block(member.predictor.network, self.draws) for member in members)
        self.rows = self._block * max(1, min(_MOST, _NUMBERS // width) // self._block)

    @torch.no_grad()
    def mixture(
        self, values: Any, first: int = 0, after_draw: Callable[[], None] = lambda: None
    ) -> tuple[Mixture, list[slice]]:
        """The mixture of all draws for at most `rows` inputs in the runs' own units, and the blocks of rows to read.

        values: an array or DataFrame. first: the number of the first row, from 0, for messages. after_draw is called
        after each draw. Raises ValueError for inputs of another shape, or that are no finite numbers.
        """
        raw = self.layout.raw(values, first)
        blocks = [slice(start, start + self._block) for start in range(0, len(raw), self._block)]
        mixture = self._members[0].predictor.mixture(len(raw), self._shares)
        draw = 0
        for member in self._members:
            inputs = member.predictor.layout.scaled(raw)
            for weights in member.weights():
                for rows in blocks:
                    outputs = member.predictor.network.predict(weights, inputs[rows])
                    mixture.add(rows, draw, member.predictor.components(outputs))
                draw += 1
                after_draw()
        return mixture, blocks

    def predict(self, values: Any, first: int = 0, after_draw: Callable[[], None] = lambda: None) -> pd.DataFrame:
        """A row for each of at most `rows` inputs; arguments and errors as of `mixture`."""
        mixture, blocks = self.mixture(values, first, after_draw)
        return finite(pd.concat([mixture.table(rows) for rows in blocks], ignore_index=True), first)

    def tables(self, values: Any) -> Iterator[pd.DataFrame]:
        """`predict` of all inputs of an array or DataFrame, `rows` at a time."""
        if not isinstance(values, pd.DataFrame):
            values = np.asarray(values)
        if values.ndim == 0 or not len(values):
            raise ValueError("inputs must be some rows, not none")
        for first in range(0, len(values), self.rows):
            rows = slice(first, first + self.rows)
            yield self.predict(values.iloc[rows] if isinstance(values, pd.DataFrame) else values[rows], first)


def finite(table: pd.DataFrame, first: int) -> pd.DataFrame:
    """The table; raises ValueError that names a row whose prediction is no finite number."""
    good = np.isfinite(table.select_dtypes("number").to_numpy()).all(axis=1)
    if not good.all():
        row = first + int(np.argmin(good)) + 1
        raise ValueError(
            f"row {row}: its prediction is no finite number, as where an input or a weight is far too large"
        )
    return table


def without_unsure(table: pd.DataFrame, least: float) -> pd.DataFrame:
    """The table with no class where its probability is below `least`."""
    classes = table["class"] if table["class"].dtype == "string" else table["class"].astype("Int64")
    return table.assign(**{"class": classes.where(table["probability"] >= least)})
