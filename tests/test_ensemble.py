"""method=ensemble: its members are separate networks, trained as one graph, and its draws."""

import numpy as np
import pytest
import torch

import bbbrun
from bbbrun.errors import UserError
from bbbrun.tasks.export import weights_of

WORDS = ("experiment=digits", "network.hidden=[9]", "train.epochs=3", "compile=false", "threads=1", "seed=4")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ensemble")
    words = {"ensemble": ("method=ensemble", "method.members=3"), "mle": ("method=mle",)}
    return {name: bbbrun.run(bbbrun.compose(*WORDS, *each), folder / name) for name, each in words.items()}


def test_its_first_member_is_the_network_that_would_be_trained_alone(runs):
    [members], [alone] = runs["ensemble"].parameters(), runs["mle"].parameters()
    assert members.shape == (3 * len(alone),)
    torch.testing.assert_close(members.view(3, -1)[0], alone, rtol=1e-4, atol=1e-5)
    distances = (members.view(3, 1, -1) - members.view(1, 3, -1)).norm(dim=2)
    assert (distances[~torch.eye(3, dtype=bool)] > 1).all()


def test_it_predicts_the_mean_of_its_members(runs):
    pixels = np.random.default_rng(0).uniform(0, 16, (6, 8, 8)).astype(np.float32)
    predicted = runs["ensemble"].predict(pixels)
    probabilities, entropies = [], []
    for member in runs["ensemble"].parameters()[0].double().view(3, -1).numpy():
        a, b, c, d = np.split(member, np.cumsum([9 * 64, 9, 90]))
        logits = np.maximum(pixels.reshape(6, 64) / 8 @ a.reshape(9, 64).T + b, 0) @ c.reshape(10, 9).T + d
        p = np.exp(logits - logits.max(1, keepdims=True))
        probabilities.append(p / p.sum(1, keepdims=True))
        entropies.append(-(probabilities[-1] * np.log(probabilities[-1])).sum(1))
    np.testing.assert_allclose(predicted[[f"p{k}" for k in range(10)]], np.mean(probabilities, 0), atol=1e-6)
    np.testing.assert_allclose(predicted["aleatoric"], np.mean(entropies, 0), atol=1e-5)
    assert (predicted["epistemic"] > 0).all()


def test_its_networks_are_exported_one_by_one(runs):
    run = runs["ensemble"]._record
    assert torch.equal(weights_of(run, 2, 0, None), runs["ensemble"].parameters()[0].view(3, -1)[2])
    with pytest.raises(UserError, match="3 networks and no mean: name one, from 0, by --draw"):
        weights_of(run, None, 0, None)
    with pytest.raises(UserError, match="--draw 3: method=ensemble has the networks 0 to 2"):
        weights_of(run, 3, 0, None)


def test_it_has_no_mean_to_predict_by(runs):
    with pytest.raises(
        UserError, match=r"--mean \(from Python mean=True\): method=ensemble has 3 networks and no mean of them"
    ):
        runs["ensemble"].predict(np.zeros((1, 8, 8)), mean=True)
    runs["mle"].predict(np.zeros((1, 8, 8)), mean=True)


def test_it_goes_on_where_it_was_and_is_a_replica_too(tmp_path, run_in):
    words = (*WORDS, "method=ensemble", "method.members=2", "train.checkpoint_seconds=0")
    together = run_in(tmp_path, *words, "replicas=2", "hydra.run.dir=together")
    assert together.returncode == 0, together.stderr
    alone = bbbrun.run(bbbrun.compose(*words), tmp_path / "alone")
    (first, _) = bbbrun.load_runs(tmp_path / "together")
    torch.testing.assert_close(first.parameters()[0], alone.parameters()[0], rtol=1e-4, atol=1e-5)


def test_one_member_is_no_ensemble(run_in, tmp_path):
    done = run_in(tmp_path, "method=ensemble", "method.members=1")
    assert done.returncode == 1
    assert "method.members must be a whole number of at least 2, not 1" in done.stderr
