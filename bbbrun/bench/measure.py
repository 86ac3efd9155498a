"""Median times of training steps and of their parts, interleaved in one process."""

import statistics
import time
from dataclasses import replace
from typing import cast

import pandas as pd
import torch
from tqdm import tqdm, trange

from bbbrun.bench.parts import floor, parts
from bbbrun.bench.steps import Timed, bbbrun_step, contenders, make_setting
from bbbrun.errors import UserError
from bbbrun.runtime.device import synchronize
from bbbrun.schema.config import Config
from bbbrun.schema.methods import BayesByBackpropConfig, Estimator, Precision
from bbbrun.training.task import Task

OURS = "bbb scale_mixture weights, bbbrun"
_FIRST, _SECOND = "sgd, PyTorch eager", "dropout, PyTorch eager"


def median_ms(steps: dict[str, Timed], rounds: int, device: torch.device) -> dict[str, float]:
    """Each step's median time, ms, over `rounds` rounds of one call each, after three calls that warm up."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    for name in tqdm(steps, disable=None, unit="step", desc="compiling"):
        for _ in range(3):
            steps[name]()
    for _ in trange(rounds, disable=None, unit="round"):
        for name, step in steps.items():
            synchronize(device)
            start = time.perf_counter()
            step()
            synchronize(device)
            times[name].append(1e3 * (time.perf_counter() - start))
    return {name: statistics.median(values) for name, values in times.items()}


def measure(
    widths: list[int],
    batch: int,
    draws: int,
    threads: int,
    rounds: int,
    device: torch.device,
    precision: Precision,
    only: str,
) -> pd.DataFrame:
    """A row for each step, part and floor whose name contains `only`: its median, ms, and its ratios to three steps.

    These three are always timed, in the same process. Raises UserError where no name contains `only`.
    """
    setting = make_setting(widths, batch, draws, device, precision)
    kinds = {"step": contenders(setting), "part": parts(setting), "floor": floor(setting)}
    needed = (_FIRST, _SECOND, OURS)
    torch.compiler.reset()
    chosen = {
        (kind, name): build
        for kind, builds in kinds.items()
        for name, build in builds.items()
        if only in name or name in needed
    }
    if not any(only in name for _, name in chosen):
        raise UserError(f"--only {only}: no step has this in its name, as 'weights', 'local' and 'PyTorch' are")
    medians = median_ms({name: build() for (_, name), build in chosen.items()}, rounds, device)
    rows = [
        {
            "network": "-".join(map(str, widths)),
            "batch": batch,
            "draws": draws,
            "threads": threads,
            "device": str(device),
            "precision": precision.name,
            "kind": kind,
            "name": name,
            "median_ms": medians[name],
            "to_eager_sgd": medians[name] / medians[_FIRST],
            "to_eager_dropout": medians[name] / medians[_SECOND],
            "to_bbb": medians[name] / medians[OURS],
        }
        for kind, name in chosen
    ]
    return pd.DataFrame(rows)


def step_ms(rounds: int, config: Config, task: Task, estimator: Estimator) -> float:
    """The median time, ms, of a step of the run's method with this estimator and SGD without momentum."""
    method = replace(cast(BayesByBackpropConfig, config.method), estimator=estimator)
    step = bbbrun_step(task.problem, config.train.batch_size, method, config.prior)
    return median_ms({"step": step}, rounds, task.problem.inputs.device)["step"]
