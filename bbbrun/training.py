"""The training loop: epochs of steps, a row per evaluation, checkpoints, and what a resume needs."""

import math
import time
import warnings
from typing import NamedTuple

import pandas as pd
import torch

from bbbrun.config import Config
from bbbrun.devices import synchronize
from bbbrun.errors import UserError
from bbbrun.options import BayesByBackpropConfig
from bbbrun.predictive import evaluation_draws
from bbbrun.progress import Progress
from bbbrun.runs import RunFolder
from bbbrun.trainer import Task, Trainer

OBJECTIVE_COLUMNS = ["nll", "log_posterior", "log_prior", "complexity", "free_energy"]
_UNTIMED_STEPS = 100  # the first steps compile and warm up
_EARLY_STEPS = 100  # nothing can be expected of a network after fewer


class Outcome(NamedTuple):
    """What a finished training leaves for the summary, and the task's table of predictions where it has one."""

    metrics: dict[str, float]
    seconds: float
    steps_per_second: float | None
    compiled: bool
    predictions: pd.DataFrame | None


def columns(task: Task) -> list[str]:
    """The columns of metrics.csv, in order."""
    return ["epoch", "step", "seconds", "lr", *OBJECTIVE_COLUMNS, *task.columns]


def fit(config: Config, task: Task, run: RunFolder, device: torch.device) -> Outcome:
    """Train for train.epochs epochs, from the run's checkpoint where there is one.

    Raises UserError where the objective stops being finite.
    """
    epochs = config.train.epochs
    assert epochs is not None
    trainer = Trainer(config, task, device, epochs)
    saved = run.checkpoint or {
        "step": 0,
        "seconds": 0.0,
        "timed_steps": 0,
        "timed_seconds": 0.0,
        "metrics": {},
    }
    if run.checkpoint:
        trainer.load(saved)
    metrics: dict[str, float] = saved["metrics"]
    timed_steps, timed_seconds = saved["timed_steps"], saved["timed_seconds"]
    start = checkpointed = time.monotonic()
    minibatches = trainer.minibatches
    progress = Progress(epochs * minibatches, saved["step"], config.name)
    if trainer.compiled:
        progress.say("compiling the training step: about half a minute the first time, cached afterwards")
    warm = warned = False
    try:
        for epoch in range(saved["step"] // minibatches, epochs):
            rates = trainer.begin_epoch(epoch)
            steps, duration = _run_epoch(trainer, progress, device, 0 if warm else _UNTIMED_STEPS)
            timed_steps, timed_seconds, warm = timed_steps + steps, timed_seconds + duration, True
            seconds = saved["seconds"] + time.monotonic() - start
            last = epoch + 1 == epochs
            step = (epoch + 1) * minibatches
            if last or (epoch + 1) % config.train.evaluate_every == 0:
                draws = evaluation_draws(config.method, last)
                metrics = trainer.objective() | task.evaluate(trainer.state.parameters, draws, step, trainer.sampler)
                run.append({"epoch": epoch + 1, "step": step, "seconds": seconds, "lr": rates[-1].item()} | metrics)
                progress.show({name: metrics[name] for name in task.shown if name in metrics})
                early = epoch + 1 < epochs / 10 or step < _EARLY_STEPS
                if not early and not warned and _collapsed(config, task, metrics):
                    warned = True
                    warnings.warn(
                        f"after epoch {epoch + 1} the error stands at chance, as where the complexity outweighs the "
                        "likelihood: lower method.temperature or method.rho_init, widen the prior, or raise "
                        "optimizer.lr",
                        stacklevel=2,
                    )
            # Before a checkpoint can hold it: a resume must not start from what has diverged.
            _require_finite(trainer.mean_nll(), epoch + 1)
            if last or time.monotonic() - checkpointed >= config.train.checkpoint_seconds:
                run.save_checkpoint(
                    {
                        "step": step,
                        "seconds": seconds,
                        "timed_steps": timed_steps,
                        "timed_seconds": timed_seconds,
                        "metrics": metrics,
                        "tensors": trainer.saved(),
                    }
                )
                checkpointed = time.monotonic()
    finally:
        progress.close()
    rate = timed_steps / timed_seconds if timed_steps else None
    place = (trainer.state.parameters, evaluation_draws(config.method, True), epochs * minibatches, trainer.sampler)
    predictions = task.predictions and task.predictions(*place)
    seconds = saved["seconds"] + time.monotonic() - start
    return Outcome(metrics, seconds, rate, trainer.compiled, predictions)


def _collapsed(config: Config, task: Task, metrics: dict[str, float]) -> bool:
    """Whether a posterior predicts no better than the most frequent class."""
    bayes = isinstance(config.method, BayesByBackpropConfig)
    return bayes and task.chance is not None and metrics.get("valid_error", metrics["test_error"]) > 0.9 * task.chance


def _run_epoch(trainer: Trainer, progress: Progress, device: torch.device, untimed: int) -> tuple[int, float]:
    """Run an epoch's steps; return how many were timed, and their seconds."""
    clock = time.perf_counter()
    for number in range(trainer.minibatches):
        if number == untimed:
            synchronize(device)
            clock = time.perf_counter()
        trainer.step()
        progress.update(1)
    synchronize(device)
    timed = trainer.minibatches - untimed
    return (timed, time.perf_counter() - clock) if timed > 0 else (0, 0.0)


def _require_finite(nll: float, epoch: int) -> None:
    if not math.isfinite(nll):
        raise UserError(
            f"training diverged: nll is {nll:g} in epoch {epoch}; lower optimizer.lr, or network.init_scale"
        )
