"""Estimators of the gradient of a minibatch's expected nll under the posterior.

The nll's expectation and the complexity's are separate, so each may use draws of its own, under any prior.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from bbbrun.bayes.likelihoods import Likelihood
from bbbrun.bayes.networks import Network, affine_maps, linear_maps
from bbbrun.bayes.objective import complexity_gradient, free_energy_gradient
from bbbrun.bayes.posterior import DiagonalGaussian, Gradient, Moments
from bbbrun.bayes.priors import Gaussian, Prior
from bbbrun.runtime.gradients import gradient_and_value
from bbbrun.runtime.noise import Stream, signs, standard_normal, standard_normals
from bbbrun.schema.methods import Estimator


class Batch(NamedTuple):
    """A minibatch: inputs (B, ...), targets (B, ...), and present (B,), 0 for a padding example."""

    inputs: Tensor
    targets: Tensor
    present: Tensor


# (parameters, seed, number of the first draw, prior, batch, the minibatch's share of the complexity)
# -> gradients (P,), the minibatch's nll
Gradients = Callable[[list[Tensor], Tensor, int | Tensor, Prior | None, Batch, Tensor], tuple[list[Tensor], Tensor]]
# (the posterior's moments, eps (P,), seed, step, draw, batch) -> the nll's gradient in mu and in sigma, and the nll
DataTerm = Callable[[Moments, Tensor, Tensor, Tensor, int | Tensor, Batch], tuple[Gradient, Tensor]]


def batch_nll(outputs: Tensor, likelihood: Likelihood, batch: Batch) -> Tensor:
    """The nll summed over the minibatch's examples, nats, for their outputs (B, K), in float32."""
    return (likelihood(outputs.float(), batch.targets) * batch.present).sum()


def flat(parts: list[Tensor]) -> Tensor:
    """Tensors of the network's shapes as one vector (P,)."""
    return torch.cat([part.reshape(-1) for part in parts])


def free_energy_estimator(
    estimator: Estimator, draws: int, network: Network, likelihood: Likelihood, random: Tensor | None = None
) -> Callable[[DiagonalGaussian, Prior, Tensor, Tensor, int | Tensor, Batch, Tensor], tuple[Tensor, Tensor, Tensor]]:
    """The estimator of the gradient of weight * complexity + nll, a mean over `draws` draws.

    It takes (posterior, prior, seed, step, first, batch, weight): seed, step and the number of the first draw are int32
    scalars, weight is the minibatch's weight times the temperature. It gives the gradient in mu and in rho, each (P,),
    and the minibatch's nll. random: `Network.random` on the device: a weight without a posterior has no noise and no
    part in the complexity.
    """
    estimate = data_term(estimator, network, likelihood)

    def free_energy_estimate(
        posterior: DiagonalGaussian,
        prior: Prior,
        seed: Tensor,
        step: Tensor,
        first: int | Tensor,
        batch: Batch,
        weight: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        # Once: otherwise each loop that the compiler makes would compute them again.
        moments = posterior.moments()
        # `weights` takes the complexity of its draw, as the paper does. `local` and `flipout` use the closed form where
        # there is one, which adds no variance.
        closed = None
        if isinstance(prior, Gaussian) and estimator is not Estimator.weights:
            closed = prior.kl_gradient(moments)
        totals: list[Tensor] = []
        for draw in (first + number for number in range(draws)):
            eps = standard_normal(seed, step, draw + int(Stream.TRAIN), network.size, moments.mu.device)
            eps = eps if random is None else eps * random
            gradient, nll = estimate(moments, eps, seed, step, draw, batch)
            complexity = closed or complexity_gradient(moments, prior, eps)
            if random is not None:
                complexity = Gradient(complexity.mu * random, complexity.sigma * random)
            terms = [*free_energy_gradient(moments, gradient, complexity, weight), nll]
            totals = [total + term for total, term in zip(totals, terms, strict=True)] if totals else terms
        mu, rho, nll = [total / draws for total in totals] if draws > 1 else totals
        return mu, rho, nll

    return free_energy_estimate


def require_estimator(estimator: Estimator, network: Network) -> None:
    """Raise UserError where the estimator cannot be used: all but `weights` need the network's separate maps."""
    needed_by, remedy = f"method.estimator={estimator.name}", "; method.estimator=weights takes any network"
    if estimator is Estimator.local:
        affine_maps(network, needed_by, remedy)
    elif estimator is Estimator.flipout:
        linear_maps(network, needed_by, remedy)


def usable_estimators(network: Network) -> list[Estimator]:
    """The estimators that `require_estimator` accepts."""
    if network.layers is None:
        return [Estimator.weights]
    return [Estimator.weights, Estimator.flipout] if network.operations else list(Estimator)


def data_term(estimator: Estimator, network: Network, likelihood: Likelihood) -> DataTerm:
    """The estimator that the configuration names; raises UserError where it cannot be used for this network."""
    require_estimator(estimator, network)
    match estimator:
        case Estimator.weights:
            return _shared_weights(network, likelihood)
        case Estimator.local:
            return _local_reparameterisation(network, likelihood)
        case Estimator.flipout:
            return _flipout(network, likelihood)


def _shared_weights(network: Network, likelihood: Likelihood) -> DataTerm:
    """One draw w = mu + sigma * eps for the whole minibatch: dnll/dmu = dnll/dw, dnll/dsigma = dnll/dw * eps.

    Source: Blundell et al. 2015, section 3.2.
    """

    def estimate(
        moments: Moments, eps: Tensor, seed: Tensor, step: Tensor, draw: int | Tensor, batch: Batch
    ) -> tuple[Gradient, Tensor]:
        def nll(parts: list[Tensor]) -> Tensor:
            return batch_nll(network.apply(parts, batch.inputs), likelihood, batch)

        (gradients,), value = gradient_and_value(nll, network.unflatten(moments.sample(eps)))
        gradient = flat(gradients)
        return Gradient(gradient, gradient * eps), value

    return estimate


def _local_reparameterisation(network: Network, likelihood: Likelihood) -> DataTerm:
    """Each activation drawn from its own Gaussian, for each example: `eps` is not used.

    x W^T + b, W ~ N(M, S^2) and b ~ N(m, s^2), is N(x M^T + m, x^2 (S^2)^T + s^2) in each element.
    Source: Kingma, Salimans and Welling, "Variational dropout and the local reparameterization trick", 2015.
    """
    assert network.layers is not None
    layers = network.layers

    def estimate(
        moments: Moments, eps: Tensor, seed: Tensor, step: Tensor, draw: int | Tensor, batch: Batch
    ) -> tuple[Gradient, Tensor]:
        rows, outputs = len(batch.inputs), [shape[0] for shape in network.shapes[::2]]
        first = draw * len(outputs) + int(Stream.ACTIVATION)
        noise = standard_normals(seed, step, first, [rows * count for count in outputs], moments.mu.device)

        def nll(mu: list[Tensor], variance: list[Tensor]) -> Tensor:
            def affine(number: int, x: Tensor) -> Tensor:
                weight, bias = 2 * number, 2 * number + 1
                mean = F.linear(x, mu[weight], mu[bias])
                spread = F.linear(x.square(), variance[weight], variance[bias])
                # Above 0, where the root has no gradient.
                return mean + spread.clamp_min(1e-30).sqrt() * noise[number].view(mean.shape)

            return batch_nll(layers(affine, batch.inputs), likelihood, batch)

        parts = [network.unflatten(part) for part in (moments.mu, moments.sigma.square())]
        (mu, variance), value = gradient_and_value(nll, *parts)
        return Gradient(flat(mu), 2 * moments.sigma * flat(variance)), value

    return estimate


def _flipout(network: Network, likelihood: Likelihood) -> DataTerm:
    """One draw for the minibatch, its signs flipped for each example by random signs of inputs, r, and outputs, s.

    x M^T + m + ((x * r) (S * E)^T + s_b * e) * s, elementwise products with r (B, in) and s (B, out): each example
    sees a draw of its own, nearly independent of the others'. dnll/dsigma = eps * dnll/d(sigma * eps). In a
    convolution a sign is that of a channel, at all of its pixels.
    Source: Wen, Vicol, Ba, Tran and Grosse, "Flipout: efficient pseudo-independent weight perturbations on
    mini-batches", 2018.
    """
    assert network.layers is not None
    layers = network.layers

    def estimate(
        moments: Moments, eps: Tensor, seed: Tensor, step: Tensor, draw: int | Tensor, batch: Batch
    ) -> tuple[Gradient, Tensor]:
        # Of each map its inputs' signs, then its outputs'.
        rows, sides = len(batch.inputs), [count for shape in network.shapes[::2] for count in (shape[1], shape[0])]
        first = draw * len(sides) + int(Stream.SIGN)
        flips = signs(seed, step, first, [rows * count for count in sides], moments.mu.device)

        def nll(mu: list[Tensor], change: list[Tensor]) -> Tensor:
            def affine(number: int, x: Tensor) -> Tensor:
                weight, bias = 2 * number, 2 * number + 1
                operation = network.operation(number)
                mean = operation(x, mu[weight], mu[bias])
                r, s = (
                    flips[weight + side].view(*part.shape[:2], *[1] * (part.dim() - 2))
                    for side, part in ((0, x), (1, mean))
                )
                return mean + operation(x * r, change[weight], change[bias]) * s

            return batch_nll(layers(affine, batch.inputs), likelihood, batch)

        parts = [network.unflatten(part) for part in (moments.mu, moments.sigma * eps)]
        (mu, change), value = gradient_and_value(nll, *parts)
        return Gradient(flat(mu), eps * flat(change)), value

    return estimate
