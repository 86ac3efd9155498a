"""The interval of a difference: computed by hand, and its coverage."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm, t

from bbbrun.bayes.methods import BayesByBackprop
from bbbrun.errors import UserError
from bbbrun.report.compare import Difference, Ours, against_published, between_ours
from bbbrun.report.items.pairs import by_size, crossed, over_pairs, wrong_images
from bbbrun.report.judge import judge
from bbbrun.runs.reader import Run


def test_seeds_images_and_reading_add_up_by_their_squares():
    ours = Ours(1.5, 3, 0.1)
    seeds = t.ppf(0.975, 2) * 0.1 * math.sqrt(4 / 3)
    images = norm.ppf(0.975) * 100 * math.sqrt((0.015 * 0.985 + 0.0125 * 0.9875) / 10_000)
    difference = against_published(ours, 1.25, 0.1, 10_000)
    assert difference.value == pytest.approx(0.25)
    assert difference.half == pytest.approx(math.sqrt(seeds**2 + images**2))
    assert against_published(ours, 1.25, 0.1, 0, reading=0.5).half == pytest.approx(math.sqrt(seeds**2 + 0.25))
    both = between_ours(ours, Ours(1.25, 5, 0.2), 10_000)
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


@pytest.mark.parametrize("few", [Ours(1.5, 1, math.nan), Ours(1.5, 2, 0.1)], ids=["one", "two"])
def test_fewer_than_three_seeds_give_no_interval(few):
    five = Ours(1.5, 5, 0.1)
    assert math.isnan(few.half)
    assert math.isnan(against_published(few, 1.5, 0.1, 10_000).half)
    assert math.isnan(between_ours(few, five, 10_000).half)
    assert not math.isnan(between_ours(Ours(1.5, 3, 0.1), five, 10_000).half)


@pytest.mark.parametrize(("runs", "deviation", "error"), [(1, math.nan, 0.1), (4, math.nan, 0.05), (4, 0.3, 0.15)])
def test_a_published_mean_counts_with_its_own_runs_and_deviation(tmp_path, runs, deviation, error):
    (tmp_path / "uci").mkdir()
    row = {"set": "wine", "method": BayesByBackprop.label, "splits": 5, "test_nll": 1.5, "test_nll_std": 0.1}
    pd.DataFrame([row | {"test_rmse": 0.6, "test_rmse_std": 0.1}]).to_csv(tmp_path / "uci" / "uci.csv")
    claim = {"item": "uci", "row": "wine nll", "column": 5, "rule": "at_most", "value": 1.25, "tolerance": 0.0}
    claim |= {"runs": runs, "deviation": deviation, "source": ""}
    (verdict,) = judge(tmp_path, ["uci"], [claim]).to_dict("records")
    half = t.ppf(0.975, 4) * math.hypot(error, 0.1 / math.sqrt(5))
    assert verdict["difference"] == f"+0.25 ± {half:.3g}"


def run_of(folder, seed, wrong, images=1000):
    """A finished run that gets these test images wrong."""
    folder.mkdir()
    label = np.zeros(images, dtype=int)
    guess = label.copy()
    guess[list(wrong)] = 1
    pd.DataFrame({"label": label, "class": guess, "probability": 0.5}).to_csv(folder / "predictions.csv", index=False)
    return Run(folder, {"seed": seed}, {"metrics": {"test_error": 100 * len(guess[guess > 0]) / images}})


def test_two_methods_are_compared_image_by_image_on_the_seeds_of_both(tmp_path):
    wrong = {0: {1, 2, 3, 4}, 1: {1, 2, 3}, 2: {1, 2, 3}}
    one = [run_of(tmp_path / f"a{seed}", seed, images) for seed, images in wrong.items()]
    wrong = {0: {1, 9}, 1: {1, 2, 8}, 2: {2, 3, 7}, 3: {5}}
    other = [run_of(tmp_path / f"b{seed}", seed, images) for seed, images in wrong.items()]
    wrong_by_row = wrong_images({(400, "SGD"): one, (400, "dropout"): other, (800, "SGD"): one})
    (row,) = by_size(wrong_by_row).to_dict("records")
    assert (row["units"], row["method"], row["other"], row["seeds"]) == (400, "SGD", "dropout", 3)
    # Seed 0: 2, 3 and 4 against 9. Seed 1: 3 against 8. Seed 2: 1 against 7.
    assert (row["only_method"], row["only_other"]) == (pytest.approx(5 / 3), 1.0)
    assert row["difference"] == pytest.approx(0.2 / 3)
    # Images 1, 2, 3, 4, 9, 8 and 7, seed by seed.
    points = np.zeros((3, 1000))
    points[0, [2, 3, 4, 9]] = 100, 100, 100, -100
    points[1, [3, 8]] = 100, -100
    points[2, [1, 7]] = 100, -100
    assert row["half"] == pytest.approx(crossed(points).half)
    assert row["compared"] == "same within error"


def test_two_seeds_are_compared_without_an_interval(tmp_path):
    cells = {(400, name): [run_of(tmp_path / f"{name}{seed}", seed, {seed}) for seed in (0, 1)] for name in "ab"}
    (row,) = by_size(wrong_images(cells)).to_dict("records")
    assert (row["seeds"], row["difference"], row["compared"]) == (2, 0.0, "unknown")


def test_one_seed_says_which_images_and_gives_no_interval(tmp_path):
    cells = {(400, name): [run_of(tmp_path / name, 0, wrong)] for name, wrong in (("SGD", {1, 2}), ("dropout", {3}))}
    (row,) = by_size(wrong_images(cells)).to_dict("records")
    assert (row["only_method"], row["only_other"], row["compared"]) == (2.0, 1.0, "unknown")
    assert math.isnan(row["half"])


def test_two_methods_are_compared_over_the_pairs_that_both_have():
    pairs = pd.MultiIndex.from_tuples([(400, 0), (400, 1), (800, 0), (800, 1)], names=["units", "seed"])
    values = pd.DataFrame({"a": [1.5, 1.2, 1.0, 9.0], "b": [1.2, 1.2, 1.1, math.nan], "c": [math.nan] * 4}, index=pairs)
    (row,) = over_pairs(values).to_dict("records")
    assert (row["method"], row["other"], row["pairs"]) == ("a", "b", 3)
    assert (row["lower"], row["equal"], row["higher"]) == (1, 1, 1)
    assert row["difference"] == pytest.approx(0.2 / 3)
    assert row["half"] == pytest.approx(t.ppf(0.975, 2) * np.std([0.3, 0.0, -0.1], ddof=1) / math.sqrt(3))
    assert row["compared"] == "same within error"
    assert over_pairs(values.assign(b=values["b"] + 1))["compared"].item() == "better"
    (two,) = over_pairs(values.head(2)).to_dict("records")
    assert (two["pairs"], two["compared"]) == (2, "unknown")


def test_predictions_of_other_images_errors_or_kinds_are_named(tmp_path):
    run = run_of(tmp_path / "a", 0, {})
    pd.DataFrame({"x": [0.0], "median": [1.0]}).to_csv(run.folder / "predictions.csv", index=False)
    other = run_of(tmp_path / "b", 1, {}, images=999)
    with pytest.raises(UserError, match="b: its predictions are of 999 images, others' of 1000"):
        wrong_images({(400, "SGD"): [run_of(tmp_path / "c", 0, {}), other]})
    with pytest.raises(UserError, match=r"d: its predictions have 0.1 % wrong, its summary 5"):
        wrong_images({(400, "SGD"): [run_of(tmp_path / "d", 0, {1})._replace(summary={"metrics": {"test_error": 5}})]})
    with pytest.raises(UserError, match="not of classes"):
        wrong_images({(400, "SGD"): [run]})


def test_a_crossed_interval_counts_pairs_and_images_once():
    """The mean squares of a two-way analysis of variance, by hand."""
    points = np.array([[1.0, 2.0, 6.0, 3.0], [2.0, 2.0, 5.0, 7.0], [0.0, -1.0, 4.0, 1.0]])
    # Means of pairs 3, 4, 1; of images 1, 1, 5, 11 / 3; of all 8 / 3.
    pairs = 4 * np.var([3.0, 4.0, 1.0], ddof=1)
    images = 3 * np.var([1.0, 1.0, 5.0, 11 / 3], ddof=1)
    rest = ((points**2).sum() - 12 * (8 / 3) ** 2 - 2 * pairs - 3 * images) / 6
    assert images > rest
    difference = crossed(points)
    assert difference.value == pytest.approx(8 / 3)
    half = math.sqrt((t.ppf(0.975, 2) ** 2 * pairs + norm.ppf(0.975) ** 2 * (images - rest)) / 12)
    assert difference.half == pytest.approx(half)
    # Pairs that agree leave the chance of the images.
    points = 100 * (np.eye(3, 9) - np.eye(3, 9, 3) + np.eye(3, 9, 6))
    assert points.mean(axis=1) == pytest.approx(100 / 9)
    of_images = points.mean(axis=0).std(ddof=1) / 3
    assert crossed(points).half == pytest.approx(norm.ppf(0.975) * of_images)
    # Without a difference between images only the pairs are left, and Student's t for them.
    points = np.array([[1.0, 3.0], [4.0, 2.0], [2.0, 2.0]])
    of_pairs = np.std([2.0, 3.0, 2.0], ddof=1) / math.sqrt(3)
    assert crossed(points).half == pytest.approx(t.ppf(0.975, 2) * of_pairs)


@pytest.mark.parametrize(("pairs", "of_pairs"), [(3, 0.0), (3, 2.0), (9, 0.5)])
def test_a_crossed_interval_holds_the_difference_about_19_times_in_20(pairs, of_pairs):
    """of_pairs: the pairs' deviation; that of the mean over 100 images is 1, that of the rest 2 / sqrt(pairs)."""
    random = np.random.default_rng(pairs)
    inside, trials = 0, 1000
    for _ in range(trials):
        points = random.normal(0, 10, 100) + random.normal(0, of_pairs, (pairs, 1)) + random.normal(0, 20, (pairs, 100))
        difference = crossed(points)
        inside += abs(difference.value) < difference.half
    assert 0.93 < inside / trials < 0.985


@pytest.mark.parametrize("pairs", [3, 9])
def test_a_crossed_interval_of_right_and_wrong_images_holds_the_difference(pairs):
    """Of each method some images are hard, with an own chance to be wrong in each run; their difference is 0."""
    random = np.random.default_rng(pairs)
    inside, trials = 0, 1000
    for _ in range(trials):
        hard = random.beta(0.1, 2, 500)
        one, two = (random.random((pairs, 500)) < hard * random.uniform(0.7, 1.3, (pairs, 1)) for _ in range(2))
        difference = crossed(100.0 * one - 100.0 * two)
        inside += abs(difference.value) <= difference.half
    assert 0.93 < inside / trials < 0.99


def test_an_interval_over_pairs_counts_the_images_where_all_runs_keep_them(tmp_path):
    runs = {(400, name): [run_of(tmp_path / f"{name}{seed}", seed, {seed, 5, 6}) for seed in range(3)] for name in "ab"}
    runs[400, "b"][0] = run_of(tmp_path / "more", 0, {1, 2, 3, 4})
    wrong = wrong_images(runs)
    pairs = pd.MultiIndex.from_tuples([(400, seed) for seed in range(3)], names=["units", "seed"])
    values = pd.DataFrame({"a": [0.3] * 3, "b": [0.4, 0.3, 0.3]}, index=pairs)
    (row,) = over_pairs(values, wrong).to_dict("records")
    (alone,) = by_size(wrong).to_dict("records")
    assert (row["images"], row["half"]) == (1000, alone["half"])
    assert row["difference"] == pytest.approx(-0.1 / 3)
    del wrong["b"][400, 1]
    (row,) = over_pairs(values, wrong).to_dict("records")
    assert row["images"] == 0
    assert row["half"] == pytest.approx(t.ppf(0.975, 2) * np.std([-0.1, 0.0, 0.0], ddof=1) / math.sqrt(3))


def test_an_order_is_judged_image_by_image_where_all_runs_of_both_are_there(tmp_path):
    folder = tmp_path / "table1"
    folder.mkdir()
    row = {"units": 400, "temperature": 1.0, "seeds": 3, "error_std": 0.1}
    pd.DataFrame([row | {"method": "a", "error": 1.2}, row | {"method": "b", "error": 1.5}]).to_csv(
        folder / "table1.csv"
    )
    claim = {
        "item": "table1",
        "row": "b",
        "other": "a",
        "column": 400,
        "rule": "below",
        "value": math.nan,
        "source": "",
    }
    independent = between_ours(Ours(1.5, 3, 0.1), Ours(1.2, 3, 0.1), 10_000)
    paired = {"units": 400, "method": "a", "other": "b", "difference": -0.3, "half": 0.05}
    for seeds, expected in ((2, independent.text), (3, "+0.3 ± 0.05")):
        pd.DataFrame([paired | {"seeds": seeds}]).to_csv(folder / "paired.csv", index=False)
        (verdict,) = judge(tmp_path, ["table1"], [claim]).to_dict("records")
        assert (verdict["difference"], verdict["verdict"]) == (expected, "miss")
    pd.DataFrame([paired | {"seeds": 3, "difference": -0.4}]).to_csv(folder / "paired.csv", index=False)
    (verdict,) = judge(tmp_path, ["table1"], [claim]).to_dict("records")
    assert verdict["difference"] == independent.text  # it is of another report
    pd.DataFrame([paired | {"seeds": 3}]).to_csv(folder / "paired.csv", index=False)
    (verdict,) = judge(tmp_path, ["table1"], [claim | {"row": "a", "other": "b"}]).to_dict("records")
    assert (verdict["difference"], verdict["compared"], verdict["verdict"]) == ("-0.3 ± 0.05", "better", "pass")


def test_intervals_hold_no_difference_19_times_in_20():
    random = np.random.default_rng(0)
    trials = 4000
    # Our three seeds and the published run, all of one error rate 1.5 and deviation 0.1, on test images of their own.
    rates = random.normal(1.5, 0.1, (trials, 4))
    of_images = random.normal(0, 100 * math.sqrt(0.015 * 0.985 / 10_000), (trials, 2))
    inside = 0
    for (*seeds, published), (image, other_image) in zip(rates, of_images, strict=True):
        ours = Ours(float(np.mean(seeds) + image), 3, float(np.std(seeds, ddof=1)))
        difference = against_published(ours, published + other_image, ours.spread, 10_000)
        inside += abs(difference.value) < difference.half
    assert 0.95 - 0.015 < inside / trials < 1
