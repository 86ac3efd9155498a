"""Ours beside another number: better, worse, or the same within error, by the interval of their difference."""

import math
from typing import NamedTuple

from scipy.stats import norm

from bbbrun.report.spread import LEVEL, student_quantile

IMAGES = 10_000  # of MNIST's test set, which every error rate is measured on


class Ours(NamedTuple):
    """A number of ours over so many seeds, their standard deviation, and the number's own; NaN of one seed."""

    value: float
    seeds: int
    spread: float
    error: float

    @classmethod
    def mean(cls, value: float, seeds: int, spread: float) -> "Ours":
        """The mean over the seeds."""
        return cls(value, seeds, spread, spread / math.sqrt(seeds))

    @property
    def half(self) -> float:
        """Half the width of its 95 % interval over seeds, by Student's t; NaN of one seed."""
        return student_quantile(self.seeds - 1) * self.error


class Difference(NamedTuple):
    """Ours less another number, and half the width of its 95 % interval; NaN where nothing gives a width."""

    value: float
    half: float

    def verdict(self, margin: float) -> str:
        """better or worse where the interval leaves out 0, equivalent where it lies within the margin, else same.

        The less the better, as with errors and regret. unknown: one seed says nothing of the spread.
        """
        if math.isnan(self.half):
            return "unknown"
        if abs(self.value) > self.half:
            return "better" if self.value < 0 else "worse"
        return "equivalent" if abs(self.value) + self.half <= margin else "same within error"


def against_published(ours: Ours, published: float, images: int, reading: float = 0.0) -> Difference:
    """The difference from one published run, whose seed's deviation is taken to be ours.

    half^2 = t^2 (s^2 + e^2) + z^2 (v(ours) + v(published)) + reading^2, with s the spread of n seeds, e the error of
    ours, t and z the quantiles of Student's (n - 1) and the normal distribution, v the variance of an error rate on
    `images` test images, 0 of none, and `reading` the error in reading a figure. The images are the same for both, so
    their part is an upper bound.
    """
    seeds = student_quantile(ours.seeds - 1) * math.hypot(ours.spread, ours.error)
    return Difference(ours.value - published, math.hypot(seeds, _images(ours.value, published, images), reading))


def between_ours(one: Ours, other: Ours, images: int) -> Difference:
    """The difference of two numbers of ours, of seeds that have nothing to do with each other.

    half^2 = t^2 (e1^2 + e2^2) + z^2 (v1 + v2), as in `against_published`, t for the fewer seeds.
    """
    seeds = student_quantile(min(one.seeds, other.seeds) - 1) * math.hypot(one.error, other.error)
    return Difference(one.value - other.value, math.hypot(seeds, _images(one.value, other.value, images)))


def _images(one: float, other: float, images: int) -> float:
    """z sqrt(v(one) + v(other)) of two error rates in percent, as if their images were not the same; 0 of none."""
    variance = one * (100 - one) + other * (100 - other)
    return float(norm.ppf(0.5 + LEVEL / 2)) * math.sqrt(variance / images) if images else 0.0
