import math

import pytest
import torch
import torch.nn.functional as F
from torch.distributions import Normal

from bbbrun.bayes.objective import complexity_gradient, free_energy, free_energy_gradient, minibatch_weights
from bbbrun.bayes.posterior import DiagonalGaussian, Gradient
from bbbrun.bayes.priors import Gaussian, build_prior
from bbbrun.runtime.noise import standard_normal
from bbbrun.schema.methods import GaussianPriorConfig, MinibatchWeights, ScaleMixtureConfig

PRIORS = [
    ScaleMixtureConfig(name="scale_mixture", pi=0.25, sigma1=1.0, sigma2=math.exp(-6)),
    GaussianPriorConfig(name="gaussian", sigma=0.3),
]


@pytest.mark.parametrize("kind", list(MinibatchWeights))
@pytest.mark.parametrize("minibatches", [1, 2, 10, 391, 1074, 1100, 10_000])
def test_minibatch_weights_sum_to_one(kind, minibatches):
    weights = minibatch_weights(kind, minibatches)
    assert len(weights) == minibatches
    assert weights.isfinite().all()
    assert abs(weights.sum() - 1) < 1e-12


@pytest.mark.parametrize("minibatches", [2, 10, 391, 1000])
def test_paper_weights_halve_from_one_minibatch_to_the_next(minibatches):
    weights = minibatch_weights(MinibatchWeights.paper, minibatches)
    assert (weights[1:] / weights[:-1] == 0.5).all()


@pytest.mark.parametrize("minibatches", [1, 2, 10])
def test_paper_weights_are_equation_9(minibatches):
    expected = [2 ** (minibatches - i) / (2**minibatches - 1) for i in range(1, minibatches + 1)]
    result = minibatch_weights(MinibatchWeights.paper, minibatches)
    torch.testing.assert_close(result, torch.tensor(expected, dtype=torch.float64))


def example(size: int = 500):
    generator = torch.Generator().manual_seed(0)
    mu = torch.randn(size, generator=generator, dtype=torch.float64) * 0.3
    rho = torch.randn(size, generator=generator, dtype=torch.float64) * 2 - 3
    target = torch.randn(size, generator=generator, dtype=torch.float64)
    return (
        mu,
        rho,
        standard_normal(0, 0, 0, size).double(),
        lambda w: (torch.sin(3 * w) * target).sum() + (w**4).sum(),
    )


@pytest.mark.parametrize("config", PRIORS)
@pytest.mark.parametrize("kind", list(MinibatchWeights))
def test_parts_add_up_over_an_epoch(config, kind):
    mu, rho, eps, nll = example()
    posterior, prior = DiagonalGaussian(mu, rho), build_prior(config, "cpu")
    weights = minibatch_weights(kind, 7)
    parts = [free_energy(posterior, prior, eps, nll(posterior.sample(eps)), w, 0.3) for w in weights]
    for part in parts:
        torch.testing.assert_close(part.complexity, part.log_posterior - part.log_prior)
    total = sum(part.free_energy for part in parts)
    expected = 0.3 * parts[0].complexity + 7 * parts[0].nll
    torch.testing.assert_close(total, expected)


def gradient_of_a_draw(posterior, prior, eps, dnll, weight):
    moments = posterior.moments()
    complexity = complexity_gradient(moments, prior, eps)
    return free_energy_gradient(moments, Gradient(dnll, dnll * eps), complexity, torch.tensor(weight))


@pytest.mark.parametrize("config", PRIORS)
@pytest.mark.parametrize("weight", [1.0, 0.01, 0.0])
def test_explicit_gradient_equals_autograd_through_the_sample(config, weight):
    mu, rho, eps, nll = example()
    prior = build_prior(config, "cpu")
    theta = (mu.clone().requires_grad_(), rho.clone().requires_grad_())
    posterior = DiagonalGaussian(*theta)
    energy = free_energy(posterior, prior, eps, nll(posterior.sample(eps)), weight, 1.0).free_energy
    expected = torch.autograd.grad(energy, theta)

    posterior = DiagonalGaussian(mu, rho)
    weights = posterior.sample(eps).requires_grad_()
    (dnll,) = torch.autograd.grad(nll(weights), weights)
    result = gradient_of_a_draw(posterior, prior, eps, dnll, weight)
    for ours, reference in zip(result, expected, strict=True):
        torch.testing.assert_close(ours, reference, rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("config", PRIORS)
def test_explicit_gradient_equals_rsample_of_torch_distributions(config):
    mu, rho, _, nll = example()
    prior = build_prior(config, "cpu")
    mu, rho = mu.requires_grad_(), rho.requires_grad_()
    normal = Normal(mu, F.softplus(rho))
    torch.manual_seed(3)
    weights = normal.rsample()
    if isinstance(prior, Gaussian):
        log_prior = Normal(0.0, prior.sigma.double()).log_prob(weights)
    else:
        wide, narrow = (Normal(0.0, sigma.double()).log_prob(weights) for sigma in (prior.sigma1, prior.sigma2))
        log_prior = torch.logsumexp(torch.stack([wide + prior.pi.log(), narrow + (1 - prior.pi).log()]), dim=0)
    energy = 0.1 * (normal.log_prob(weights) - log_prior).sum() + nll(weights)
    expected = torch.autograd.grad(energy, (mu, rho))

    posterior = DiagonalGaussian(mu.detach(), rho.detach())
    drawn = weights.detach().requires_grad_()
    (dnll,) = torch.autograd.grad(nll(drawn), drawn)
    eps = (drawn.detach() - posterior.mu) / posterior.sigma
    result = gradient_of_a_draw(posterior, prior, eps, dnll, 0.1)
    for ours, reference in zip(result, expected, strict=True):
        torch.testing.assert_close(ours, reference, rtol=2e-5, atol=1e-6)


def test_explicit_gradient_equals_the_uncancelled_form_of_section_3_2():
    mu, rho, eps, nll = example()
    prior = build_prior(PRIORS[0], "cpu")
    sigma = F.softplus(rho)
    w, m, s = (v.clone().requires_grad_() for v in (mu + sigma * eps, mu, sigma))
    log_posterior = -torch.log(s) - (w - m) ** 2 / (2 * s**2)
    f = 0.2 * (log_posterior.sum() - prior.log_prob(w).sum()) + nll(w)
    df_dw, df_dmu, df_dsigma = torch.autograd.grad(f, (w, m, s))
    expected_mu = df_dw + df_dmu
    expected_rho = df_dw * eps / (1 + torch.exp(-rho)) + df_dsigma * torch.sigmoid(rho)

    posterior = DiagonalGaussian(mu, rho)
    (dnll,) = torch.autograd.grad(nll(w), w)
    result = gradient_of_a_draw(posterior, prior, eps, dnll, 0.2)
    torch.testing.assert_close(result[0], expected_mu, rtol=2e-5, atol=1e-6)
    torch.testing.assert_close(result[1], expected_rho, rtol=2e-5, atol=1e-6)


def test_complexity_is_zero_where_the_posterior_is_the_prior():
    sigma = 0.3
    rho = torch.full((1000,), math.log(math.expm1(sigma)), dtype=torch.float64)
    posterior = DiagonalGaussian(torch.zeros(1000, dtype=torch.float64), rho)
    eps = standard_normal(1, 0, 0, 1000).double()
    parts = free_energy(posterior, Gaussian.of(torch.tensor(sigma).double()), eps, torch.tensor(0.0), 1.0, 1.0)
    assert abs(parts.complexity) < 1e-4
    assert abs(parts.log_prior) > 100


def test_mean_complexity_is_the_closed_form_kl_between_gaussians():
    posterior = DiagonalGaussian(torch.full((2,), 0.4).double(), torch.full((2,), -1.0).double())
    prior = Gaussian.of(torch.tensor(0.5).double())
    kl = torch.distributions.kl_divergence(Normal(posterior.mu, posterior.sigma), Normal(0.0, prior.sigma)).sum()
    draws = torch.stack(
        [
            free_energy(posterior, prior, standard_normal(0, step, 0, 2).double(), torch.tensor(0.0), 1, 1).complexity
            for step in range(3000)
        ]
    )
    assert abs(draws.mean() - kl) < 5 * draws.std() / math.sqrt(len(draws))


def test_gradient_survives_a_sigma_that_almost_vanishes():
    posterior = DiagonalGaussian(torch.full((4,), 0.1), torch.full((4,), -50.0))
    prior = build_prior(PRIORS[0], "cpu")
    eps = standard_normal(0, 0, 0, 4)
    gradients = gradient_of_a_draw(posterior, prior, eps, torch.ones(4), 1.0)
    assert all(gradient.isfinite().all() for gradient in gradients)
    # weight / sigma * dsigma / drho tends to the weight as sigma vanishes.
    torch.testing.assert_close(gradients[1], torch.full((4,), -1.0), rtol=1e-5, atol=1e-5)


def test_closed_form_complexity_gradient_equals_autograd_of_kl_divergence():
    mu, rho, _, _ = example()
    posterior, prior = DiagonalGaussian(mu, rho), Gaussian.of(torch.tensor(0.3))
    theta = mu.clone().requires_grad_(), posterior.sigma.clone().requires_grad_()
    kl = torch.distributions.kl_divergence(Normal(*theta), Normal(0.0, prior.sigma.double())).sum()
    for ours, reference in zip(prior.kl_gradient(posterior.moments()), torch.autograd.grad(kl, theta), strict=True):
        torch.testing.assert_close(ours, reference, rtol=1e-6, atol=1e-6)
