import math

import pytest
import torch
from torch.distributions import Categorical, Laplace, MixtureSameFamily, Normal

from bbbrun.bayes import priors
from bbbrun.bayes.priors import build_prior
from bbbrun.schema.methods import GaussianPriorConfig, LaplacePriorConfig, NoPriorConfig, ScaleMixtureConfig


def scale_mixture(pi: float, sigma1: float, sigma2: float):
    config = ScaleMixtureConfig(name="scale_mixture", pi=pi, sigma1=sigma1, sigma2=sigma2)
    scales = torch.tensor([sigma1, sigma2], dtype=torch.float64)
    components = Normal(torch.zeros(2, dtype=torch.float64), scales)
    return config, MixtureSameFamily(Categorical(torch.tensor([pi, 1 - pi], dtype=torch.float64)), components)


def gaussian(sigma: float):
    return GaussianPriorConfig(name="gaussian", sigma=sigma), Normal(0.0, torch.tensor(sigma, dtype=torch.float64))


def laplace(scale: float):
    return LaplacePriorConfig(name="laplace", scale=scale), Laplace(0.0, torch.tensor(scale, dtype=torch.float64))


# The paper's grid corners, and every prior of the package.
CASES = [
    scale_mixture(0.5, 1.0, math.exp(-6)),
    scale_mixture(0.25, math.exp(-1), math.exp(-7)),
    scale_mixture(0.75, math.exp(-2), math.exp(-8)),
    gaussian(1.0),
    gaussian(math.exp(-2)),
    laplace(1.0),
    laplace(math.exp(-2)),
]


@pytest.mark.parametrize(("config", "reference"), CASES)
def test_log_prob_equals_torch_distributions(config, reference):
    weights = torch.cat([torch.linspace(-3, 3, 2001), torch.logspace(-12, 0, 500)]).double()
    result = build_prior(config, "cpu").log_prob(weights)
    torch.testing.assert_close(result, reference.log_prob(weights), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("config", "reference"), CASES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_score_is_the_gradient_of_the_log_density(config, reference, dtype):
    # Away from 0 by both signs, through the crossing of the two components, into the far tails.
    values = torch.cat([torch.logspace(-9, 3, 2000), -torch.logspace(-9, 3, 2000)]).double().requires_grad_()
    (expected,) = torch.autograd.grad(reference.log_prob(values).sum(), values)
    result = build_prior(config, "cpu").score(values.detach().to(dtype)).double()
    torch.testing.assert_close(result, expected, rtol=2e-4, atol=1e-6)


@pytest.mark.parametrize(("config", "reference"), CASES)
def test_finite_for_any_weight_whose_density_can_be_written(config, reference):
    prior = build_prior(config, "cpu")
    weights = torch.tensor([0.0, 1e-38, 1.0, 1e3, 1e10, 1e15])
    assert prior.log_prob(weights).isfinite().all()
    assert prior.score(torch.tensor([0.0, 1e-38, 1.0, 1e3, 1e10, 1e30])).isfinite().all()
    assert prior.log_prob(torch.tensor([3e38]).double()).isfinite().all()


@pytest.mark.parametrize(("config", "reference"), CASES)
def test_density_integrates_to_one(config, reference):
    x = torch.cat([torch.zeros(1), torch.logspace(-8, 2, 100_000)]).double()
    density = build_prior(config, "cpu").log_prob(x).exp()
    assert abs(2 * torch.trapezoid(density, x) - 1) < 1e-4


def test_none_is_no_prior():
    assert build_prior(NoPriorConfig(name="none"), "cpu") is None


@pytest.mark.parametrize("value", [0.0, -1.0, math.inf, math.nan])
def test_numbers_that_make_no_density_are_refused(value):
    for make in priors.Gaussian.of, priors.Laplace.of, lambda sigma: priors.ScaleMixture.of(0.5, 1.0, sigma):
        with pytest.raises(ValueError, match="positive and finite"):
            make(value)
    for pi in 1.0, 1.5:
        with pytest.raises(ValueError, match="pi must be above 0 and below 1"):
            priors.ScaleMixture.of(pi, 1.0, 0.1)
