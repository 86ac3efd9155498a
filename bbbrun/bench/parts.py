"""The parts of a step of Bayes by Backprop, each alone, and the memory traffic of any step."""

import itertools
from collections.abc import Callable

import torch
from torch import Tensor

from bbbrun.bayes.networks import Network
from bbbrun.bayes.objective import complexity_gradient, free_energy_gradient
from bbbrun.bayes.posterior import DiagonalGaussian, Gradient, Moments
from bbbrun.bayes.priors import build_prior
from bbbrun.bench.steps import LR, MINIBATCHES, PRIORS, Setting, Timed, mlp_of
from bbbrun.runtime.compile import compiled
from bbbrun.runtime.matmul import matrix_product
from bbbrun.runtime.noise import Stream, standard_normal
from bbbrun.schema.methods import Precision
from bbbrun.training.optimizers import Sgd


def parts(setting: Setting) -> dict[str, Callable[[], Timed]]:
    """The parts of a step with the scale mixture, for all of its draws, by name: a function that builds each.

    The noise; sigma, its slope and w = mu + sigma * eps of given noise; the matrix products, forwards and backwards;
    the gradient and momentum-free SGD of given moments and a given dnll/dw. A step that fuses them may take less than
    their sum.
    """
    network, device = mlp_of(setting.widths), setting.inputs.device
    mu, eps, dnll = (torch.randn(network.size, device=device) * 0.01 for _ in range(3))
    rho, out = torch.full_like(mu, -5.0), torch.zeros_like(mu)
    sigma, slope = torch.zeros_like(mu), torch.zeros_like(mu)
    posterior, prior = DiagonalGaussian(mu, rho), build_prior(PRIORS["scale_mixture"], device)
    assert prior is not None
    seed, step = (torch.zeros((), dtype=torch.int32, device=device) for _ in range(2))
    rate, weight = torch.tensor(LR, device=device), torch.tensor(1 / MINIBATCHES, device=device)

    def noise() -> None:
        with torch.no_grad():
            for draw in range(setting.draws):
                out.copy_(standard_normal(seed, step, Stream.TRAIN + draw, network.size, device))
            step.add_(1)

    def sampling() -> None:
        with torch.no_grad():
            moments = posterior.moments()
            sigma.copy_(moments.sigma)
            slope.copy_(moments.slope)
            for _ in range(setting.draws):
                out.copy_(moments.sample(eps))

    def gradient_and_update() -> None:
        with torch.no_grad():
            gradient = Gradient(torch.zeros_like(mu), torch.zeros_like(mu))
            moments = Moments(mu, sigma, slope)
            for _ in range(setting.draws):
                complexity = complexity_gradient(moments, prior, eps)
                each = free_energy_gradient(moments, Gradient(dnll, dnll * eps), complexity, weight)
                gradient = Gradient(*(before + part for before, part in zip(gradient, each, strict=True)))
            for parameter, total in zip(posterior, gradient, strict=True):
                Sgd(0.0).update(parameter, total / setting.draws, [], [rate])

    return {
        "noise": lambda: compiled(noise),
        "sampling": lambda: compiled(sampling),
        "matrix products": lambda: _products(setting, network),
        "gradient and update": lambda: compiled(gradient_and_update),
    }


def floor(setting: Setting) -> dict[str, Callable[[], Timed]]:
    """Reading and writing mu, rho, w and the gradient once. (The matrix products are a part already.)"""
    network = mlp_of(setting.widths)
    tensors = [torch.zeros(network.size, device=setting.inputs.device) for _ in range(4)]

    def memory() -> None:
        for tensor in tensors:
            tensor.mul_(1.0)

    return {"memory": lambda: memory}


def _products(setting: Setting, network: Network) -> Timed:
    device = setting.inputs.device
    kind = torch.bfloat16 if setting.precision is Precision.bfloat16 else torch.float32
    weights = network.unflatten((torch.randn(network.size, device=device) * 0.01).to(kind))[::2]
    inputs = [torch.rand(setting.batch, width, device=device).to(kind) for width in setting.widths]
    pairs: list[tuple[Tensor, Tensor, Tensor]] = [
        (weight, x, gradient) for weight, (x, gradient) in zip(weights, itertools.pairwise(inputs), strict=True)
    ]

    def products() -> None:
        for number, (weight, x, gradient) in list(enumerate(pairs)) * setting.draws:
            matrix_product(x, weight.T)
            matrix_product(gradient.T, x)
            if number:
                matrix_product(gradient, weight)

    return products
