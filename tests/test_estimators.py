import math

import pytest
import torch
import torch.nn.functional as F

from bbbrun.bayes import estimators
from bbbrun.bayes.estimators import Batch, data_term, free_energy_estimator
from bbbrun.bayes.likelihoods import categorical
from bbbrun.bayes.modules import from_module
from bbbrun.bayes.networks import initial_weights, mlp
from bbbrun.bayes.objective import complexity_gradient, free_energy_gradient
from bbbrun.bayes.posterior import DiagonalGaussian
from bbbrun.bayes.priors import build_prior
from bbbrun.errors import UserError
from bbbrun.runtime.noise import Stream, signs, standard_normal
from bbbrun.schema.methods import Estimator, GaussianPriorConfig, Init, ScaleMixtureConfig

NETWORK = mlp(4, [5], 3)
GENERATOR = torch.Generator().manual_seed(0)
INPUTS = torch.rand(7, 4, generator=GENERATOR)
LABELS = torch.randint(3, (7,), generator=GENERATOR)
PRESENT = torch.tensor([1.0] * 6 + [0.0])
WEIGHT = 0.3
PRIORS = [
    ScaleMixtureConfig(name="scale_mixture", pi=0.25, sigma1=1.0, sigma2=0.1),
    GaussianPriorConfig(name="gaussian", sigma=0.3),
]


def place(rho):
    mu = initial_weights(NETWORK, Init.he, 1.0, 0)
    return DiagonalGaussian(mu, torch.full_like(mu, rho))


def gradients(estimator, prior, steps=20_000):
    """The gradients in mu and rho that as many steps from one place would follow (T, 2P), and their nlls (T,)."""
    estimate = free_energy_estimator(estimator, 1, NETWORK, categorical)
    prior = build_prior(prior, "cpu")
    batch, key = Batch(INPUTS, LABELS, PRESENT), torch.tensor(0, dtype=torch.int32)
    each = torch.vmap(lambda step: estimate(place(-1.0), prior, key, step, 0, batch, torch.tensor(WEIGHT)))
    mu, rho, nll = each(torch.arange(steps, dtype=torch.int32))
    return torch.cat([mu, rho], dim=1).double(), nll.double()


def reference(prior, draws=40_000):
    """The same by autograd through a reparameterised sample and torch.distributions."""
    mu, rho = (part.double() for part in place(-1.0))
    prior = build_prior(prior, "cpu")
    eps = torch.randn(draws, NETWORK.size, generator=torch.Generator().manual_seed(1), dtype=torch.float64)

    def energy(mu, rho, eps):
        normal = torch.distributions.Normal(mu, F.softplus(rho), validate_args=False)
        w = mu + F.softplus(rho) * eps
        nll = (F.cross_entropy(NETWORK(w, INPUTS.double()), LABELS, reduction="none") * PRESENT).sum()
        return WEIGHT * (normal.log_prob(w) - prior.log_prob(w)).sum() + nll, nll

    each, nll = torch.vmap(torch.func.grad(energy, argnums=(0, 1), has_aux=True), in_dims=(None, None, 0))(mu, rho, eps)
    return torch.cat(each, dim=1), nll


@pytest.mark.parametrize("prior", PRIORS)
@pytest.mark.parametrize("estimator", list(Estimator))
def test_every_estimator_has_the_mean_of_the_reparameterised_sample(estimator, prior):
    for ours, theirs in zip(gradients(estimator, prior), reference(prior), strict=True):
        error = (ours.var(dim=0) / len(ours) + theirs.var(dim=0) / len(theirs)).sqrt()
        distance = (ours.mean(dim=0) - theirs.mean(dim=0)).abs() / error.clamp_min(1e-6)
        # Of 2 x 43 z-scores; a term left out, or counted twice, is 20 and more away.
        assert distance.max() < 4.5


@pytest.mark.parametrize("estimator", [Estimator.local, Estimator.flipout])
def test_examples_see_draws_of_their_own_so_that_the_variance_falls(estimator):
    prior = PRIORS[0]
    weights, nlls = gradients(Estimator.weights, prior, 5000)
    ours, our_nlls = gradients(estimator, prior, 5000)
    assert our_nlls.var() < 0.8 * nlls.var()
    assert ours[:, : NETWORK.size].var(dim=0).sum() < weights[:, : NETWORK.size].var(dim=0).sum()


@pytest.mark.parametrize("estimator", list(Estimator))
def test_without_deviation_every_estimator_is_the_plain_gradient(estimator):
    posterior = place(-50.0).moments()
    eps, number = standard_normal(0, 0, 0, NETWORK.size), torch.tensor(0, dtype=torch.int32)
    batch = Batch(INPUTS, LABELS, PRESENT)
    gradient, value = data_term(estimator, NETWORK, categorical)(posterior, eps, number, number, 0, batch)
    weights = posterior.mu.clone().requires_grad_()
    nll = (F.cross_entropy(NETWORK(weights, INPUTS), LABELS, reduction="none") * PRESENT).sum()
    nll.backward()
    torch.testing.assert_close(value, nll.detach())
    torch.testing.assert_close(gradient.mu, weights.grad)
    assert gradient.sigma.isfinite().all()


@pytest.mark.parametrize("estimator", [Estimator.local, Estimator.flipout])
def test_draws_layers_and_sides_have_noise_of_their_own(monkeypatch, estimator):
    seen = []

    def recorded(original, several):
        def record(seed, step, first, sizes, device):
            seen.extend((int(first) + number, size) for number, size in enumerate(sizes if several else [sizes]))
            return original(seed, step, first, sizes, device)

        return record

    for name in ("standard_normal", "standard_normals", "signs"):
        monkeypatch.setattr(estimators, name, recorded(getattr(estimators, name), name != "standard_normal"))
    estimate = free_energy_estimator(estimator, 3, NETWORK, categorical)
    number, batch = torch.tensor(0, dtype=torch.int32), Batch(INPUTS, LABELS, PRESENT)
    estimate(place(0.0), build_prior(PRIORS[0], "cpu"), number, number, 0, batch, torch.tensor(WEIGHT))
    # A draw of the weights each, and of two layers' activations, or of the signs of their inputs and outputs.
    assert len(seen) == 3 * (1 + (2 if estimator is Estimator.local else 4))
    assert len({draw for draw, _ in seen}) == len(seen)
    assert sorted(size for _, size in seen[1:3]) != [NETWORK.size] * 2


@pytest.mark.parametrize("estimator", [Estimator.local, Estimator.flipout])
def test_a_gaussian_priors_complexity_is_exact_beside_them(estimator):
    prior = build_prior(PRIORS[1], "cpu")
    where = torch.tensor(7, dtype=torch.int32), torch.tensor(2, dtype=torch.int32), 0, Batch(INPUTS, LABELS, PRESENT)
    estimate = free_energy_estimator(estimator, 1, NETWORK, categorical)
    with_it, without = (estimate(place(-1.0), prior, *where, torch.tensor(weight)) for weight in (1.0, 0.0))
    kl = prior.kl_gradient(place(-1.0).moments())
    torch.testing.assert_close(with_it[0] - without[0], kl.mu, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(with_it[1] - without[1], kl.sigma * torch.sigmoid(place(-1.0).rho), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("estimator", list(Estimator))
def test_several_draws_are_the_mean_of_single_ones(estimator):
    prior, batch = build_prior(PRIORS[0], "cpu"), Batch(INPUTS, LABELS, PRESENT)
    where = torch.tensor(7, dtype=torch.int32), torch.tensor(2, dtype=torch.int32), 0, batch, torch.tensor(WEIGHT)
    *gradient, nll = free_energy_estimator(estimator, 3, NETWORK, categorical)(place(-1.0), prior, *where)
    eps = [standard_normal(7, 2, draw, NETWORK.size) for draw in range(3)]
    singles, moments = [], place(-1.0).moments()
    for draw in range(3):
        part, value = data_term(estimator, NETWORK, categorical)(moments, eps[draw], *where[:2], draw, batch)
        complexity = complexity_gradient(moments, prior, eps[draw])
        singles.append([*free_energy_gradient(moments, part, complexity, where[4]), value])
    for ours, theirs in zip([*gradient, nll], zip(*singles, strict=True), strict=True):
        torch.testing.assert_close(ours, sum(theirs) / 3)


def test_signs_are_fair_and_independent():
    flips = torch.stack([signs(3, step, Stream.SIGN, [1000])[0] for step in range(200)])
    assert flips.shape == (200, 1000)
    assert set(flips.unique().tolist()) == {-1.0, 1.0}
    assert abs(flips.mean()) < 5 / math.sqrt(flips.numel())
    # Neighbours in a row, bits of one word among them, and the same place at the next step.
    assert abs((flips[:, 1:] * flips[:, :-1]).mean()) < 5 / math.sqrt(flips.numel())
    assert abs((flips[1:] * flips[:-1]).mean()) < 5 / math.sqrt(flips.numel())
    assert flips.mean(dim=0).abs().max() < 5 / math.sqrt(200)


@pytest.mark.parametrize("estimator", [Estimator.local, Estimator.flipout])
def test_other_estimators_need_a_network_of_affine_maps(estimator):
    network, _ = from_module(torch.nn.Linear(4, 3))
    with pytest.raises(UserError, match=f"method.estimator={estimator.name} needs a network of affine maps"):
        data_term(estimator, network, categorical)
