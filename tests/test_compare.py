"""The interval of a difference: by hand, and by how often it holds what it should."""

import math

import numpy as np
import pytest
from scipy.stats import norm, t

from bbbrun.report.compare import Difference, Ours, against_published, between_ours


def test_seeds_images_and_reading_add_up_by_their_squares():
    ours = Ours.mean(1.5, 3, 0.1)
    seeds = t.ppf(0.975, 2) * 0.1 * math.sqrt(4 / 3)
    images = norm.ppf(0.975) * 100 * math.sqrt((0.015 * 0.985 + 0.0125 * 0.9875) / 10_000)
    difference = against_published(ours, 1.25, 10_000)
    assert difference.value == pytest.approx(0.25)
    assert difference.half == pytest.approx(math.sqrt(seeds**2 + images**2))
    assert against_published(ours, 1.25, 0, reading=0.5).half == pytest.approx(math.sqrt(seeds**2 + 0.25))
    both = between_ours(ours, Ours.mean(1.25, 5, 0.2), 10_000)
    seeds = t.ppf(0.975, 2) * math.sqrt(0.01 / 3 + 0.04 / 5)
    assert both.half == pytest.approx(math.sqrt(seeds**2 + images**2))


def test_the_verdict_is_that_of_the_interval():
    for value, half, expected in (
        (-0.3, 0.2, "better"),
        (0.3, 0.2, "worse"),
        (0.05, 0.1, "equivalent"),
        (-0.05, 0.15, "equivalent"),
        (0.1, 0.15, "same within error"),
        (-0.9, math.nan, "unknown"),
    ):
        assert Difference(value, half).verdict(margin=0.2) == expected


def test_one_seed_gives_no_interval():
    one, five = Ours.mean(1.5, 1, math.nan), Ours.mean(1.5, 5, 0.1)
    assert math.isnan(against_published(one, 1.5, 10_000).half)
    assert math.isnan(between_ours(one, five, 10_000).half)


def test_intervals_hold_no_difference_19_times_in_20():
    random = np.random.default_rng(0)
    trials = 4000
    # Our three seeds and the published run, all of one error rate 1.5 and deviation 0.1, on test images of their own.
    rates = random.normal(1.5, 0.1, (trials, 4))
    of_images = random.normal(0, 100 * math.sqrt(0.015 * 0.985 / 10_000), (trials, 2))
    inside = 0
    for (*seeds, published), (image, other_image) in zip(rates, of_images, strict=True):
        ours = Ours.mean(float(np.mean(seeds) + image), 3, float(np.std(seeds, ddof=1)))
        difference = against_published(ours, published + other_image, 10_000)
        inside += abs(difference.value) < difference.half
    assert 0.95 - 0.015 < inside / trials < 1
