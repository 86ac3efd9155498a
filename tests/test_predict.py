"""bbbrun predict: the numbers of an independent computation, from any kind of file, and one line for wrong input."""

import gzip
import itertools
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from scipy.special import softmax
from scipy.stats import entropy, norm
from sklearn.datasets import load_digits

import bbbrun
from bbbrun.bayes.draws import BlockSampler, Draws, draw_weights
from bbbrun.bayes.networks import lenet, mlp
from bbbrun.bayes.posterior import DiagonalGaussian
from bbbrun.errors import UserError
from bbbrun.tasks import prediction

DIGITS = load_digits()
PIXELS = DIGITS.images[:120]
FAST = ("network.hidden=[12]", "threads=1", "compile=false")
PROBABILITIES = [f"p{k}" for k in range(10)]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A finished run of each kind, by name."""
    folder = tmp_path_factory.mktemp("runs")
    words = {
        "bbb": ("train.epochs=3", "method.rho_init=[-3,-2]"),
        "mle": ("train.epochs=3", "method=mle"),
        "mle1": ("train.epochs=3", "method=mle", "seed=1"),
        "curve": ("experiment=regression", "train.epochs=20", "dataset.train_points=64"),
    }
    return {name: bbbrun.run(bbbrun.compose(*each, *FAST), folder / name) for name, each in words.items()}


def layers(weights, *widths):
    """The weight (out, in) and bias of each layer, float64, by hand from the flat vector."""
    parts, start = [], 0
    for width_in, width_out in itertools.pairwise(widths):
        weight = weights[start : start + width_in * width_out].reshape(width_out, width_in)
        bias = weights[start + width_in * width_out : start + (width_in + 1) * width_out]
        parts, start = [*parts, (weight, bias)], start + (width_in + 1) * width_out
    return parts


def outputs(weights, x, *widths):
    (first, b), (second, c) = layers(weights.double().numpy(), *widths)
    return np.maximum(x @ first.T + b, 0) @ second.T + c


def draws_of(run, count, seed):
    """The weights of draws 0 .. count - 1: mu + sigma * eps, with the noise that they are defined by."""
    posterior = run.posterior()
    return [
        posterior.mu + posterior.sigma * Draws(seed, 0, count).sample(posterior, number)[1] for number in range(count)
    ]


def by_hand(run, pixels, draws):
    """Probabilities of each draw, (S, N, 10)."""
    x = pixels.reshape(len(pixels), 64) / run.config["dataset"]["pixel_divisor"]
    return np.stack([softmax(outputs(weights, x, 64, 12, 10), axis=1) for weights in draws])


def test_classes_and_uncertainty_are_those_of_numpy(runs):
    run = runs["bbb"]
    table = run.predict(PIXELS, draws=9, seed=5)
    probabilities = by_hand(run, PIXELS, draws_of(run, 9, 5))
    mean = probabilities.mean(axis=0)
    np.testing.assert_allclose(table[PROBABILITIES], mean, atol=2e-6)
    assert (table["class"] == mean.argmax(axis=1)).all()
    assert (table["probability"] == table[PROBABILITIES].max(axis=1)).all()
    np.testing.assert_allclose(table["total"], entropy(mean, axis=1), atol=1e-5)
    np.testing.assert_allclose(table["aleatoric"], entropy(probabilities, axis=2).mean(axis=0), atol=1e-5)
    np.testing.assert_allclose(table["total"], table["aleatoric"] + table["epistemic"], rtol=1e-14)
    # Exactly, of the written probabilities themselves.
    np.testing.assert_allclose(table["total"], entropy(table[PROBABILITIES], axis=1), atol=1e-12)
    assert table["epistemic"].min() >= 0
    assert table["epistemic"].mean() > 1e-3


def test_numbers_are_those_of_the_mixture_of_gaussians(runs):
    run, x = runs["curve"], np.linspace(-0.2, 1.2, 31)
    table = run.predict(x, draws=7, seed=2)
    dataset = run.config["dataset"]
    low, high = dataset["x_low"], dataset["x_high"]
    scaled = (x - (low + high) / 2) / ((high - low) / 2) if dataset["scale_inputs"] else x
    raw = np.stack([outputs(weights, scaled[:, None], 1, 12, 2) for weights in draws_of(run, 7, 2)])
    means, sigmas = raw[..., 0], dataset["sigma_floor"] + dataset["sigma_scale"] * np.logaddexp(0, raw[..., 1])
    np.testing.assert_allclose(table["mean"], means.mean(axis=0), atol=1e-5)
    aleatoric, epistemic = np.sqrt((sigmas**2).mean(axis=0)), means.std(axis=0)
    np.testing.assert_allclose(table["aleatoric"], aleatoric, atol=1e-5)
    np.testing.assert_allclose(table["epistemic"], epistemic, atol=1e-5)
    np.testing.assert_allclose(table["standard_deviation"], np.hypot(table["aleatoric"], table["epistemic"]))
    for percent in (5, 25, 50, 75, 95):
        below = norm.cdf(table[f"q{percent:02}"].to_numpy(), means, sigmas).mean(axis=0)
        np.testing.assert_allclose(below, percent / 100, atol=1e-4)


def test_one_network_leaves_nothing_to_be_learnt(runs):
    assert (runs["mle"].predict(PIXELS)["epistemic"] == 0).all()
    assert (runs["bbb"].predict(PIXELS, draws=1)["epistemic"] == 0).all()


def test_the_mean_network_is_that_of_mu(runs):
    run = runs["bbb"]
    table = run.predict(PIXELS, mean=True)
    np.testing.assert_allclose(table[PROBABILITIES], by_hand(run, PIXELS, [run.posterior().mu])[0], atol=1e-6)


@pytest.mark.parametrize("size", [1, 2, 131_073, 600_001])
def test_a_draw_in_blocks_is_the_draw(size):
    sampler = BlockSampler()
    for _ in range(2):
        posterior = DiagonalGaussian(torch.randn(size), torch.randn(size) - 3)
        for values in ((3, 0, 7), (2**31 - 1, 2**31 - 1, 2**20)):
            numbers = [torch.tensor(each, dtype=torch.int32) for each in values]
            for ours, theirs in zip(sampler(posterior, *numbers), draw_weights(posterior, *numbers), strict=True):
                assert torch.equal(ours, theirs)


def test_rows_predicted_at_once_do_not_matter(runs, monkeypatch):
    monkeypatch.setattr(prediction, "_MOST_BLOCK", 1000)
    for run, inputs in ((runs["bbb"], np.tile(PIXELS, (21, 1, 1))), (runs["curve"], np.linspace(-1, 2, 2520))):
        whole = run.predict(inputs, draws=3)
        assert len(whole) == 2520
        with monkeypatch.context() as patch:
            patch.setattr(prediction, "_MOST", 1)
            pd.testing.assert_frame_equal(run.predict(inputs, draws=3), whole, check_exact=True)


@pytest.mark.parametrize(
    ("network", "draws", "block"),
    [
        (mlp(784, [1200, 1200], 10), 100, 10_000),
        (mlp(784, [1200, 1200], 10), 10_000, 1000),
        (mlp(5, [2**13], 1), 1, 2000),
        (lenet((1, 28, 28), [20, 50], [500], 10), 1, 1000),
    ],
)
def test_rows_of_one_product_fit_the_memory(network, draws, block):
    assert prediction._block(network, draws) == block


def written(run_in, folder, *words):
    done = run_in(folder, "predict", *map(str, words), "-o", "out.csv")
    assert done.returncode == 0, done.stderr
    return read_exactly(folder / "out.csv")


def read_exactly(path):
    """A table of numbers as written; pandas' own parser may be off by a last bit."""
    texts = pd.read_csv(path, dtype=str)
    numbers = [name for name in texts if name not in ("class", "file")]
    table = texts.assign(**{name: [float(text) for text in texts[name]] for name in numbers})
    if "class" in table:
        table["class"] = table["class"].astype(float).astype("Int64")
    return table if "class" not in table or table["class"].isna().any() else table.astype({"class": np.int64})


def test_the_file_holds_what_python_gives(runs, run_in, tmp_path):
    np.save(tmp_path / "inputs.npy", PIXELS)
    words = (runs["bbb"].folder, "inputs.npy", "--draws", 6, "--seed", 3)
    table = written(run_in, tmp_path, *words)
    pd.testing.assert_frame_equal(table, runs["bbb"].predict(PIXELS, draws=6, seed=3), check_exact=True)
    content = (tmp_path / "out.csv").read_bytes()
    written(run_in, tmp_path, *words)
    assert (tmp_path / "out.csv").read_bytes() == content
    written(run_in, tmp_path, *words[:-1], 4)
    assert (tmp_path / "out.csv").read_bytes() != content
    unsure = written(run_in, tmp_path, *words, "--min-probability", 0.3)
    assert unsure["class"].isna().to_numpy().tolist() == (table["probability"] < 0.3).tolist()
    assert 0 < unsure["class"].isna().sum() < len(table)
    pd.testing.assert_frame_equal(unsure.drop(columns="class"), table.drop(columns="class"), check_exact=True)
    from_python = runs["bbb"].predict(PIXELS, draws=6, seed=3, min_probability=0.3)["class"]
    assert from_python.isna().tolist() == unsure["class"].isna().tolist()


def test_runs_count_the_same_in_an_ensemble(runs, run_in, tmp_path):
    np.save(tmp_path / "inputs.npy", PIXELS)
    names = ("bbb", "mle", "mle1")
    table = written(run_in, tmp_path, *(runs[name].folder for name in names), "inputs.npy", "--draws", 5)
    alone = [runs[name].predict(PIXELS, draws=5) for name in names]
    for name in (*PROBABILITIES, "aleatoric"):
        np.testing.assert_allclose(table[name], np.mean([each[name] for each in alone], axis=0), atol=1e-12)
    np.testing.assert_allclose(table["total"], entropy(table[PROBABILITIES], axis=1), atol=1e-12)
    assert table["epistemic"].mean() > max(each["epistemic"].mean() for each in alone)


def test_runs_of_two_data_sets_are_no_ensemble(runs):
    """Digits and clothes have ten classes of one size, and no class in common."""
    members = [prediction.member_of(runs[name]._record, 1, 0, True) for name in ("mle", "mle1")]
    record = members[1].run
    other = record._replace(config=record.config | {"dataset": record.config["dataset"] | {"name": "fashion_mnist"}})
    assert prediction.Ensemble(members).draws == 2
    with pytest.raises(UserError, match="do not predict the same"):
        prediction.Ensemble([members[0], members[1]._replace(run=other)])


def idx(array, code, path):
    header = bytes([0, 0, code, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape)
    content = header + array.astype({8: ">u1", 13: ">f4"}[code]).tobytes()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def test_every_kind_of_file_gives_the_same_rows(runs, run_in, tmp_path):
    flat = PIXELS.reshape(len(PIXELS), 64)
    frame = pd.DataFrame(flat, columns=[f"pixel{k}" for k in range(64)])
    frame.to_csv(tmp_path / "a.csv", index=False)
    frame.to_csv(tmp_path / "plain.csv", index=False, header=False)
    np.save(tmp_path / "c.npy", PIXELS.astype(np.uint8))
    np.save(tmp_path / "fortran.npy", np.asfortranarray(flat))
    np.savez(tmp_path / "one.npz", PIXELS)
    np.savez_compressed(tmp_path / "two.npz", inputs=PIXELS[:, None], labels=DIGITS.target[:120])
    idx(PIXELS, 8, tmp_path / "images-idx3-ubyte")
    idx(PIXELS, 13, tmp_path / "images.idx.gz")
    (tmp_path / "pictures").mkdir()
    for row, image in enumerate(PIXELS):
        Image.fromarray(image.astype(np.uint8)).save(tmp_path / "pictures" / f"{row:03}.png")
    expected = runs["bbb"].predict(PIXELS, draws=3)
    names = "a.csv plain.csv c.npy fortran.npy one.npz two.npz images-idx3-ubyte images.idx.gz pictures"
    for name in names.split():
        table = written(run_in, tmp_path, runs["bbb"].folder, name, "--draws", 3)
        if name == "pictures":
            assert table.pop("file").tolist() == [f"{row:03}.png" for row in range(120)]
        pd.testing.assert_frame_equal(table, expected, check_exact=True)


def test_parquet_is_read_and_written(runs, run_in, tmp_path, monkeypatch):
    pytest.importorskip("pyarrow")
    frame = pd.DataFrame({"x": np.linspace(0, 1, 2500)})
    frame.to_parquet(tmp_path / "x.parquet", row_group_size=700)
    done = run_in(tmp_path, "predict", str(runs["curve"].folder), "x.parquet", "-o", "out.parquet", "--draws", "3")
    assert done.returncode == 0, done.stderr
    table = pd.read_parquet(tmp_path / "out.parquet")
    pd.testing.assert_frame_equal(table, runs["curve"].predict(frame, draws=3), check_exact=True)


def test_predictions_go_into_a_pipe(runs, run_in, tmp_path):
    os.mkfifo(tmp_path / "pipe.csv")
    pd.DataFrame({"x": np.linspace(0, 1, 200_000)}).to_csv(tmp_path / "x.csv", index=False)
    tables = []
    reader = threading.Thread(target=lambda: tables.append(pd.read_csv(tmp_path / "pipe.csv")))
    reader.start()
    done = run_in(tmp_path, "predict", str(runs["curve"].folder), "x.csv", "-o", "pipe.csv", "--mean")
    assert done.returncode == 0, done.stderr
    reader.join()
    assert len(tables[0]) == 200_000
    assert (tmp_path / "pipe.csv").is_fifo()


def test_a_row_that_is_wrong_late_in_a_parquet_file_is_one_line_and_leaves_none(runs, run_in, tmp_path):
    pytest.importorskip("pyarrow")
    x = np.linspace(0, 1, 300_000)
    x[-1] = np.nan
    pd.DataFrame({"x": x}).to_parquet(tmp_path / "x.parquet")
    done = run_in(tmp_path, "predict", str(runs["curve"].folder), "x.parquet", "-o", "out.parquet", "--draws", "1")
    assert done.returncode == 1
    *progress, line = done.stderr.splitlines()  # none on an idle machine
    assert all(text.startswith("predict") for text in progress), progress
    assert line == "bbbrun predict: error: x.parquet: row 300000, column 'x': the value is missing"
    assert [path.name for path in tmp_path.iterdir()] == ["x.parquet"]


def test_a_column_that_is_there_twice_is_refused(runs):
    frame = pd.DataFrame([[0.1, 0.2]], columns=["x", "x"])
    with pytest.raises(ValueError, match="column 'x' is there twice"):
        runs["curve"].predict(frame)


def _inputs(folder: Path) -> None:
    """Files that are wrong in one way each, beside good ones."""
    flat = PIXELS.reshape(len(PIXELS), 64)[:5]
    np.save(folder / "good.npy", PIXELS[:5])
    np.save(folder / "bright.npy", PIXELS[:5] * 16)
    np.save(folder / "large.npy", np.zeros((3, 28, 28)))
    np.save(folder / "nan.npy", np.where(np.arange(8) == 3, np.nan, PIXELS[:5]))
    np.save(folder / "words.npy", np.array(["a", "b"]))
    np.save(folder / "objects.npy", np.array([{}, None]), allow_pickle=True)
    np.save(folder / "none.npy", np.zeros((0, 8, 8)))
    (folder / "cut.npy").write_bytes((folder / "good.npy").read_bytes()[:200])
    np.savez(folder / "unnamed.npz", a=flat, b=flat)
    (folder / "noise.npz").write_bytes(b"noise")
    idx(PIXELS[:5], 8, folder / "cut-ubyte")
    (folder / "cut-ubyte").write_bytes((folder / "cut-ubyte").read_bytes()[:-1])
    idx(PIXELS[:5], 8, folder / "cut-ubyte.gz")
    (folder / "cut-ubyte.gz").write_bytes((folder / "cut-ubyte.gz").read_bytes()[:-40])
    (folder / "text-ubyte").write_bytes(b"some text")
    (folder / "x.csv").write_text("x\n0.5\n")
    (folder / "missing.csv").write_text("z\n0.5\n")
    (folder / "semicolon.csv").write_text("x;z\n0,5;1\n")
    (folder / "tab.csv").write_text("x\tz\n0.5\t1\n")
    (folder / "surplus.csv").write_text("x,age\n0.5,3\n")
    (folder / "word.csv").write_text("x\n0.5\n0.6\nsix\n")
    (folder / "empty_value.csv").write_text("x,age\n".replace(",age", "") + "0.5\nNaN\n")
    (folder / "boolean.csv").write_text("x\nTrue\n")
    (folder / "huge.csv").write_text("x\n1e300\n")
    (folder / "ragged.csv").write_text("x\n0.5\n0.5,0.6\n")
    (folder / "header.csv").write_text("x\n")
    (folder / "empty.csv").write_text("")
    (folder / "latin.csv").write_bytes("größe\n1\n".encode("latin-1"))
    (folder / "pixels.csv").write_text(",".join(["1"] * 63) + "\n")
    (folder / "labelled.csv").write_text(",".join([*(f"p{k}" for k in range(64)), "label"]) + "\n" + "1," * 64 + "1\n")
    for name in ("pictures", "other_size", "no_picture", "bare", "deep"):
        (folder / name).mkdir()
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(folder / "pictures" / "a.png")
    Image.fromarray(np.zeros((9, 8), np.uint8)).save(folder / "other_size" / "b.png")
    (folder / "no_picture" / "c.png").write_bytes(b"no picture")
    Image.fromarray(np.zeros((8, 8), np.uint16)).save(folder / "deep" / "d.png")
    (folder / "old.csv").write_text("as it was")


# (run, file, options, what the line says)
WRONG = [
    ("bbb", "absent.csv", "", "absent.csv: there is no such file or folder"),
    ("bbb", "bright.npy", "", "bright.npy: row 1: pixel 3 is 80, and this run's pixels are from 0 to 16"),
    ("bbb", "large.npy", "", r"large.npy: inputs must be images (N, 8, 8) of finite pixels, not an array (3, 28, 28)"),
    ("bbb", "nan.npy", "", "number 4 of row 1 is nan"),
    ("bbb", "words.npy", "", "words.npy must hold rows of numbers"),
    ("bbb", "objects.npy", "", "objects.npy is no NPY file of numbers"),
    ("bbb", "none.npy", "", "none.npy has no rows"),
    ("bbb", "cut.npy", "", "cut.npy is no NPY file of numbers"),
    ("bbb", "unnamed.npz", "", "unnamed.npz has the arrays a, b: name one of them inputs"),
    ("bbb", "noise.npz", "", "noise.npz is no NPZ file of numbers"),
    ("bbb", "cut-ubyte", "", "cut-ubyte is cut short: its header says 5 rows"),
    ("bbb", "cut-ubyte.gz", "", "cut-ubyte.gz is damaged or cut short"),
    ("bbb", "text-ubyte", "", "text-ubyte is no IDX file: it begins with 73 6f 6d 65"),
    ("bbb", "pixels.csv", "", "a row must be the 64 pixels of an image, 8 x 8, not 63 columns"),
    ("bbb", "labelled.csv", "", "not 65 columns, as 'label' is one too many"),
    ("bbb", "other_size", "", "b.png: the picture is 8 x 9 pixels, wide and high, where this run's are 8 x 8"),
    ("bbb", "no_picture", "", "c.png is no PNG or JPEG picture"),
    ("bbb", "deep", "", "d.png: a picture of mode I;16, not of 8 bits a channel"),
    ("bbb", "bare", "", "bare must hold PNG or JPEG pictures"),
    ("curve", "pictures", "", "pictures is a folder, and this run's inputs are no pictures"),
    ("curve", "missing.csv", "", "missing.csv: column 'x' is missing: there are z"),
    ("curve", "semicolon.csv", "", "semicolon.csv: its columns are separated by ';', and must be by commas"),
    ("curve", "tab.csv", "", r"tab.csv: its columns are separated by '\t', and must be by commas"),
    ("curve", "surplus.csv", "", "surplus.csv: column 'age' is none of this run's inputs, x"),
    ("curve", "word.csv", "", "word.csv: row 3, column 'x': 'six' is no number"),
    ("curve", "empty_value.csv", "", "row 2, column 'x': the value is missing"),
    ("curve", "boolean.csv", "", "row 1, column 'x': 'True' is no number"),
    ("curve", "huge.csv", "", "row 1, column 'x': the value is no finite float32"),
    ("curve", "ragged.csv", "", "ragged.csv is no CSV file that can be read"),
    ("curve", "header.csv", "", "header.csv has no rows"),
    ("curve", "empty.csv", "", "empty.csv has no rows"),
    ("curve", "latin.csv", "", "latin.csv is no CSV file in UTF-8"),
    ("curve", "old.txt", "", "old.txt: there is no such file"),
    ("curve", "x.csv", "--min-probability 0.5", "--min-probability is for classes"),
    ("mle", "good.npy", "--draws 5", "method=mle has no draws of its weights"),
    ("bbb", "good.npy", "-o absent/out.csv", "there is no folder absent"),
    ("bbb", "good.npy", "-o out.txt", "--output must end in .csv or .parquet, not out.txt"),
    ("curve", "x.csv", "-o x.csv", "is the file of inputs itself"),
    ("absent", "good.npy", "", "absent"),
    ("bbb curve", "good.npy", "", "do not predict the same: no ensemble of both"),
]


def test_wrong_input_is_one_line_and_leaves_nothing(runs, run_in, tmp_path):
    _inputs(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for names, file, options, text in WRONG:
        folders = [str(runs[name].folder) if name in runs else name for name in names.split()]
        output = [] if "-o" in options else ["-o", "old.csv"]
        done = run_in(tmp_path, "predict", *folders, file, *options.split(), *output)
        lines = [line for line in done.stderr.splitlines() if line != "an ensemble of 2 runs"]
        assert done.returncode == 1, file
        assert len(lines) == 1, (file, done.stderr)
        assert lines[0].startswith("bbbrun predict: error: "), lines
        assert text in lines[0], (text, lines[0])
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("run", "name at least one run"),
        ("run x.csv --draws 0", "--draws must be from 1"),
        ("run x.csv --draws many", "invalid int value"),
        ("run x.csv --seed -1", "--seed must be from 0"),
        ("run x.csv --mean --seed 3", "--mean draws nothing"),
        ("run x.csv --min-probability 1.5", "--min-probability must be from 0 to 1"),
    ],
)
def test_wrong_words_are_refused(run_in, tmp_path, words, text):
    done = run_in(tmp_path, "predict", *words.split(), "-o", "out.csv")
    assert done.returncode == 2
    assert text in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("name", ["x.csv", "x.npy"])
def test_memory_is_flat_over_rows(runs, tmp_path, name):
    script = (
        "import resource, sys; from bbbrun.verbs.predict import main; main(sys.argv[1:]);"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    peaks = []
    for rows in (100_000, 1_000_000):
        if name == "x.csv":
            pd.DataFrame({"x": np.linspace(0, 1, rows)}).to_csv(tmp_path / name, index=False)
        else:
            np.save(tmp_path / name, np.tile(PIXELS.astype(np.uint8), (-(-rows // len(PIXELS)), 1, 1))[:rows])
        run = runs["curve" if name == "x.csv" else "bbb"]
        words = [str(run.folder), str(tmp_path / name), "-o", str(tmp_path / "out.csv"), "--draws", "2"]
        done = subprocess.run(
            [sys.executable, "-c", script, *words], capture_output=True, text=True, check=True, cwd=tmp_path
        )
        peaks.append(int(done.stdout.split()[-1]))
    assert peaks[1] < 1.1 * peaks[0]
