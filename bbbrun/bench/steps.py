"""The training steps that `bbbrun bench` times: PyTorch's own, this package's, and other packages'."""

import itertools
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bbbrun.bayes.likelihoods import categorical, fixed_sigma, gaussian
from bbbrun.bayes.methods import BayesByBackprop, build_method
from bbbrun.bayes.networks import Network, initial_weights, mlp
from bbbrun.bayes.priors import build_prior
from bbbrun.bench.peers import Built, peers
from bbbrun.runtime.compile import vector_width
from bbbrun.runtime.device import products_of
from bbbrun.schema.methods import (
    BayesByBackpropConfig,
    DropoutConfig,
    Estimator,
    GaussianPriorConfig,
    Init,
    MaximumLikelihoodConfig,
    MethodConfig,
    MinibatchWeights,
    NoPriorConfig,
    Precision,
    PriorConfig,
    ScaleMixtureConfig,
)
from bbbrun.schema.optimizers import Schedule, SgdConfig
from bbbrun.training.task import Problem
from bbbrun.training.trainer import Plan, Trainer

MINIBATCHES = 32
LR = 1e-6  # small, so that the weights, and with them the times, hardly change however many steps are timed
_OPTIMIZER = SgdConfig(name="sgd", lr=LR, schedule=Schedule.constant, decay_epochs=1, decay_factor=1.0, momentum=0.0)
PRIORS: dict[str, PriorConfig] = {
    "scale_mixture": ScaleMixtureConfig(name="scale_mixture", pi=0.5, sigma1=1.0, sigma2=0.0025),
    "gaussian": GaussianPriorConfig(name="gaussian", sigma=0.37),
}

Timed = Callable[[], None]


class Setting(NamedTuple):
    """The data of every step: inputs (N, D), targets (N,), N = MINIBATCHES * batch; method.train_samples; precision."""

    widths: list[int]
    batch: int
    draws: int
    inputs: Tensor
    targets: Tensor
    precision: Precision


def mlp_of(widths: list[int]) -> Network:
    """The multilayer perceptron of these widths, inputs to outputs."""
    return mlp(widths[0], widths[1:-1], widths[-1])


def make_setting(widths: list[int], batch: int, draws: int, device: torch.device, precision: Precision) -> Setting:
    """Random inputs; classes as targets, or numbers where the network has one output, as the bandit's has."""
    generator = torch.Generator().manual_seed(0)
    count = MINIBATCHES * batch
    inputs = torch.rand(count, widths[0], generator=generator)
    if widths[-1] == 1:
        targets = torch.randn(count, generator=generator)
    else:
        targets = torch.randint(widths[-1], (count,), generator=generator)
    return Setting(widths, batch, draws, inputs.to(device), targets.to(device), precision)


def bayes_by_backprop(draws: int, estimator: Estimator) -> BayesByBackpropConfig:
    """The configuration of Bayes by Backprop for timing."""
    return BayesByBackpropConfig(
        name=BayesByBackprop.name,
        train_samples=draws,
        test_samples=1,
        final_samples=None,
        estimator=estimator,
        minibatch_weights=MinibatchWeights.uniform,
        temperature=1.0,
        rho_init=[-5.0, -5.0],
    )


def contenders(setting: Setting) -> dict[str, Callable[[], Timed]]:
    """Every step that can be timed, by name: a function that builds it."""
    dropout = DropoutConfig(name="dropout", input_rate=0.2, hidden_rate=0.5)
    none = NoPriorConfig(name="none")
    ours: dict[str, tuple[MethodConfig, PriorConfig]] = {
        "mle, bbbrun": (MaximumLikelihoodConfig(name="mle"), none),
        "dropout, bbbrun": (dropout, none),
    }
    for estimator, prior in itertools.product(Estimator, PRIORS):
        method = bayes_by_backprop(setting.draws, estimator)
        ours[f"bbb {prior} {estimator.name}, bbbrun"] = (method, PRIORS[prior])
    likelihood = gaussian(fixed_sigma(1.0)) if setting.widths[-1] == 1 else categorical
    problem = Problem(setting.inputs, setting.targets, mlp_of(setting.widths), likelihood)
    steps: dict[str, Callable[[], Timed]] = {}
    for name, mode in itertools.product(("sgd", "dropout"), ("eager", "compiled")):
        steps[f"{name}, PyTorch {mode}"] = partial(_pytorch_step, setting, name == "dropout", mode == "compiled")
    for name, words in ours.items():
        steps[name] = partial(bbbrun_step, problem, setting.batch, *words, setting.precision)
    if setting.precision is Precision.bfloat16:  # tf32 is for all steps of a process
        words = ours["bbb scale_mixture weights, bbbrun"]
        steps["bbb scale_mixture weights in float32, bbbrun"] = partial(
            bbbrun_step, problem, setting.batch, *words, Precision.float32
        )
    for name, build in peers().items():
        steps[name] = partial(_peer_step, setting, build)
    return steps


def _loss(outputs: Tensor, targets: Tensor) -> Tensor:
    outputs = outputs.float()
    if outputs.shape[1] == 1:
        return 0.5 * (outputs[:, 0] - targets).square().sum()
    return F.cross_entropy(outputs, targets, reduction="sum")


def _pytorch_step(setting: Setting, dropout: bool, compile_it: bool) -> Timed:
    """A step as a PyTorch user writes it: nn.Linear, nn.Dropout, cross entropy, torch.optim.SGD."""
    layers: list[nn.Module] = [nn.Dropout(0.2)] if dropout else []
    for width_in, width_out in itertools.pairwise(setting.widths[:-1]):
        layers += [nn.Linear(width_in, width_out), nn.ReLU()] + ([nn.Dropout(0.5)] if dropout else [])
    network: nn.Module = nn.Sequential(*layers, nn.Linear(setting.widths[-2], setting.widths[-1]))
    network.to(setting.inputs.device)

    def objective(x: Tensor, y: Tensor) -> Tensor:
        return _loss(network(x), y)

    if not compile_it:
        return _trained(setting, network, objective)
    options: dict[str, Any] = {**vector_width()}
    return _trained(setting, network, torch.compile(objective, dynamic=False, options=options))


def _peer_step(setting: Setting, build: Callable[[list[int], int], Built]) -> Timed:
    network, objective = build(setting.widths, setting.batch * MINIBATCHES)
    network.to(setting.inputs.device)
    return _trained(setting, network, lambda x, y: objective(x, y, _loss, setting.draws))


def _trained(setting: Setting, network: nn.Module, objective: Callable[[Tensor, Tensor], Tensor]) -> Timed:
    optimizer = torch.optim.SGD(network.parameters(), lr=LR)
    batches = itertools.cycle(
        zip(setting.inputs.split(setting.batch), setting.targets.split(setting.batch), strict=True)
    )

    def step() -> None:
        optimizer.zero_grad()
        with products_of(setting.precision, setting.inputs.device):
            value = objective(*next(batches))
        value.backward()
        optimizer.step()

    return step


def bbbrun_step(
    problem: Problem, batch: int, method: MethodConfig, prior: PriorConfig, precision: Precision = Precision.float32
) -> Timed:
    """One compiled step of this package on minibatches of `batch`, momentum-free SGD; each epoch begins as training's.

    Raises UserError where the method cannot train the problem's network.
    """
    device = problem.inputs.device
    plan = Plan(
        seed=0,
        method=build_method(method),
        prior=build_prior(prior, device),
        optimizer=_OPTIMIZER,
        batch_size=batch,
        compile="true",
        precision=precision,
        weights=initial_weights(problem.network, Init.he, 1.0, seed=0),
    )
    trainer = Trainer([plan], [problem], device, epochs=1)
    count = 0

    def timed() -> None:
        nonlocal count
        if count % trainer.minibatches == 0:
            trainer.begin_epoch(0)
        count += 1
        trainer.steps(1)

    return timed
