"""The interval of a difference: computed by hand, and its coverage."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm, t

from bbbrun.errors import UserError
from bbbrun.report.compare import Difference, Ours, against_published, between_ours, paired
from bbbrun.runs.reader import Run


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


def run_of(folder, seed, wrong, images=1000):
    """A finished run that gets these test images wrong."""
    folder.mkdir()
    label = np.zeros(images, dtype=int)
    guess = label.copy()
    guess[list(wrong)] = 1
    pd.DataFrame({"label": label, "class": guess, "probability": 0.5}).to_csv(folder / "predictions.csv", index=False)
    return Run(folder, {"seed": seed}, {})


def test_two_methods_are_compared_image_by_image_on_the_seeds_of_both(tmp_path):
    one = [run_of(tmp_path / "a0", 0, {1, 2, 3, 4}), run_of(tmp_path / "a1", 1, {1, 2, 3})]
    other = [run_of(tmp_path / "b0", 0, {1, 9}), run_of(tmp_path / "b1", 1, {1, 2, 8}), run_of(tmp_path / "b2", 2, {5})]
    (row,) = paired({(400, "SGD"): one, (400, "dropout"): other, (800, "SGD"): one}).to_dict("records")
    assert (row["units"], row["method"], row["other"], row["seeds"]) == (400, "SGD", "dropout", 2)
    # Seed 0: 2, 3 and 4 against 9. Seed 1: 3 against 8.
    assert (row["only_method"], row["only_other"]) == (2.0, 1.0)
    assert row["difference"] == pytest.approx(0.1)
    of_seeds = t.ppf(0.975, 1) * np.std([0.2, 0.0], ddof=1) / math.sqrt(2)
    of_images = np.array([50, 100, 50, -50, -50] + [0] * 995)
    expected = math.hypot(of_seeds, norm.ppf(0.975) * of_images.std(ddof=1) / math.sqrt(1000))
    assert row["half"] == pytest.approx(expected)
    assert row["compared"] == "same within error"


def test_one_seed_says_which_images_and_gives_no_interval(tmp_path):
    cells = {(400, name): [run_of(tmp_path / name, 0, wrong)] for name, wrong in (("SGD", {1, 2}), ("dropout", {3}))}
    (row,) = paired(cells).to_dict("records")
    assert (row["only_method"], row["only_other"], row["compared"]) == (2.0, 1.0, "unknown")
    assert math.isnan(row["half"])


def test_predictions_that_are_not_of_classes_are_named(tmp_path):
    run = run_of(tmp_path / "a", 0, {})
    pd.DataFrame({"x": [0.0], "median": [1.0]}).to_csv(run.folder / "predictions.csv", index=False)
    with pytest.raises(UserError, match="not of classes"):
        paired({(400, "SGD"): [run]})


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
