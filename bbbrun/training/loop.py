"""The training loop: epochs of steps, a row per evaluation, checkpoints, and what a resume needs."""

import math
import statistics
import time
import warnings
from typing import Any, NamedTuple

import pandas as pd
import torch
from torch import Tensor

from bbbrun.bayes.predictive import evaluation_draws
from bbbrun.errors import UserError
from bbbrun.runs.writer import RunFolder
from bbbrun.runtime.device import synchronize
from bbbrun.schema.config import Config
from bbbrun.schema.options import BayesByBackpropConfig
from bbbrun.training.progress import Progress
from bbbrun.training.trainer import Task, Trainer

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


def fit(configs: list[Config], tasks: list[Task], runs: list[RunFolder], device: torch.device) -> list[Outcome]:
    """Train for train.epochs epochs, from the run's checkpoint where there is one; replicas, if several, at once.

    Raises UserError where the objective stops being finite.
    """
    config, epochs = configs[0], configs[0].train.epochs
    assert epochs is not None
    trainer = Trainer(configs, tasks, device, epochs)
    saved = runs[0].checkpoint or {
        "step": 0,
        "seconds": 0.0,
        "timed_steps": 0,
        "timed_seconds": 0.0,
        "metrics": [{} for _ in runs],
    }
    if runs[0].checkpoint:
        trainer.load(saved)
    metrics: list[dict[str, float]] = saved["metrics"]
    timed_steps, timed_seconds = saved["timed_steps"], saved["timed_seconds"]
    start = checkpointed = time.monotonic()
    minibatches = trainer.minibatches
    progress = Progress(epochs * minibatches, saved["step"], config.name)
    if trainer.compiled:
        progress.say("compiling the training step: about half a minute the first time, cached afterwards")
    warm = warned = False
    seconds = saved["seconds"]

    def checkpoint(step: int, metrics: list[dict[str, float]], tensors: list[Tensor]) -> dict[str, Any]:
        return {
            "step": step,
            "seconds": seconds,
            "timed_steps": timed_steps,
            "timed_seconds": timed_seconds,
            "metrics": metrics,
            "tensors": tensors,
        }

    try:
        for epoch in range(saved["step"] // minibatches, epochs):
            rates = trainer.begin_epoch(epoch)
            steps, duration = _run_epoch(trainer, progress, device, 0 if warm else _UNTIMED_STEPS)
            timed_steps, timed_seconds, warm = timed_steps + steps, timed_seconds + duration, True
            seconds = saved["seconds"] + time.monotonic() - start
            last = epoch + 1 == epochs
            step = (epoch + 1) * minibatches
            if last or (epoch + 1) % config.train.evaluate_every == 0:
                drawing = (evaluation_draws(config.method, last), step, trainer.sampler)
                metrics = [
                    trainer.objective(replica) | task.evaluate(trainer.parameters(replica), *drawing)
                    for replica, task in enumerate(tasks)
                ]
                for run, lr, row in zip(runs, rates, metrics, strict=True):
                    run.append({"epoch": epoch + 1, "step": step, "seconds": seconds, "lr": lr[-1].item()} | row)
                progress.show(_means(tasks[0].shown, metrics))
                early = epoch + 1 < epochs / 10 or step < _EARLY_STEPS
                if not early and not warned and any(_collapsed(config, tasks[0], row) for row in metrics):
                    warned = True
                    warnings.warn(
                        f"after epoch {epoch + 1} the error stands at chance, as where the complexity outweighs the "
                        "likelihood: lower method.temperature or method.rho_init, widen the prior, or raise "
                        "optimizer.lr",
                        stacklevel=2,
                    )
            # Before a checkpoint can hold it: a resume must not start from what has diverged.
            for replica, run in enumerate(runs):
                _require_finite(trainer.mean_nll(replica), epoch + 1, f" of {run.path.name}" if len(runs) > 1 else "")
            if last or time.monotonic() - checkpointed >= config.train.checkpoint_seconds:
                runs[0].save_checkpoint(checkpoint(step, metrics, trainer.saved()))
                checkpointed = time.monotonic()
    finally:
        progress.close()
    rate = timed_steps / timed_seconds if timed_steps else None
    step = epochs * minibatches
    drawing = (evaluation_draws(config.method, True), step, trainer.sampler)
    outcomes = []
    for replica, (task, run) in enumerate(zip(tasks, runs, strict=True)):
        predictions = task.predictions and task.predictions(trainer.parameters(replica), *drawing)
        seconds = saved["seconds"] + time.monotonic() - start
        if run.shares_checkpoint:
            run.save_checkpoint(checkpoint(step, [metrics[replica]], trainer.saved_of(replica)), own=True)
        outcomes.append(Outcome(metrics[replica], seconds, rate, trainer.compiled, predictions))
    return outcomes


def _means(names: list[str], metrics: list[dict[str, float]]) -> dict[str, float]:
    """The mean over replicas of the metrics to show."""
    return {name: statistics.fmean(row[name] for row in metrics) for name in names if name in metrics[0]}


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
        trainer.steps(1)
        progress.update(1)
    synchronize(device)
    timed = trainer.minibatches - untimed
    return (timed, time.perf_counter() - clock) if timed > 0 else (0, 0.0)


def _require_finite(nll: float, epoch: int, whose: str) -> None:
    if not math.isfinite(nll):
        raise UserError(
            f"training diverged: nll{whose} is {nll:g} in epoch {epoch}; lower optimizer.lr, or network.init_scale"
        )
