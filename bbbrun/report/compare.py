"""Our number against another: better, worse, or the same within error, by the interval of their difference."""

import math
from typing import NamedTuple

from scipy.stats import norm

from bbbrun.report.groups import short
from bbbrun.report.spread import LEVEL, student_quantile

NORMAL_QUANTILE = float(norm.ppf(0.5 + LEVEL / 2))
LEAST_SEEDS = 3  # two give almost no estimate of their spread


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


def _quantile(seeds: int) -> float:
    """Student's quantile for the spread of so many seeds; NaN of fewer than three."""
    return student_quantile(seeds - 1) if seeds >= LEAST_SEEDS else math.nan


def _images(one: float, other: float, images: int) -> float:
    """z sqrt(v(one) + v(other)) of two error rates in percent, as if their images were different; 0 of none."""
    variance = one * (100 - one) + other * (100 - other)
    return NORMAL_QUANTILE * math.sqrt(variance / images) if images else 0.0
