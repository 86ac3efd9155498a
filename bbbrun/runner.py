"""One run from a valid configuration to its summary: the only module that knows the order of the steps."""

import platform
import sys
from contextlib import ExitStack, closing
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import torch

from bbbrun.errors import UserError
from bbbrun.runs.checkpoints import remove_checkpoints
from bbbrun.runs.files import ERROR, FIGURES, METRICS, naming, write_atomically
from bbbrun.runs.provenance import commit
from bbbrun.runs.record import means
from bbbrun.runs.writer import RunFolder, keep_record
from bbbrun.runtime.device import choose_device, keep_freed_memory, name_of, process_settings, set_products, set_threads
from bbbrun.schema.config import Config
from bbbrun.tasks.kinds import prepare
from bbbrun.training.session import Outcome

_VERSIONS = (
    "bbbrun",
    "torch",
    "torchvision",
    "hydra-core",
    "omegaconf",
    "pandas",
    "scikit-learn",
    "matplotlib",
)


# Keys that count rows of data.
_ROWS = ("train_points", "test_points", "grid_points", "steps", "buffer_size", "updates")


class Planned(NamedTuple):
    """A run to do: its folder below the command's, its configuration, and the files of its .hydra.

    An empty name stands for the command's own folder.
    """

    name: str
    config: Config
    record: dict[str, str]


def run(planned: list[Planned], folder: Path, command: str, record: dict[str, str]) -> dict[str, float]:
    """Train and evaluate in `folder`, or resume the run there; return the final metrics, the means of replicas.

    command: the words that started the run. record: file names and texts of the folder's .hydra.
    Raises UserError for errors that the user can mend.
    """
    with process_settings():
        try:
            return _run(planned, folder, command, record)
        except (MemoryError, RuntimeError) as error:
            # torch has no type of its own for a failed allocation on the CPU.
            if isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "allocate memory" in str(error):
                raise UserError(f"out of memory: make {_sizes(planned[0].config)} smaller") from error
            raise


def _sizes(config: Config) -> str:
    """The keys that decide how much memory a run takes, with their values."""
    sizes: dict[str, Any] = {"network.hidden": getattr(config.network, "hidden", None)}
    sizes |= {"method.members": getattr(config.method, "members", None)}
    sizes |= {"train.batch_size": config.train.batch_size, "replicas": config.replicas}
    for group in ("dataset", "agent"):
        part = getattr(config, group)
        sizes |= {f"{group}.{name}": getattr(part, name, None) for name in _ROWS}
    *most, last = [f"{name} ({value})" for name, value in sizes.items() if value not in (None, 1)] or ["the network"]
    return f"{', '.join(most)} or {last}" if most else last


def _run(planned: list[Planned], folder: Path, command: str, record: dict[str, str]) -> dict[str, float]:
    configs = [each.config for each in planned]
    device = choose_device(configs[0].device)
    set_products(configs[0].precision, device)
    keep_freed_memory()
    threads = set_threads(configs[0].threads)
    prepared = prepare(configs, device)
    names = [column.name for column in prepared.columns]
    folder.mkdir(parents=True, exist_ok=True)
    with naming(folder), ExitStack() as stack:
        if planned[0].name:
            # First, so that replicas killed from here on can be resumed.
            keep_record(folder, record)
        runs: list[RunFolder] = []
        for each in planned:
            runs.append(stack.enter_context(closing(RunFolder(folder / each.name, names, each.record, folder))))
            if len(runs) > 1:
                runs[-1].checkpoint = None  # all replicas have the first one's
        for one, text in zip(runs, prepared.inputs, strict=bool(prepared.inputs)):
            one.keep_inputs(text)
        print("\n".join([f"run folder: {folder}", *prepared.about]), file=sys.stderr)
        details = {
            "versions": {"python": platform.python_version()} | {name: version(name) for name in _VERSIONS},
            "commit": commit(),
            "device": name_of(device),
            "threads": threads,
            "replicas": len(runs),
            "command": command,
        }
        (folder / ERROR).unlink(missing_ok=True)  # of an earlier call
        try:
            outcomes = prepared.play(runs)
        except UserError as error:
            write_atomically(folder / ERROR, f"{error}\n".encode())
            raise
        for config, one, outcome in zip(configs, runs, outcomes, strict=True):
            if outcome.diverged is None:
                _finish(config, one, outcome, details)
            else:
                one.fail(outcome.diverged)
        if runs[0].shares_checkpoint:
            # Each has its own by now.
            remove_checkpoints(folder, newest=True)
    if lost := [one.path.name for one, outcome in zip(runs, outcomes, strict=True) if outcome.diverged]:
        raise UserError(f"{len(lost)} of {len(runs)} replicas diverged, the others are finished: {', '.join(lost)}")
    print(f"finished: {folder}", file=sys.stderr)
    return means([outcome.metrics for outcome in outcomes])


def _finish(config: Config, run: RunFolder, outcome: Outcome, details: dict[str, Any]) -> None:
    """Draw the figures that the run can show, and write its summary last."""
    figures = run.path / FIGURES
    title = f"{config.name}, {config.method.name}, seed {config.seed}"
    if run.shares_checkpoint:
        title += f", {run.path.name}"
    # matplotlib is imported only where something is drawn: that takes as long as a short run.
    if run.rows > 1:  # one point is no curve
        from bbbrun.report.plots import draw_metrics

        with naming(figures):
            draw_metrics(run.path / METRICS, figures, title)
    if outcome.predictions is not None:
        run.save_predictions(outcome.predictions.table)
        if outcome.predictions.points is not None:
            from bbbrun.report.plots import predictive_band

            with naming(figures):
                predictive_band(outcome.predictions.table, *outcome.predictions.points, figures, title)
    numbers = {name: getattr(outcome, name) for name in ("metrics", "seconds", "steps_per_second", "compiled")}
    run.finish(numbers | {"seed": config.seed} | details)
