"""bbbrun evaluate: scores equal scikit-learn's and hand computations, and wrong words are one line."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import norm
from scipy.stats import t as student
from sklearn.datasets import load_digits
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score, roc_curve

import bbbrun
from bbbrun.bayes.scores import (
    brier_score,
    coverage_at_risk,
    detection,
    expected_calibration_error,
    risk_by_coverage,
)
from bbbrun.bayes.uncertainty import ClassPrediction
from bbbrun.data.corruptions import CORRUPTIONS, corrupted, rotated, shifted, shifts
from bbbrun.data.foreign import foreign_images, noise_images
from bbbrun.data.images import IMAGES
from bbbrun.report.evaluation import evaluate
from bbbrun.report.page import require_replaceable
from bbbrun.schema.datasets import DigitsConfig
from bbbrun.tasks.evaluation import class_scores, risks

FAST = ("network.hidden=[12]", "threads=1", "compile=false")
PROBABILITIES = [f"p{k}" for k in range(10)]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    bbb = ("train.epochs=30", "train.evaluate_every=30", "method.rho_init=[-5,-4]", "method.temperature=0.01")
    words = {
        "bbb0": bbb,
        "bbb1": (*bbb, "seed=1"),
        "mle": ("train.epochs=30", "train.evaluate_every=30", "method=mle"),
        "curve": ("experiment=regression", "train.epochs=20", "dataset.train_points=64"),
    }
    return {name: bbbrun.run(bbbrun.compose(*each, *FAST), folder / name) for name, each in words.items()}


def held_out():
    dataset = DigitsConfig(name="digits", valid_size=0, pixel_divisor=8.0, test=True)
    return IMAGES["digits"].load(dataset)[2:]


def example(rows=800, classes=4):
    generator = torch.Generator().manual_seed(1)
    probabilities = torch.rand(rows, classes, generator=generator).double().pow(4)
    return probabilities / probabilities.sum(dim=1, keepdim=True), torch.randint(classes, (rows,), generator=generator)


def test_brier_is_that_of_scikit_learn():
    probabilities, labels = example()
    expected = brier_score_loss(labels.numpy(), probabilities.numpy(), scale_by_half=False)
    assert brier_score(probabilities, labels) == pytest.approx(expected)
    assert brier_score(torch.eye(3), torch.tensor([1, 1, 1])) == pytest.approx(4 / 3)


def test_equal_mass_bins_by_hand():
    # Four bins of one example each: abs(confidence - right) of each.
    probabilities = torch.tensor([[0.9, 0.1], [0.2, 0.8], [0.65, 0.35], [0.6, 0.4]])
    labels = torch.tensor([0, 0, 0, 1])
    expected = 100 * (0.1 + 0.8 + 0.35 + 0.6) / 4
    assert expected_calibration_error(probabilities, labels, 4, equal_mass=True) == pytest.approx(expected, abs=1e-4)
    # Two bins: 0.6 and 0.65 cancel in part, as do 0.8 and 0.9.
    expected = 100 * (abs(0.65 + 0.6 - 1) + abs(0.9 + 0.8 - 1)) / 4
    assert expected_calibration_error(probabilities, labels, 2, equal_mass=True) == pytest.approx(expected, abs=1e-4)


def test_risk_and_coverage_by_hand():
    confidence = torch.tensor([0.9, 0.6, 0.8, 0.7])
    wrong = torch.tensor([False, True, False, True])
    risk = risk_by_coverage(confidence, wrong)
    torch.testing.assert_close(risk, torch.tensor([0, 0, 1 / 3, 1 / 2], dtype=torch.float64))
    assert coverage_at_risk(risk, 0.01) == 50
    assert coverage_at_risk(risk, 0.4) == 75
    assert coverage_at_risk(risk_by_coverage(confidence, ~wrong), 0.01) == 0
    # All equally confident: abstaining helps nothing, in whatever order they come.
    same = risk_by_coverage(torch.full((4,), 0.5), wrong)
    torch.testing.assert_close(same, torch.full((4,), 0.5, dtype=torch.float64))


def test_detection_of_what_is_apart_and_of_what_is_not():
    low, high = np.linspace(0, 1, 50), np.linspace(2, 3, 70)
    assert detection(low, high) == (1, 1, 0)
    worst = detection(high, low)
    assert worst.auroc == 0
    assert worst.fpr95 == 1
    assert detection(low, low).auroc == pytest.approx(0.5)


def test_turned_and_shifted_images_are_where_they_should_be():
    image = np.zeros((1, 9, 9), np.float32)
    image[0, 1, 4], image[0, 4, 7] = 1.0, 0.5  # above the centre, and to its right
    turned = rotated(image, 90)
    assert turned[0, 4, 1] == pytest.approx(1, abs=1e-5)
    assert turned[0, 1, 4] == pytest.approx(0.5, abs=1e-5)
    np.testing.assert_allclose(rotated(image, 180), image[:, ::-1, ::-1], atol=1e-5)
    np.testing.assert_allclose(rotated(image, 0), image, atol=1e-6)
    moved = shifted(image, 3)
    assert moved[0, 1, 7] == 1
    assert moved.sum() == 1
    assert shifts(28) == (0, 2, 4, 6, 8, 10, 12, 14)
    assert shifts(8) == (0, 1, 2, 3, 4)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_corruptions_change_images_the_same_way_each_time(name):
    pixels = np.random.default_rng(3).random((6, 28, 28)).astype(np.float32)
    before = pixels.copy()
    changed = corrupted(pixels, name)
    assert changed.dtype == np.float32
    assert changed.shape == pixels.shape
    assert changed.min() >= 0
    assert changed.max() <= 1
    assert np.abs(changed - pixels).mean() > 0.02
    np.testing.assert_array_equal(changed, corrupted(pixels, name))
    np.testing.assert_array_equal(pixels, before)


def test_noise_is_uniform():
    noise = noise_images(500, (8, 8), 16.0)
    assert noise.mean() == pytest.approx(8, abs=0.1)
    assert noise.std() == pytest.approx(16 / 12**0.5, abs=0.1)
    assert noise.max() <= 16


def test_fashion_is_the_published_set(data_root):
    if not (data_root / "FashionMNIST" / "raw").is_dir():
        pytest.skip("no Fashion-MNIST")
    images = foreign_images("fashion", str(data_root))
    assert images.shape == (10_000, 28, 28)
    assert images.mean() == pytest.approx(73.1, abs=0.2)  # of 255, as published


@pytest.fixture(scope="module")
def evaluated(runs, run_in, tmp_path_factory):
    folder = tmp_path_factory.mktemp("evaluated")
    digits = load_digits()
    np.savez(folder / "mine.npz", inputs=digits.images[:50], labels=digits.target[:50])
    folders = [str(runs[name].folder) for name in ("bbb0", "bbb1", "mle")]
    sets = ["noise", "rotated", "shifted", "corrupted", "mine.npz"]
    done = run_in(folder, "evaluate", *folders, "--on", *sets, "--draws", "5", "--seed", "2", "-o", "out")
    assert done.returncode == 0, done.stderr
    return folder, pd.read_csv(folder / "out" / "scores.csv")


def row(scores, method, members, part):
    [chosen] = scores.query("method == @method and members == @members and part == @part").to_dict("records")
    return chosen


@pytest.mark.slow
def test_scores_are_those_of_the_predictions_that_predict_writes(runs, evaluated, run_in, tmp_path):
    _, scores = evaluated
    pixels, labels = held_out()
    tables = {}
    for name, inputs in (("test", pixels), ("noise", noise_images(len(pixels), (8, 8), 16.0))):
        np.save(tmp_path / f"{name}.npy", inputs)
        words = (str(runs["bbb0"].folder), f"{name}.npy", "--draws", "5", "--seed", "2", "-o", f"{name}.csv")
        assert run_in(tmp_path, "predict", *words).returncode == 0
        tables[name] = pd.read_csv(tmp_path / f"{name}.csv")
    test = row(scores, "Bayes by Backprop", "seed 0", "test")
    right = tables["test"]["class"].to_numpy() == labels.numpy()
    assert test["error"] == pytest.approx(100 * (1 - right.mean()), rel=1e-5)
    probabilities = tables["test"][PROBABILITIES].to_numpy()
    brier = brier_score_loss(labels.numpy(), probabilities, scale_by_half=False)
    assert test["brier"] == pytest.approx(brier, rel=1e-4)
    assert test["nll"] == pytest.approx(-np.log(probabilities[np.arange(len(labels)), labels]).mean(), rel=1e-4)
    assert test["epistemic"] == pytest.approx(tables["test"]["epistemic"].mean(), rel=1e-4)
    noise = row(scores, "Bayes by Backprop", "seed 0", "noise")
    foreign = np.repeat([0, 1], len(pixels))
    both = pd.concat([tables["test"], tables["noise"]])
    suspicions = {
        "entropy": both["total"],
        "mutual_information": both["epistemic"],
        "max_probability": -both["probability"],
    }
    for name, values in suspicions.items():
        assert noise[f"auroc_{name}"] == pytest.approx(roc_auc_score(foreign, values), rel=1e-5)
        assert noise[f"aupr_{name}"] == pytest.approx(average_precision_score(foreign, values), rel=1e-5)
        false, true, _ = roc_curve(foreign, values)
        assert noise[f"fpr95_{name}"] <= false[true >= 0.95].min() + 1e-5


def test_harder_images_and_files_have_their_rows(evaluated):
    folder, scores = evaluated
    assert set(scores["set"]) == {"test", "noise", "rotated", "shifted", "corrupted", "file"}
    names = {"seed 0", "seed 1", "ensemble"}
    assert set(scores.query("method.str.startswith('Bayes')")["members"]) == names
    for method, members in (("Bayes by Backprop", "seed 1"), ("SGD", "seed 0")):
        test = row(scores, method, members, "test")
        assert row(scores, method, members, "0 pixels")["nll"] == pytest.approx(test["nll"], rel=1e-5)
        assert row(scores, method, members, "0 degrees")["nll"] == pytest.approx(test["nll"], rel=1e-3)
        assert row(scores, method, members, "90 degrees")["error"] > test["error"] + 20
    single = row(scores, "SGD", "seed 0", "noise")
    assert np.isnan(single["auroc_mutual_information"])
    assert single["auroc_entropy"] > 0
    assert (scores.query("method == 'SGD'")["epistemic"] == 0).all()
    assert {"mine.npz"} == set(scores.query("set == 'file'")["part"])
    for name in ("REPORT.md", "report.html", "test/reliability.svg", "noise/entropy.png", "rotated/rotated.png"):
        assert (folder / "out" / name).stat().st_size > 100
    page = (folder / "out" / "REPORT.md").read_text()
    assert "Bayes by Backprop, ensemble of 2" in page
    assert "(corrupted/" not in page


def test_tables_of_the_users_are_not_replaced_and_those_of_an_earlier_call_are(runs, evaluated, run_in, tmp_path):
    out = evaluated[0] / "out"
    require_replaceable(out, evaluate.TABLES)
    for name in evaluate.TABLES:
        (tmp_path / "out").mkdir(exist_ok=True)
        (tmp_path / "out" / name).write_text("mine")
        done = run_in(tmp_path, "evaluate", str(runs["bbb0"].folder), "--on", "noise", "-o", "out")
        assert (done.returncode, f"{name} is there, and is not bbbrun's" in done.stderr) == (1, True), done.stderr
        assert [(path.name, path.read_text()) for path in (tmp_path / "out").iterdir()] == [(name, "mine")]
        (tmp_path / "out" / name).unlink()


def test_a_page_has_no_set_that_an_earlier_call_left(evaluated, tmp_path):
    _, scores = evaluated
    evaluate._write(scores, [], tmp_path)
    evaluate._write(scores[scores["set"] == "test"], [], tmp_path)
    assert (tmp_path / "rotated").is_dir()
    headings = [line for line in (tmp_path / "REPORT.md").read_text().splitlines() if line.startswith("## ")]
    assert headings == [f"## {evaluate._TITLES['test']}"]


def test_means_and_intervals_are_over_seeds(evaluated):
    folder, scores = evaluated
    means = pd.read_csv(folder / "out" / "summary.csv").query("part == 'test'").set_index("method")
    values = scores.query("part == 'test' and method == 'Bayes by Backprop'")["nll"]
    assert len(values) == 2
    assert means.loc["Bayes by Backprop", "nll"] == pytest.approx(values.mean(), rel=1e-5)
    half = student.ppf(0.975, 1) * values.std() / 2**0.5
    assert means.loc["Bayes by Backprop", "nll_ci95"] == pytest.approx(half, rel=1e-2)
    assert np.isnan(means.loc["SGD", "nll_ci95"])
    records = json.loads((folder / "out" / "evaluation.json").read_text())
    [record] = [each for each in records if each["method"] == "SGD" and each["part"] == "test"]
    assert record["nll"] == pytest.approx(means.loc["SGD", "nll"], rel=1e-5)
    assert record["nll_ci95"] is None


def test_the_ensemble_is_the_mixture_of_the_seeds(runs, evaluated):
    _, scores = evaluated
    pixels, labels = held_out()
    tables = [runs[name].predict(pixels, draws=5, seed=2) for name in ("bbb0", "bbb1")]
    mean = torch.from_numpy(np.mean([table[PROBABILITIES].to_numpy() for table in tables], axis=0))
    aleatoric = np.mean([table["aleatoric"].to_numpy() for table in tables], axis=0)
    together = row(scores, "Bayes by Backprop, ensemble of 2", "ensemble", "test")
    entropy = torch.special.entr(mean).sum(dim=1)
    zeros = torch.zeros(len(mean))
    expected = class_scores(ClassPrediction(mean, entropy, zeros, zeros), labels.numpy())
    for name in ("error", "nll", "brier", "ece", "aurc", "entropy"):
        assert together[name] == pytest.approx(expected[name], rel=1e-4)
    assert together["epistemic"] == pytest.approx((entropy.numpy() - aleatoric).mean(), rel=1e-4)
    assert expected["aurc"] == pytest.approx(
        100 * risks(ClassPrediction(mean, entropy, zeros, zeros), labels.numpy()).mean()
    )


def test_a_regression_has_rmse_nll_and_the_share_inside_intervals(runs, run_in, tmp_path):
    x = np.linspace(0, 0.5, 40)
    pd.DataFrame({"y": np.sin(x), "x": x}).to_csv(tmp_path / "points.csv", index=False)
    words = (str(runs["curve"].folder), "--on", "points.csv", "test", "--draws", "4")
    done = run_in(tmp_path, "evaluate", *words, "-o", "out")
    assert done.returncode == 0, done.stderr
    scores = pd.read_csv(tmp_path / "out" / "scores.csv").set_index("part")
    table = runs["curve"].predict(x, draws=4)
    points = scores.loc["points.csv"]
    assert points["rmse"] == pytest.approx(np.sqrt(((table["mean"] - np.sin(x)) ** 2).mean()), rel=1e-4)
    inside = (table["q05"] <= np.sin(x)) & (np.sin(x) <= table["q95"])
    assert points["inside_90"] == pytest.approx(100 * inside.mean(), rel=1e-5)
    legend = (tmp_path / "out" / "file" / "file.md").read_text().splitlines()[-1]
    assert "rmse: RMSE (the target's unit); nll: nll (nats per example)" in legend
    assert legend.endswith("epistemic: epistemic standard deviation (the target's unit).")
    done = run_in(tmp_path, "evaluate", words[0], "--draws", "4", "-o", "default")
    assert done.returncode == 0, done.stderr
    [row] = pd.read_csv(tmp_path / "default" / "scores.csv").to_dict("records")
    assert (row["part"], row["rmse"]) == ("test", scores.loc["test", "rmse"])
    done = run_in(tmp_path, "evaluate", *words[:3], "--mean", "-o", "mean")
    assert done.returncode == 0, done.stderr
    alone = pd.read_csv(tmp_path / "mean" / "scores.csv").loc[0]
    table = runs["curve"].predict(x, mean=True)
    densities = norm.logpdf(np.sin(x), table["mean"], table["standard_deviation"])
    assert alone["nll"] == pytest.approx(-densities.mean(), rel=1e-5)
    assert alone["epistemic"] == 0
    # The curve's test points, and 4 draws of the mixture where training took more.
    recorded = runs["curve"].summary["metrics"]
    assert scores.loc["test", "rmse"] == pytest.approx(recorded["test_rmse"], rel=0.2)


def _files(folder):
    digits = load_digits()
    np.save(folder / "plain.npy", digits.images[:4])
    np.savez(folder / "unlabelled.npz", digits.images[:4])
    np.savez(folder / "uneven.npz", inputs=digits.images[:4], labels=[1, 2])
    np.savez(folder / "class10.npz", inputs=digits.images[:4], labels=[1, 2, 10, 3])
    np.savez(folder / "half.npz", inputs=digits.images[:4], labels=[1, 2, 0.5, 3])
    np.savez(folder / "large.npz", inputs=np.zeros((2, 28, 28)), labels=[1, 2])
    np.savez(folder / "nan.npz", inputs=np.full((2, 8, 8), np.nan), labels=[1, 2])
    header = ",".join(f"p{k}" for k in range(64))
    (folder / "columns.csv").write_text(header + "\n" + ",".join(["1"] * 64) + "\n")
    (folder / "words.csv").write_text(header + ",label\n" + ",".join(["1"] * 64) + ",cat\n")
    (folder / "alone-images-idx3-ubyte").write_bytes(
        bytes([0, 0, 8, 3, 0, 0, 0, 1, 0, 0, 0, 8, 0, 0, 0, 8]) + bytes(64)
    )
    (folder / "no_y.csv").write_text("x\n1\n")
    (folder / "bad_y.csv").write_text("x,y\n1,2\n2,\n")
    (folder / "surplus.csv").write_text("x,y,z\n1,2,3\n")
    (folder / "empty").mkdir()


# (runs, words after them, what the line says)
WRONG = [
    ("bbb0", "--on tset", "--on tset is none of test, mnist, fashion, kmnist, noise, rotated, shifted, corrupted"),
    ("bbb0", "--on fashion", "its images are 28 x 28, and this run's 8 x 8"),
    ("bbb0", "--on plain.npy", "plain.npy has no labels: use an NPZ file"),
    ("bbb0", "--on unlabelled.npz", "unlabelled.npz has the arrays arr_0: name one of them labels"),
    ("bbb0", "--on uneven.npz", "uneven.npz has 4 inputs and 2 labels"),
    ("bbb0", "--on class10.npz", "class10.npz: row 3 has the label '10', not a class from 0 to 9"),
    ("bbb0", "--on half.npz", "half.npz: row 3 has the label '0.5', not a class from 0 to 9"),
    ("bbb0", "--on large.npz", "large.npz: inputs must be images (N, 8, 8)"),
    ("bbb0", "--on nan.npz", "number 1 of row 1 is nan"),
    ("bbb0", "--on columns.csv", "columns.csv: column 'label', the labels, is missing"),
    ("bbb0", "--on words.csv", "words.csv: row 1 has the label 'cat', not a class from 0 to 9"),
    ("bbb0", "--on alone-images-idx3-ubyte", "its labels must lie beside it"),
    ("bbb0", "--on empty", "empty must hold folders named by class"),
    ("bbb0", "--on test -o plain.npy", "--output plain.npy is no folder"),
    ("bbb0 curve", "--on test", "do not predict the same"),
    ("mle", "--on test --draws 5", "method=mle has no draws of its weights"),
    ("curve", "--on rotated", "--on rotated is of images"),
    ("curve", "--on no_y.csv", "no_y.csv: column 'y', the labels, is missing"),
    ("curve", "--on bad_y.csv", "bad_y.csv: row 2 has the label 'nan', not a finite number"),
    ("curve", "--on surplus.csv", "surplus.csv: column 'z' is none of this run's inputs"),
    ("absent", "--on test", "absent"),
]


def test_wrong_words_are_one_line(runs, run_in, tmp_path):
    _files(tmp_path)
    for names, words, text in WRONG:
        folders = [str(runs[name].folder) if name in runs else name for name in names.split()]
        done = run_in(tmp_path, "evaluate", *folders, *words.split())
        assert done.returncode == 1, words
        [line] = done.stderr.splitlines()
        assert line.startswith("bbbrun evaluate: error: "), line
        assert text in line, (text, line)
    assert not (tmp_path / "results").exists()
