"""bbbrun export: the network without bbbrun gives the run's own outputs."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from scipy.special import softmax

import bbbrun
from bbbrun.bayes.draws import Draws
from bbbrun.data.images import IMAGES
from bbbrun.schema.datasets import DigitsConfig

FAST = ("network.hidden=[12,9]", "threads=1", "compile=false", "train.epochs=3", "train.evaluate_every=3")
PROBABILITIES = [f"p{k}" for k in range(10)]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    words = {
        "bbb": ("method.rho_init=[-3,-2]",),
        "mle": ("method=mle",),
        "mc_dropout": ("method=mc_dropout",),
        "curve": ("experiment=regression", "train.epochs=10", "train.evaluate_every=10", "dataset.train_points=64"),
    }
    return {name: bbbrun.run(bbbrun.compose(*FAST, *each), folder / name) for name, each in words.items()}


def held_out():
    return IMAGES["digits"].load(DigitsConfig(name="digits", valid_size=0, pixel_divisor=8.0, test=True))[2:]


def loaded(folder, name, **values):
    """The output of the written lines in a process without bbbrun."""
    np.savez(folder / "values.npz", **values)
    script = (
        "import sys; sys.modules['bbbrun'] = None\n"
        "import numpy, torch\n"
        f"values = numpy.load('values.npz'); globals().update({{k: torch.from_numpy(values[k]) for k in values}})\n"
        f"exec(open('{name}').read())\n"
        "numpy.save('result.npy', (logits if 'logits' in globals() else outputs).detach().numpy())\n"
    )
    subprocess.run([sys.executable, "-c", script], cwd=folder, check=True, timeout=120)
    return np.load(folder / "result.npy")


def export(run_in, folder, run, *words):
    done = run_in(folder, "export", str(run.folder), *words)
    assert done.returncode == 0, done.stderr
    return done


@pytest.mark.slow
def test_the_mean_loads_in_five_lines_without_bbbrun(runs, run_in, tmp_path):
    pixels, _ = held_out()
    for name in ("bbb", "mle", "mc_dropout"):
        done = export(run_in, tmp_path, runs[name], "-o", "net.pt")
        assert len(done.stdout.splitlines()) == 5
        assert (tmp_path / "net.py").read_text().endswith(done.stdout)
        state = torch.load(tmp_path / "net.pt", weights_only=True)
        assert [tuple(each.shape) for each in state.values()] == [(12, 64), (12,), (9, 12), (9,), (10, 9), (10,)]
        logits = loaded(tmp_path, "net.py", images=pixels[:, None].float().numpy())
        expected = runs[name].predict(pixels.numpy(), mean=True)[PROBABILITIES]
        np.testing.assert_allclose(softmax(logits, axis=1), expected, atol=2e-6)


def test_a_draw_is_that_of_the_predictions(runs, run_in, tmp_path):
    export(run_in, tmp_path, runs["bbb"], "-o", "net.pt", "--draw", "4", "--seed", "7")
    state = torch.load(tmp_path / "net.pt", weights_only=True)
    weights = torch.cat([each.flatten() for each in state.values()])
    expected = Draws(7, 0, 5).sample(runs["bbb"].posterior(), 4)[0]
    assert torch.equal(weights, expected)


# The loader of torch 2.11 warns of itself.
@pytest.mark.filterwarnings("ignore:The given buffer is not writable:UserWarning")
def test_a_program_takes_raw_inputs_of_any_number(runs, run_in, tmp_path):
    pixels, _ = held_out()
    export(run_in, tmp_path, runs["bbb"], "-o", "net.pt2")
    module = torch.export.load(tmp_path / "net.pt2").module()
    for count in (1, 7):
        logits = module(pixels[:count, None].float()).detach().numpy()
        expected = runs["bbb"].predict(pixels[:count].numpy(), mean=True)[PROBABILITIES]
        np.testing.assert_allclose(softmax(logits, axis=1), expected, atol=2e-6)


def test_a_regression_is_exported_with_its_scaling(runs, run_in, tmp_path):
    x = np.linspace(-0.2, 1.2, 9, dtype=np.float32)[:, None]
    expected = runs["curve"].predict(x, mean=True)["mean"]
    export(run_in, tmp_path, runs["curve"], "-o", "curve.pt")
    np.testing.assert_allclose(loaded(tmp_path, "curve.py", x=x)[:, 0], expected, atol=1e-5)
    export(run_in, tmp_path, runs["curve"], "-o", "curve.pt2")
    outputs = torch.export.load(tmp_path / "curve.pt2").module()(torch.from_numpy(x)).detach()
    np.testing.assert_allclose(outputs[:, 0], expected, atol=1e-5)


def test_the_pruned_network_keeps_the_weights_of_highest_signal_to_noise(runs, run_in, tmp_path):
    done = export(run_in, tmp_path, runs["bbb"], "-o", "net.pt", "--prune", "75")
    state = torch.load(tmp_path / "net.pt", weights_only=True)
    weights = torch.cat([each.flatten() for each in state.values()])
    posterior = runs["bbb"].posterior()
    ratio = (posterior.mu.abs() / posterior.sigma).double()
    removed = weights == 0
    assert removed.double().mean() == pytest.approx(0.75, abs=1e-3)
    assert ratio[removed].max() <= ratio[~removed].min()
    assert torch.equal(weights[~removed], posterior.mu[~removed])
    pixels, labels = held_out()
    logits = loaded(tmp_path, "net.py", images=pixels[:, None].float().numpy())
    error = 100 * (logits.argmax(axis=1) != labels.numpy()).mean()
    whole = runs["bbb"].summary["metrics"]["test_error_mean"]
    [line] = done.stderr.splitlines()
    share = 100 * removed.double().mean().item()
    errors = f"test error (percent) {error:.4g}, with none removed {whole:.4g}"
    assert line == f"{share:.4g} % of {len(weights)} weights are zero; {errors}"
    assert f"# {line}" in (tmp_path / "net.py").read_text()


# (run, options, what the line says)
WRONG = [
    ("bbb", "-o net.bin", "--output must end in .pt or .pt2, not net.bin"),
    ("bbb", "-o absent/net.pt", "there is no absent"),
    ("bbb", "-o taken.pt", "taken.py is there, and is not bbbrun's"),
    ("bbb", "-o folder.pt", "it is a folder"),
    ("mle", "-o net.pt --draw 1", "--draw 1: method=mle has no draws of its weights"),
    ("mle", "-o net.pt --prune 50", "--prune needs a posterior, and method=mle has none"),
    ("mc_dropout", "-o net.pt --prune 50", "--prune needs a posterior"),
    ("absent", "-o net.pt", "absent"),
    (".", "-o net.pt", "no finished run"),
    ("all", "-o net.pt", "runs: name one, such as"),
]


def test_wrong_words_are_one_line(runs, run_in, tmp_path):
    (tmp_path / "taken.py").write_text("print('mine')\n")
    (tmp_path / "folder.pt").mkdir()
    for name, words, text in WRONG:
        folder = str(runs[name].folder) if name in runs else name
        folder = str(runs["bbb"].folder.parent) if name == "all" else folder
        done = run_in(tmp_path, "export", folder, *words.split())
        assert done.returncode == 1, words
        [line] = done.stderr.splitlines()
        assert line.startswith("bbbrun export: error: "), line
        assert text in line, (text, line)
    wrong = ["--draw -1", "--draw one", "--draw 1048576", "--draw 1 --seed -1", "--draw 1 --prune 50", "--prune 100"]
    wrong += ["--prune -1", "--prune half", "--prune nan", "--seed 3", "--data .", "--mean"]
    for words in wrong:
        done = run_in(tmp_path, "export", str(runs["bbb"].folder), "-o", "net.pt", *words.split())
        assert done.returncode == 2, words
        assert "error: " in done.stderr.splitlines()[-1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder.pt", "taken.py"]
