"""`scripts/bench`: median training steps, interleaved in one process; what they are made of; estimators' variance."""

import argparse
import itertools
import os
import statistics
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import pandas as pd
import torch
from tqdm import tqdm, trange

from bbbrun.bench.parts import floor, parts
from bbbrun.bench.steps import Timed, bbbrun_step, contenders, make_setting
from bbbrun.bench.variance import variances
from bbbrun.errors import UserError
from bbbrun.runtime.device import choose_device, keep_freed_memory, set_products, set_threads, synchronize
from bbbrun.schema.config import Config, Device
from bbbrun.schema.options import BayesByBackpropConfig, Estimator
from bbbrun.training.task import Task

_FIRST, _SECOND, _OURS = "sgd, PyTorch eager", "dropout, PyTorch eager", "bbb scale_mixture weights, bbbrun"
_NOT_FOR_VARIANCE = ("network", "batch", "draws", "threads", "device", "tf32", "only")


def median_ms(steps: dict[str, Timed], rounds: int, device: torch.device) -> dict[str, float]:
    """The median of each step's milliseconds over `rounds` rounds of one step each, after three that warm up."""
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
    widths: list[int], batch: int, draws: int, threads: int, rounds: int, device: torch.device, only: str
) -> pd.DataFrame:
    """A row for each step, part and floor whose name contains `only`, with ratios to those of the same process.

    What ratios are to is timed whatever `only` says.
    """
    setting = make_setting(widths, batch, draws, device)
    kinds = {"step": contenders(setting), "part": parts(setting), "floor": floor(setting)}
    needed = (_FIRST, _SECOND, _OURS)
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
            "kind": kind,
            "name": name,
            "median_ms": medians[name],
            "to_eager_sgd": medians[name] / medians[_FIRST],
            "to_eager_dropout": medians[name] / medians[_SECOND],
            "to_bbb": medians[name] / medians[_OURS],
        }
        for kind, name in chosen
    ]
    return pd.DataFrame(rows)


def step_ms(rounds: int, config: Config, task: Task, estimator: Estimator) -> float:
    """The median step of a run's method with another estimator, momentum-free SGD, ms."""
    assert isinstance(config.method, BayesByBackpropConfig)
    inputs, network = task.problem.inputs, task.problem.network
    widths = [inputs[0].numel(), *config.network.hidden, network.shapes[-1][0]]
    setting = make_setting(widths, config.train.batch_size, config.method.train_samples, inputs.device)
    step = bbbrun_step(setting, replace(config.method, estimator=estimator), config.prior)
    return median_ms({"step": step}, rounds, inputs.device)["step"]


def main() -> None:
    """Print a table for each setting, and write all of them as one CSV where --output names a file."""
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    add = parser.add_argument
    default = ["784-1200-1200-10"]
    add("--network", nargs="+", default=default, help="widths, inputs to outputs; the bandit's is 119-100-100-1")
    add("--batch", type=int, default=128)
    add("--draws", type=int, nargs="+", default=[1], help="method.train_samples")
    add("--threads", type=int, nargs="+", default=[0], help="0: as many as torch takes by itself")
    add("--rounds", type=int, default=100, help="timed steps of each; draws of each with --variance")
    add("--device", choices=("cpu", "cuda"), default="cpu")
    add("--tf32", action="store_true", help="CUDA's matrix products in TensorFloat-32, of every contender")
    add("--only", default="", help="a part of the names of what to time, besides what ratios are to")
    add("--variance", type=Path, metavar="RUN", help="the variance of gradients at this run's network, instead")
    add("--output", type=Path, help="a CSV file to write")
    arguments = parser.parse_args()
    keep_freed_memory()
    try:
        if arguments.output:
            _require_writable(arguments.output)
        beside = [name for name in _NOT_FOR_VARIANCE if getattr(arguments, name) != parser.get_default(name)]
        if arguments.variance and beside:
            raise UserError(f"--{beside[0]} has no effect with --variance, which takes the run's own network and batch")
        device = choose_device(Device(arguments.device))
        set_products(arguments.tf32, device)
        networks = [[int(width) if width.isdecimal() else 0 for width in net.split("-")] for net in arguments.network]
        if min(map(len, networks)) < 2 or min(itertools.chain(*networks)) < 1:
            raise UserError("--network takes widths of at least 1, two and more joined by -, such as 784-400-400-10")
        least = min([arguments.batch, arguments.rounds - 1, *arguments.draws, *(1 + n for n in arguments.threads)])
        if least < 1:
            raise UserError("--rounds must be at least 2, --threads at least 0, and every other number at least 1")
        if arguments.variance:
            tables = [_variance(arguments.variance, arguments.rounds)]
        else:
            usual = torch.get_num_threads()
            tables = []
            for widths, draws, threads in itertools.product(networks, arguments.draws, arguments.threads):
                count = set_threads(threads or usual)
                setting = (widths, arguments.batch, draws, count, arguments.rounds, device, arguments.only)
                tables.append(_shown(measure(*setting)))
    except (UserError, ValueError) as error:
        parser.error(str(error))
    if arguments.output:
        pd.concat(tables).to_csv(arguments.output, index=False)


def _require_writable(path: Path) -> None:
    """Before anything is timed: raise UserError where no file could be written at `path`."""
    if path.is_dir() or not path.parent.is_dir() or not os.access(path if path.exists() else path.parent, os.W_OK):
        raise UserError(f"--output must be a file in a folder that is there and can be written to, not {path}")


def _variance(run: Path, rounds: int) -> pd.DataFrame:
    return _shown(variances(run, rounds, partial(step_ms, rounds)))


def _shown(table: pd.DataFrame) -> pd.DataFrame:
    print(table.to_string(index=False, float_format=lambda value: f"{value:.4g}"), flush=True)
    return table


if __name__ == "__main__":
    main()
