"""Our number against another: better, worse, or the same within error, by the interval of their difference."""

import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import norm

from bbbrun.errors import UserError
from bbbrun.report.groups import markdown, short, write_table
from bbbrun.report.spread import LEVEL, student_quantile
from bbbrun.runs.reader import Run

_Z = float(norm.ppf(0.5 + LEVEL / 2))
_PAIRS_COLUMNS = {
    "method": "first",
    "other": "second",
    "lower": "first is lower",
    "higher": "higher",
    "only_method": "only the first is wrong",
    "only_other": "only the second",
}
_LEAST_SEEDS = 3  # two give almost no estimate of their spread


class Ours(NamedTuple):
    """A mean of ours over so many seeds, and their standard deviation, NaN of one seed."""

    value: float
    seeds: int
    spread: float

    @property
    def error(self) -> float:
        """The standard error of the mean over the seeds."""
        return self.spread / math.sqrt(self.seeds)

    @property
    def half(self) -> float:
        """Half the width of its 95 % interval over seeds, by Student's t; NaN of fewer than three seeds."""
        return _quantile(self.seeds) * self.error


class Difference(NamedTuple):
    """Ours less another number, and half the width of its 95 % interval; NaN where nothing gives a width."""

    value: float
    half: float

    @property
    def text(self) -> str:
        """The difference with its sign, and half the width of its interval where there is one."""
        half = "" if math.isnan(self.half) else f" ± {short(self.half, 3)}"
        return f"{short(self.value, 3, '+')}{half}"

    def verdict(self, margin: float) -> str:
        """better or worse where the interval excludes 0, equivalent where it lies within the margin, else same.

        Less is better, as with errors and regret. unknown: fewer than three seeds give no spread.
        """
        if math.isnan(self.half):
            return "unknown"
        if abs(self.value) > self.half:
            return "better" if self.value < 0 else "worse"
        return "equivalent" if abs(self.value) + self.half <= margin else "same within error"


def against_published(ours: Ours, published: float, error: float, images: int, reading: float = 0.0) -> Difference:
    """The difference from a published number, which has the standard error `error` over the runs behind it.

    half^2 = t^2 (error^2 + e^2) + z^2 (v(ours) + v(published)) + reading^2, with e the error of ours over n seeds,
    t and z the quantiles of Student's (n - 1) and the normal distribution, v the variance of an error rate on `images`
    test images, 0 of none, and `reading` the error in reading a figure. The images are the same for both, so their part
    is an upper bound.
    """
    seeds = _quantile(ours.seeds) * math.hypot(error, ours.error)
    return Difference(ours.value - published, math.hypot(seeds, _images(ours.value, published, images), reading))


def between_ours(one: Ours, other: Ours, images: int) -> Difference:
    """The difference of two numbers of ours from independent seeds.

    half^2 = t^2 (e1^2 + e2^2) + z^2 (v1 + v2), as in `against_published`, t for the fewer seeds. Welch's degrees of
    freedom are never fewer, so the interval holds at least 95 %.
    """
    seeds = _quantile(min(one.seeds, other.seeds)) * math.hypot(one.error, other.error)
    return Difference(one.value - other.value, math.hypot(seeds, _images(one.value, other.value, images)))


def paired(cells: Mapping[tuple[int, str], Sequence[Run]]) -> pd.DataFrame:
    """A row for each two methods of one size whose runs keep their predictions, on the seeds that both have.

    cells: the runs by (units, method). only_method, only_other: images that only this one gets wrong, the mean over
    seeds. difference: the error of `method` less that of `other`, in points, with half the width of its 95 % interval,
    half^2 = t^2 s^2 / n + z^2 v / N: s is the standard deviation of the difference over n seeds, v that over N images
    of the difference's mean over seeds. The chance of the images is in s as well, so the interval holds more than 95 %.
    compared: the verdict of the interval, see `Difference`.
    """
    wrong = {key: {run.seed: _wrong(run) for run in runs if run.has_predictions} for key, runs in cells.items()}
    rows = []
    for (size, method), (other_size, other) in combinations(wrong, 2):
        mine, others = wrong[size, method], wrong[other_size, other]
        seeds = sorted(mine.keys() & others.keys())
        if size == other_size and seeds:
            one, two = (np.stack([each[seed] for seed in seeds]) for each in (mine, others))
            difference = _difference(100.0 * one - 100.0 * two)
            rows.append(
                {
                    "units": size,
                    "method": method,
                    "other": other,
                    "seeds": len(seeds),
                    "only_method": (one & ~two).sum(axis=1).mean(),
                    "only_other": (two & ~one).sum(axis=1).mean(),
                    "difference": difference.value,
                    "half": difference.half,
                    "compared": difference.verdict(0.0),
                }
            )
    return pd.DataFrame(rows)


def over_pairs(values: pd.DataFrame) -> pd.DataFrame:
    """A row for each two methods, over the pairs of runs that both have, such as those of one size and seed.

    values: a column for each method, a row for each pair, NaN where there is no run. lower, equal, higher: the number
    of pairs in which the value of `method` is so. difference: the mean over n pairs of the value of `method` less that
    of `other`, with half the width of its 95 % interval, half = t s / sqrt(n), s the standard deviation of the
    differences: the chance of the test images, which are the same in all, is not in it. compared: the verdict of the
    interval, see `Difference`.
    """
    rows = []
    for method, other in combinations(values, 2):
        less = (values[method] - values[other]).dropna()
        if len(less):
            ours = Ours(less.mean(), len(less), less.std())
            difference = Difference(ours.value, ours.half)
            rows.append(
                {
                    "method": method,
                    "other": other,
                    "pairs": len(less),
                    "lower": (less < 0).sum(),
                    "equal": (less == 0).sum(),
                    "higher": (less > 0).sum(),
                    "difference": difference.value,
                    "half": difference.half,
                    "compared": difference.verdict(0.0),
                }
            )
    return pd.DataFrame(rows)


def write_pairs(pairs: pd.DataFrame, output: Path, name: str, note: str) -> str:
    """Write rows of `over_pairs`, or of `paired`, as NAME.csv; return them in Markdown, a note below; "" of no rows."""
    if pairs.empty:
        return ""
    write_table(pairs, output, name)
    shown = pairs.rename(columns=_PAIRS_COLUMNS)
    halves = shown.pop("half")
    shown["difference"] = [Difference(*each).text for each in zip(shown["difference"], halves, strict=True)]
    return f"\n{markdown(shown)}\n{note}\n"


def _difference(points: NDArray[np.floating]) -> Difference:
    """The mean of a difference (seeds, images) with its interval; NaN wide of fewer than three seeds."""
    seeds, images = points.shape
    if seeds < _LEAST_SEEDS:
        return Difference(float(points.mean()), math.nan)
    of_seeds = _quantile(seeds) * points.mean(axis=1).std(ddof=1) / math.sqrt(seeds)
    of_images = _Z * points.mean(axis=0).std(ddof=1) / math.sqrt(images)
    return Difference(float(points.mean()), math.hypot(of_seeds, of_images))


def _quantile(seeds: int) -> float:
    """Student's quantile for the spread of so many seeds; NaN of fewer than three."""
    return student_quantile(seeds - 1) if seeds >= _LEAST_SEEDS else math.nan


def _wrong(run: Run) -> NDArray[np.bool_]:
    """Whether the run gets each test image wrong, (N,)."""
    table = run.predictions()
    if not {"label", "class"} <= set(table):
        raise UserError(f"{run.folder}: its predictions are not of classes")
    return (table["label"] != table["class"]).to_numpy()


def _images(one: float, other: float, images: int) -> float:
    """z sqrt(v(one) + v(other)) of two error rates in percent, as if their images were different; 0 of none."""
    variance = one * (100 - one) + other * (100 - other)
    return _Z * math.sqrt(variance / images) if images else 0.0
