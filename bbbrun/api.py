"""bbbrun from Python: compose and run a configuration, read runs, make any module Bayesian."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from torch import Tensor, nn

from bbbrun.bayes.draws import Draws
from bbbrun.bayes.likelihoods import Likelihood
from bbbrun.bayes.methods import BayesByBackprop, build_method
from bbbrun.bayes.modules import from_module, require_function
from bbbrun.bayes.posterior import DiagonalGaussian
from bbbrun.bayes.predictive import network_outputs
from bbbrun.bayes.priors import Prior, placed
from bbbrun.errors import UserError
from bbbrun.runs.reader import Run, finished_runs
from bbbrun.runs.resume import is_finished, require_same_run, require_unused
from bbbrun.runtime.device import choose_device, process_settings, set_products
from bbbrun.schema.config import composed, validated
from bbbrun.schema.fixing import fixed, yaml_text
from bbbrun.schema.messages import one_line
from bbbrun.schema.quoting import words_of
from bbbrun.schema.replicas import replicas_of
from bbbrun.tasks.prediction import Ensemble, member_of, parameters_of, without_unsure
from bbbrun.training.progress import Progress
from bbbrun.training.task import Problem
from bbbrun.training.trainer import Plan, Trainer

_FIT_KEYS = ("method", "optimizer", "train.batch_size", "seed", "device", "precision", "compile")
_OF_PREDICTIONS = ("method.test_samples", "method.final_samples")  # fit makes none


def compose(*words: str) -> DictConfig:
    """The configuration that the command line `bbbrun WORDS` composes: compose("experiment=mnist", "seed=3").

    Raises hydra.errors.HydraException for words that do not compose. `run` checks the values.
    """
    return composed(words)


def run(config: DictConfig, folder: str | Path) -> "TrainedRun":
    """Train and evaluate `config` in the new folder `folder`, as the command line would; return the run.

    config.resume = folder continues an interrupted run there, and returns a finished one as it is. Raises
    bbbrun.errors.UserError for a value out of its range, missing data, and a folder that holds another run.
    """
    from bbbrun.runner import Planned
    from bbbrun.runner import run as train

    config = fixed(config)
    checked, path = validated(config), Path(folder).absolute()
    if checked.replicas != 1:
        raise UserError("replicas must be 1 from Python: call run once for each seed")
    [replica] = replicas_of(config, 1)
    if checked.resume is None:
        require_unused(path)
    else:
        require_same_run(config, path)
        if is_finished(path, [replica]):
            return load_runs(path, trust=True)[0]
    words = words_of(config)
    record = {"config.yaml": yaml_text(config), "overrides.yaml": yaml_text(OmegaConf.create(words))}
    train([Planned(replica.folder, checked, record)], path, f"bbbrun.run({words}, {str(folder)!r})", record)
    return load_runs(path, trust=True)[0]


def load_runs(folder: str | Path, *, trust: bool = False) -> "list[TrainedRun]":
    """Every finished run in or below `folder`, in the order of their paths.

    trust: whether code that a record names as its network may be imported. Raises bbbrun.errors.UserError where there
    is none, or `folder` is not one.
    """
    return [TrainedRun(run) for run in finished_runs([Path(folder)], trust)]


class TrainedRun:
    """A finished run: its configuration, its numbers, its weights and its predictions.

    config: nested dictionaries. summary: the content of summary.json.
    """

    def __init__(self, record: Run) -> None:
        self._record = record
        self.folder, self.config, self.summary = record.folder, record.config, record.summary

    def __repr__(self) -> str:
        return f"TrainedRun({str(self.folder)!r})"

    def metrics(self) -> Any:
        """metrics.csv as a pandas.DataFrame."""
        return self._record.metrics()

    def parameters(self) -> list[Tensor]:
        """The method's parameters, each (copies * P,): (mu, rho) of Bayes by Backprop, (weights,) of the others.

        Raises bbbrun.errors.UserError where the folder is a record without weights, or these are no finite numbers.
        """
        return parameters_of(self._record, None)

    def posterior(self) -> DiagonalGaussian:
        """The posterior N(mu, sigma^2) over the weights (P,), with `.mu`, `.sigma` and `.signal_to_noise()`.

        Raises bbbrun.errors.UserError for a method without one.
        """
        if self._record.method != BayesByBackprop.name:
            raise UserError(f"{self.folder} has no posterior: it was trained by method={self._record.method}")
        return DiagonalGaussian(*self.parameters())

    def predict(
        self, inputs: Any, draws: int = 100, seed: int = 0, *, mean: bool = False, min_probability: float = 0.0
    ) -> Any:
        """The run's predictions for `inputs` in the data set's own units, as a pandas.DataFrame with a row for each.

        The same numbers as `bbbrun predict`. inputs: an array, or a DataFrame whose columns have the inputs' names.
        Images (N, H, W) in pixel values: `class`, its `probability`, and `p0`, `p1`, ..., the posterior predictive over
        `draws` draws of the weights (paper, section 3); no class below `min_probability`. Of a regression, x (N,) or
        (N, 1): `mean`, `standard_deviation` and quantiles `q05` to `q95` of the predictive mixture. Both: `aleatoric`
        and `epistemic` uncertainty, nats for classes, standard deviations for numbers. Of a table: a DataFrame, or rows
        (N, C) whose columns are the training file's, in its order, without target and ignored ones; `p_WORD` is the
        probability of a class that is a word. mean: w = mu, no draws.
        Raises ValueError for inputs of another shape, or that are not finite.
        """
        if draws < 1:
            raise ValueError(f"draws must be 1 or more, not {draws}")
        ensemble = Ensemble([member_of(self._record, draws, seed, mean)])
        table = pd.concat(list(ensemble.tables(inputs)), ignore_index=True)
        if min_probability:
            if "class" not in table:
                raise ValueError("min_probability is for classes: this run predicts numbers")
            return without_unsure(table, min_probability)
        return table


@process_settings()
def fit(
    module: nn.Module,
    likelihood: Likelihood,
    inputs: Tensor,
    targets: Tensor,
    *,
    prior: Prior,
    epochs: int,
    overrides: Sequence[str] = (),
) -> DiagonalGaussian:
    """Train a posterior over all parameters of a stateless module by Bayes by Backprop; return it, on the CPU.

    The objective is equation 8 of the paper, on the summed likelihood of minibatches. mu starts at the module's own
    parameters, which stay as they are. inputs (N, ...), targets (N, ...). likelihood: (outputs (B, K), targets
    (B, ...)) -> nll of each example (B,), nats, such as bbbrun.likelihoods.categorical. overrides: words of the command
    line for method, optimizer, train.batch_size, seed, device, precision and compile, such as "optimizer.lr=1e-2"; what
    they leave open is as in experiment=digits. Parameters are float32, so inputs of floating point must be. Raises
    ValueError for a module without parameters, with buffers, batch normalisation or dropout in training mode, or whose
    outputs of two of the inputs are random or depend on each other, and for inputs and targets that are not as many;
    bbbrun.errors.UserError for an override out of its range, of another key or of the draws of predictions, for an
    estimator that takes affine maps apart (method.estimator=local or flipout), of which a module need not be made, and
    where the objective stops being finite.
    """
    if len(inputs) != len(targets) or not len(inputs):
        raise ValueError(f"inputs and targets must be as many, and some: not {len(inputs)} and {len(targets)}")
    for word in overrides:
        text = word.lstrip("+")
        if text.partition("=")[0] in _OF_PREDICTIONS:
            raise UserError(f"overrides: fit does not read {word}: bbbrun.predict takes the number of draws")
        if not text.startswith(tuple(f"{key}{mark}" for key in _FIT_KEYS for mark in ".=")):
            raise UserError(f"overrides: fit takes no word {word}, only words of {', '.join(_FIT_KEYS)}")
    try:
        config = validated(composed(["experiment=digits", *overrides, f"train.epochs={epochs}"]))
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(one_line(error)) from None
    device = choose_device(config.device)
    set_products(config.precision, device)
    network, weights = from_module(module)
    inputs = inputs.to(device)
    require_function(network, weights.float().to(device), inputs)
    plan = Plan(
        seed=config.seed,
        method=build_method(config.method),
        prior=placed(prior, device),
        optimizer=config.optimizer,
        batch_size=config.train.batch_size,
        compile=config.compile,
        precision=config.precision,
        weights=weights.float(),
    )
    if plan.method.name != BayesByBackprop.name:
        raise UserError(f"fit trains a posterior: method={plan.method.name} has none")
    problem = Problem(inputs, targets.to(device), network, likelihood)
    trainer = Trainer([plan], [problem], device, epochs)
    progress = Progress(epochs * trainer.minibatches, 0, "fit")
    try:
        for epoch in range(epochs):
            trainer.begin_epoch(epoch)
            for _ in range(trainer.minibatches):
                trainer.steps(1)
                progress.update(1)
            nll = trainer.mean_nll()
            progress.show({"nll": nll})
            if not nll < float("inf"):
                raise UserError(f"training diverged: nll is {nll:g} in epoch {epoch + 1}; lower optimizer.lr")
    finally:
        progress.close()
    return DiagonalGaussian(*(parameter.cpu() for parameter in trainer.parameters()))


def predict(module: nn.Module, posterior: DiagonalGaussian, inputs: Tensor, draws: int = 100, seed: int = 0) -> Tensor:
    """The module's outputs for each draw of its parameters from the posterior, (S, N, K), S = `draws`.

    The posterior predictive of classes is the mean over draws of PROBABILITIES: `.softmax(-1).mean(0)`.
    Raises ValueError where the posterior is not of this module's parameters.
    """
    if draws < 1:
        raise ValueError(f"draws must be 1 or more, not {draws}")
    network, weights = from_module(module)
    if posterior.mu.shape != weights.shape:
        raise ValueError(f"the posterior has {len(posterior.mu)} weights, the module {len(weights)}")
    samples = Draws(seed, 0, draws)
    return network_outputs(network, (samples.sample(posterior, number)[0] for number in range(draws)), inputs)
