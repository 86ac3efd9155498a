"""network=lenet: the function of its module, estimators that take convolutions apart, and what is refused."""

import numpy as np
import pytest
import torch
from torch import nn

import bbbrun
from bbbrun.bayes.estimators import Batch, data_term, free_energy_estimator, usable_estimators
from bbbrun.bayes.likelihoods import categorical
from bbbrun.bayes.networks import initial_weights, lenet
from bbbrun.bayes.posterior import DiagonalGaussian
from bbbrun.bayes.priors import build_prior
from bbbrun.errors import UserError
from bbbrun.runtime.noise import standard_normal
from bbbrun.schema.methods import Estimator, GaussianPriorConfig, Init
from bbbrun.tasks.export import exported, weights_of

SMALL = lenet((1, 4, 5), [2, 3], [4], 3)
WORDS = ("network=lenet", "network.channels=[2,3]", "network.hidden=[8]", "train.epochs=3", "compile=false")
GENERATOR = torch.Generator().manual_seed(0)
IMAGES = torch.rand(5, 1, 4, 5, generator=GENERATOR)
BATCH = Batch(IMAGES, torch.randint(3, (5,), generator=GENERATOR), torch.tensor([1.0, 1, 1, 1, 0]))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return bbbrun.run(
        bbbrun.compose("experiment=digits", *WORDS, "method.estimator=flipout"),
        tmp_path_factory.mktemp("lenet") / "run",
    )


def test_it_is_the_module_of_torch_with_these_weights():
    module = nn.Sequential(
        *(nn.Conv2d(1, 6, 5, padding="same"), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(6, 16, 5, padding="same"), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(16 * 49, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10)),
    )
    network, images = lenet((1, 28, 28), [6, 16], [120, 84], 10), torch.rand(3, 1, 28, 28)
    weights = torch.cat([part.detach().flatten() for part in module.parameters()])
    assert network.size == len(weights)
    torch.testing.assert_close(network(weights, images), module(images))
    torch.testing.assert_close(network.predict(weights, images), module(images).detach())


def gradients(estimator, steps):
    """The gradients in mu and rho that as many steps from one place would follow (T, 2P)."""
    mu = initial_weights(SMALL, Init.he, 1.0, 0)
    prior, key = build_prior(GaussianPriorConfig(name="gaussian", sigma=0.3), "cpu"), torch.tensor(0, dtype=torch.int32)
    estimate = free_energy_estimator(estimator, 1, SMALL, categorical)
    posterior = DiagonalGaussian(mu, torch.full_like(mu, -1.0))
    each = torch.vmap(lambda step: estimate(posterior, prior, key, step, 0, BATCH, torch.tensor(0.0)))
    mu, rho, _ = each(torch.arange(steps, dtype=torch.int32))
    return torch.cat([mu, rho], dim=1).double()


def test_flipout_has_the_mean_of_a_shared_draw_and_less_variance():
    flipout, weights = (gradients(estimator, 6000) for estimator in (Estimator.flipout, Estimator.weights))
    error = (flipout.var(dim=0) / len(flipout) + weights.var(dim=0) / len(weights)).sqrt()
    distance = (flipout.mean(dim=0) - weights.mean(dim=0)).abs() / error.clamp_min(1e-6)
    assert distance.max() < 4.8  # of 2 x 241 z-scores
    assert flipout[:, : SMALL.size].var(dim=0).sum() < weights[:, : SMALL.size].var(dim=0).sum()


def test_flipout_of_a_posterior_without_width_is_the_network_itself():
    mu = initial_weights(SMALL, Init.he, 1.0, 0)
    moments = DiagonalGaussian(mu, torch.full_like(mu, -40.0)).moments()
    key, step = torch.tensor(0, dtype=torch.int32), torch.tensor(0, dtype=torch.int32)
    eps = standard_normal(key, step, 0, SMALL.size)
    parts = [
        data_term(each, SMALL, categorical)(moments, eps, key, step, 0, BATCH) for each in usable_estimators(SMALL)
    ]
    assert len(parts) == 2
    torch.testing.assert_close(parts[0][0].mu, parts[1][0].mu, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(parts[0][1], parts[1][1])


@pytest.mark.parametrize("word", ["method.estimator=local", "method=dropout", "method=mc_dropout"])
def test_what_takes_affine_maps_apart_refuses_it_and_leaves_no_folder(tmp_path, word):
    remedy = "; method.estimator=weights takes any network" if "estimator" in word else ""
    with pytest.raises(UserError, match=f"^{word} needs a network of affine maps alone, such as network=mlp{remedy}$"):
        bbbrun.run(bbbrun.compose("experiment=digits", *WORDS, word), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_it_takes_images_alone(tmp_path):
    with pytest.raises(UserError, match=r"^network=lenet takes images of 4 x 4 pixels or more, not .* \(1,\)$"):
        bbbrun.run(bbbrun.compose("experiment=regression", *WORDS), tmp_path / "run")


def test_it_learns_predicts_and_is_exported(run):
    nll = run.metrics()["nll"]
    assert nll.iloc[-1] < 0.9 * nll.iloc[0]
    images = np.random.default_rng(0).uniform(0, 16, (4, 8, 8)).astype(np.float32)
    predicted = run.predict(images, mean=True)
    network = exported(run._record, weights_of(run._record, None, 0, None))
    lines = network.lines("x.pt")
    module = eval(lines[2].partition("=")[2], {"nn": nn})
    module.load_state_dict(network.module.state_dict())
    probabilities = module(torch.from_numpy(images[:, None]) / 8).softmax(dim=1).detach()
    np.testing.assert_allclose(predicted[[f"p{k}" for k in range(10)]], probabilities, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("estimator", ["weights", "flipout"])
def test_a_compiled_step_does_what_the_plain_one_does(tmp_path, estimator):
    words = (*WORDS[:-1], f"method.estimator={estimator}", "threads=1")
    runs = [
        bbbrun.run(bbbrun.compose("experiment=digits", *words, f"compile={each}"), tmp_path / each)
        for each in ("true", "false")
    ]
    assert runs[0].summary["compiled"]
    for name in ("nll", "complexity"):
        numbers = [run.metrics()[name].iloc[-1] for run in runs]
        assert numbers[0] == pytest.approx(numbers[1], rel=1e-3)
