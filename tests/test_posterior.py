import pytest
import torch
import torch.nn.functional as F

from bbbrun.bayes.posterior import DiagonalGaussian
from bbbrun.runtime.noise import standard_normal


def test_sigma_is_softplus_to_float32_precision():
    rho = torch.linspace(-50, 50, 100_001)
    sigma = DiagonalGaussian(torch.zeros_like(rho), rho).sigma
    expected = F.softplus(rho.double(), threshold=100)
    assert ((sigma.double() - expected) / expected).abs().max() < 4e-7


@pytest.mark.parametrize("rho", [-50.0, -30.0, 0.0, 30.0, 50.0])
def test_sigma_neither_underflows_nor_overflows(rho):
    posterior = DiagonalGaussian(torch.zeros(3), torch.full((3,), rho))
    for value in (posterior.sigma, posterior.moments().slope, posterior.log_prob_of_noise(torch.ones(3)).exp()):
        assert value.isfinite().all()
        assert (value > 0).all()


@pytest.mark.parametrize("value", [-50.0, -5.0, -1e-3, 0.0, 1e-3, 5.0, 50.0])
def test_slope_is_the_derivative_of_sigma(value):
    rho = torch.tensor([value], requires_grad=True)
    posterior = DiagonalGaussian(torch.zeros(1), rho)
    (autograd,) = torch.autograd.grad(posterior.sigma.sum(), rho)
    expected = torch.sigmoid(rho.detach())
    torch.testing.assert_close(autograd, expected, rtol=1e-5, atol=0)
    torch.testing.assert_close(posterior.moments().slope.detach(), expected, rtol=1e-6, atol=0)


def test_log_prob_of_noise_is_the_normal_density_of_the_weights():
    mu, rho = torch.randn(1000, dtype=torch.float64), torch.randn(1000, dtype=torch.float64) * 3
    posterior = DiagonalGaussian(mu, rho)
    eps = standard_normal(0, 0, 0, 1000).double()
    weights = posterior.sample(eps)
    expected = torch.distributions.Normal(mu, F.softplus(rho)).log_prob(weights)
    torch.testing.assert_close(posterior.log_prob_of_noise(eps), expected, rtol=1e-7, atol=1e-7)


def test_samples_have_mean_mu_and_deviation_sigma():
    posterior = DiagonalGaussian(torch.full((1_000_000,), 0.3), torch.full((1_000_000,), -1.0))
    weights = posterior.sample(standard_normal(0, 0, 0, 1_000_000)).double()
    sigma = F.softplus(torch.tensor(-1.0)).item()
    assert abs(weights.mean() - 0.3) < 5 * sigma / 1000
    assert abs(weights.std() - sigma) < 5 * sigma / 1000


def test_signal_to_noise():
    posterior = DiagonalGaussian(torch.tensor([-3.0, 0.0]), torch.tensor([0.0, 1.0]))
    torch.testing.assert_close(posterior.signal_to_noise(), torch.tensor([3 / 0.6931472, 0.0]))
