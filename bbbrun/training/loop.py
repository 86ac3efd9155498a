"""The training loop: epochs of steps, a row per evaluation, checkpoints, and what a resume needs."""

import itertools
import math
import warnings
from collections.abc import Container
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from bbbrun.bayes.posterior import DiagonalGaussian
from bbbrun.errors import UserError
from bbbrun.runs.record import means
from bbbrun.runs.writer import RunFolder
from bbbrun.runtime import stops
from bbbrun.schema.config import Config
from bbbrun.training.progress import Progress
from bbbrun.training.session import MakeCheckpoint, Outcome, Session
from bbbrun.training.task import EPOCHS, Column, Judgement, Task
from bbbrun.training.trainer import Trainer

_UNTIMED_STEPS = 100  # the first steps compile and warm up
_EARLY_STEPS = 100  # a network may still be at chance after fewer
_AT_CHANCE = (
    "after epoch {} the error stands at chance, as where the complexity outweighs the likelihood: lower "
    "method.temperature or method.rho_init, widen the prior, or raise optimizer.lr"
)


def columns(task: Task) -> tuple[Column, ...]:
    """The columns of metrics.csv, in order."""
    return (*EPOCHS, *task.columns)


def fit(configs: list[Config], tasks: list[Task], runs: list[RunFolder], device: torch.device) -> list[Outcome]:
    """Train for train.epochs epochs, from the run's checkpoint where there is one; replicas, if several, at once.

    A replica whose nll stops being finite is no longer judged. Raises UserError once all have diverged.
    """
    config, epochs = configs[0], configs[0].train.epochs
    assert epochs is not None
    trainer = Trainer.of(configs, [task.problem for task in tasks], device, epochs)
    minibatches = trainer.minibatches
    with Session(runs[0], device, config, epochs * minibatches, [{} for _ in runs]) as session:
        if session.resumed:
            trainer.load(session.saved["tensors"])
        warned = False
        judgements: list[Judgement | None] = []
        # The replicas that have diverged, with what is told of each.
        diverged: dict[int, str] = session.saved.get("diverged", {})
        # The completed steps of an interrupted epoch; all of them if the stop came before the epoch's row.
        within: int = session.saved.get("within", 0)
        first = (session.step - within) // minibatches
        open_epoch = first
        if trainer.compiled and first < epochs:
            session.progress.say("compiling the training step: 0.5 to 2 minutes, cached afterwards")

        def make_checkpoint() -> dict[str, Any] | None:
            step, nll = int(trainer.state.step), trainer.state.nll.cpu()
            if not nll.isfinite().any():
                return None
            within = step - open_epoch * minibatches
            return session.checkpoint(step, trainer.saved(), within=within, nll=nll, diverged=diverged)

        for epoch in range(first, epochs):
            open_epoch = epoch
            rates = trainer.begin_epoch(epoch)
            if epoch == first and within:
                trainer.skip(within, session.saved["nll"])
            done = within if epoch == first else 0
            _run_epoch(trainer, session, make_checkpoint, done, _UNTIMED_STEPS if epoch == first else 0)
            # Before the checkpoint, which keeps the names of those that diverged.
            lost = _newly_diverged(trainer, epoch + 1, runs, diverged)
            diverged |= lost
            if len(diverged) == len(runs):
                text = list(lost.values())[-1]
                raise UserError(f"all {len(runs)} replicas diverged: {text}" if len(runs) > 1 else text)
            for text in lost.values():
                session.progress.say(f"{text}; the other replicas go on")
            seconds = session.seconds
            last = epoch + 1 == epochs
            step = (epoch + 1) * minibatches
            if last or (epoch + 1) % config.train.evaluate_every == 0:
                judgements = _judgements(trainer, tasks, step, last, session.progress, diverged)
                session.metrics = [
                    trainer.objective(replica) | judgement.row if judgement else {"nll": math.nan}
                    for replica, judgement in enumerate(judgements)
                ]
                judged = [row for row, judgement in zip(session.metrics, judgements, strict=True) if judgement]
                with stops.whole():
                    for run, lr, row in zip(runs, rates, session.metrics, strict=True):
                        run.append({"epoch": epoch + 1, "step": step, "seconds": seconds, "lr": lr[-1].item()} | row)
                    open_epoch = epoch + 1
                session.progress.show(_means(tasks[0].shown, judged))
                early = epoch + 1 < epochs / 10 or step < _EARLY_STEPS
                if not early and not warned and any(_at_chance(tasks[0], row) for row in judged):
                    warned = True
                    warnings.warn(_AT_CHANCE.format(epoch + 1), stacklevel=2)
            open_epoch = epoch + 1
            session.save(step, trainer.saved, last, diverged=diverged)
        step = epochs * minibatches
        if not judgements:
            # The run was stopped after its last row.
            judgements = _judgements(trainer, tasks, step, True, session.progress, diverged)
    return _outcomes(trainer, session, step, runs, judgements, diverged)


def _outcomes(
    trainer: Trainer,
    session: Session,
    step: int,
    runs: list[RunFolder],
    judgements: list[Judgement | None],
    diverged: dict[int, str],
) -> list[Outcome]:
    """What each training leaves after its last step, `step`; replicas get checkpoints of their own as well."""
    outcomes = []
    for replica, (judgement, run) in enumerate(zip(judgements, runs, strict=True)):
        row = session.metrics[replica]
        if run.shares_checkpoint and judgement:
            checkpoint = session.checkpoint(step, trainer.saved_of(replica), diverged={}) | {"metrics": [row]}
            run.save_checkpoint(checkpoint, own=True)
        predictions = judgement.predictions() if judgement and judgement.predictions else None
        numbers = row, session.seconds, session.steps_per_second, trainer.compiled
        outcomes.append(Outcome(*numbers, predictions, diverged.get(replica)))
    return outcomes


def _judgements(
    trainer: Trainer, tasks: list[Task], step: int, last: bool, progress: Progress, diverged: Container[int]
) -> list[Judgement | None]:
    """The judgement of each replica's network after `step` steps, None for one that has diverged.

    last: with the draws of the last evaluation.
    """
    count = trainer.method.draws(last)
    numbers = itertools.count(1)

    def sample(posterior: DiagonalGaussian, seed: Tensor, step: Tensor, draw: Tensor) -> tuple[Tensor, Tensor]:
        progress.note(f"evaluation, draw {next(numbers)} of {count * len(tasks)}")
        return trainer.sample(posterior, seed, step, draw)

    return [
        None
        if replica in diverged
        else task.evaluate(trainer.parameters(replica), replace(trainer.draws(step, count, replica), sampler=sample))
        for replica, task in enumerate(tasks)
    ]


def _means(names: tuple[str, ...], metrics: list[dict[str, float]]) -> dict[str, float]:
    """The mean over replicas of the metrics to show."""
    average = means(metrics)
    return {name: average[name] for name in names if name in average}


def _at_chance(task: Task, metrics: dict[str, float]) -> bool:
    """Whether a network with a complexity predicts no better than the most frequent class."""
    if "complexity" not in metrics or task.chance is None:
        return False
    error = metrics["valid_error"] if "valid_error" in metrics else metrics["test_error"]
    return error > 0.9 * task.chance


def _run_epoch(trainer: Trainer, session: Session, make_checkpoint: MakeCheckpoint, done: int, untimed: int) -> None:
    """Take the steps of an epoch after the first `done`; all of these but the first `untimed` are timed.

    make_checkpoint: of the state between any two steps, for a stop.
    """
    session.start_lap()
    for number in range(done, trainer.minibatches):
        if number - done == untimed:
            session.start_lap()
        session.take(lambda: trainer.steps(1), trainer.settled, make_checkpoint)
        session.progress.update(1)
    session.make_checkpoint = make_checkpoint
    session.end_lap(trainer.minibatches - done - untimed)


def _newly_diverged(trainer: Trainer, epoch: int, runs: list[RunFolder], before: Container[int]) -> dict[int, str]:
    """The replicas, besides those `before`, whose nll stopped being finite in this epoch, with what is told of each."""
    lost = {}
    for replica, run in enumerate(runs):
        nll = trainer.mean_nll(replica)
        if replica not in before and not math.isfinite(nll):
            whose = f" of {run.path.name}" if len(runs) > 1 else ""
            remedy = "lower optimizer.lr, or network.init_scale"
            lost[replica] = f"training diverged: nll{whose} is {nll:g} in epoch {epoch}; {remedy}"
    return lost
