"""The variance of each estimator's gradient at a run's network, and that variance times the cost of a step."""

from collections.abc import Callable
from pathlib import Path
from typing import cast

import pandas as pd
import torch
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from torch import Tensor
from tqdm import trange
from yaml import YAMLError

from bbbrun.bayes.estimators import Batch, free_energy_estimator, usable_estimators
from bbbrun.bayes.methods import BayesByBackprop
from bbbrun.bayes.networks import Network
from bbbrun.bayes.posterior import DiagonalGaussian
from bbbrun.bayes.priors import build_prior
from bbbrun.data.images import load_images
from bbbrun.errors import UserError
from bbbrun.report.groups import parameters
from bbbrun.runs.files import RECORD
from bbbrun.runs.identity import differing, setting
from bbbrun.runs.reader import Run, finished_runs
from bbbrun.runs.record import recorded_words
from bbbrun.schema.config import Config, composed, plain
from bbbrun.schema.datasets import ImageDatasetConfig
from bbbrun.schema.methods import BayesByBackpropConfig, Estimator
from bbbrun.tasks.classification import classification_task
from bbbrun.training.task import Task
from bbbrun.training.trainer import plan_of


def configuration(run: Run) -> Config:
    """The run's configuration.

    Raises UserError where it is damaged, of another version, or not Bayes by Backprop on images, and where its network
    is code that it names.
    """
    run.network()
    overrides = (run.folder / RECORD).with_name("overrides.yaml")
    try:
        composition = composed(recorded_words(overrides))
        current = setting(plain(composition))
    except (OSError, ValueError, TypeError, YAMLError, HydraException, OmegaConfBaseException) as error:
        raise UserError(f"{overrides} does not hold the words of a run of this version: name another run") from error
    if current != setting(run.config):
        changed = ", ".join(sorted(differing(current, setting(run.config))))
        raise UserError(f"the run in {run.folder} is of another version of bbbrun, or damaged: {changed} differ by now")
    config = OmegaConf.to_object(composition)
    assert isinstance(config, Config)
    if config.method.name != BayesByBackprop.name or not isinstance(config.dataset, ImageDatasetConfig):
        raise UserError(f"the run in {run.folder} is not method=bbb on images")
    return config


def variances(
    folder: Path, steps: int, cost: Callable[[Config, Task, Estimator], float], trust: bool = False
) -> pd.DataFrame:
    """The gradient's variance, summed over the weights, at the run's first and last weights.

    A row for each estimator that the run's network allows. Over `steps` draws of the noise with the training set's
    first minibatch, whose share of the complexity is that of its examples, whatever method.minibatch_weights says.
    cost: the time of a step, ms; `mu_cost` and `rho_cost` are variance times cost, so less is better. trust: as of
    `Run.trusted`.
    Raises UserError where `folder` does not hold one finished run, or one of another kind.
    """
    run, *others = finished_runs([folder], trust)
    if others:
        raise UserError(f"{folder} holds {1 + len(others)} runs: name the folder of one")
    config = configuration(run)
    device = torch.device("cpu")
    task = classification_task(config, load_images(config.dataset, device))
    stages = {
        "initialisation": _initial(config, task.problem.network, device),
        "trained": parameters(run),
    }
    rows = []
    for estimator in usable_estimators(task.problem.network):
        duration = cost(config, task, estimator)
        for stage, tensors in stages.items():
            mu, rho = variance(gradient_at(config, task, DiagonalGaussian(*tensors), estimator), steps)
            row = {"at": stage, "estimator": estimator.name, "variance_mu": mu, "variance_rho": rho}
            rows.append(row | {"step_ms": duration, "mu_cost": mu * duration, "rho_cost": rho * duration})
    return pd.DataFrame(rows).sort_values("at", kind="stable")


def _initial(config: Config, network: Network, device: torch.device) -> list[Tensor]:
    plan = plan_of(config, network, device)
    return plan.method.init(network, plan.weights, plan.seed)


def gradient_at(
    config: Config, task: Task, posterior: DiagonalGaussian, estimator: Estimator
) -> Callable[[int], list[Tensor]]:
    """The gradient in mu and in rho, each (P,), at `posterior`, for the noise of step number `step` of another seed."""
    method = cast(BayesByBackpropConfig, config.method)
    device = posterior.mu.device
    examples = min(config.train.batch_size, len(task.problem.inputs))
    batch = Batch(task.problem.inputs[:examples], task.problem.targets[:examples], torch.ones(examples, device=device))
    weight = torch.tensor(method.temperature * examples / len(task.problem.inputs), dtype=torch.float32, device=device)
    prior = build_prior(config.prior, device)
    network, likelihood = task.problem.network, task.problem.likelihood
    estimate = free_energy_estimator(estimator, method.train_samples, network, likelihood)
    assert prior is not None
    # Not the run's own seed, whose draws trained it.
    key = torch.tensor((config.seed + 1) % 2**31, dtype=torch.int32, device=device)

    @torch.no_grad()
    def gradient(step: int) -> list[Tensor]:
        number = torch.tensor(step, dtype=torch.int32, device=device)
        *parts, _ = estimate(posterior, prior, key, number, 0, batch, weight)
        return parts

    return gradient


def variance(gradient: Callable[[int], list[Tensor]], steps: int) -> list[float]:
    """The variance over steps 0 .. `steps` - 1 of each of the tensors that `gradient` gives, summed over its elements.

    Welford's means and sums of squared differences, in double precision, without a difference of large sums.
    """
    means = [torch.zeros_like(part, dtype=torch.float64) for part in gradient(0)]
    sums = [torch.zeros_like(mean) for mean in means]
    for step in trange(steps, disable=None, unit="draw"):
        for mean, total, part in zip(means, sums, gradient(step), strict=True):
            change = part.double() - mean
            mean += change / (step + 1)
            total += change * (part.double() - mean)
    return [total.sum().item() / (steps - 1) for total in sums]
