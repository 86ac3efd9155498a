"""One run from a valid configuration to its summary: the only place that knows the order of things."""

import platform
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import torch

from bbbrun import interaction
from bbbrun.classification import classification_task
from bbbrun.config import Config
from bbbrun.datasets import BanditDatasetConfig, RegressionCurveConfig
from bbbrun.devices import choose_device, keep_freed_memory, set_threads
from bbbrun.errors import UserError
from bbbrun.figures import learning_curve, predictive_band, regret_curve
from bbbrun.files import METRICS
from bbbrun.regression import regression_task
from bbbrun.runs import RunFolder
from bbbrun.trainer import Task
from bbbrun.training import columns, fit

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


def run(config: Config, folder: Path, command: str, record: dict[str, str]) -> dict[str, float]:
    """Train and evaluate in `folder`, continuing what it holds; return the final metrics.

    command: the words that started the run. record: file names and texts that a new run keeps under .hydra.
    Raises UserError for what the user can mend.
    """
    device = choose_device(config.device)
    keep_freed_memory()
    threads = set_threads(config.threads)
    task = None if isinstance(config.dataset, BanditDatasetConfig) else _task(config, device)
    run_folder = RunFolder(folder, columns(task) if task else interaction.COLUMNS, record)
    print(f"run folder: {folder}", file=sys.stderr)
    try:
        title = f"{config.name}, {config.method.name}, seed {config.seed}"
        if task is None:
            outcome = interaction.play(config, run_folder, device)
            regret_curve(folder / METRICS, folder / "figures", title)
        else:
            outcome = fit(config, task, run_folder, device)
            learning_curve(folder / METRICS, folder / "figures", title)
        if task and outcome.predictions is not None:
            run_folder.save_predictions(outcome.predictions)
            predictive_band(outcome.predictions, task.inputs[:, 0].cpu(), task.targets.cpu(), folder / "figures", title)
        run_folder.finish(
            {
                "metrics": outcome.metrics,
                "seconds": outcome.seconds,
                "steps_per_second": outcome.steps_per_second,
                "compiled": outcome.compiled,
                "versions": {"python": platform.python_version()} | {name: version(name) for name in _VERSIONS},
                "commit": _commit(),
                "device": torch.cuda.get_device_name(device)
                if device.type == "cuda"
                else f"cpu ({platform.machine()})",
                "threads": threads,
                "seed": config.seed,
                "command": command,
            }
        )
    except (MemoryError, RuntimeError) as error:
        # torch has no type of its own for a failed allocation on the CPU.
        if isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "allocate memory" in str(error):
            raise UserError("out of memory: make network.hidden or train.batch_size smaller") from error
        raise
    finally:
        run_folder.close()
    print(f"finished: {folder}", file=sys.stderr)
    return outcome.metrics


def _task(config: Config, device: torch.device) -> Task:
    match config.dataset:
        case RegressionCurveConfig():
            return regression_task(config, device)
        case _:
            return classification_task(config, device)


def _commit() -> str | None:
    """The commit of the source tree this package runs from, `+changes` where files differ; None when installed."""
    source = Path(__file__).resolve().parent.parent
    if not (source / ".git").exists():
        return None

    def git(*words: str) -> str:
        return subprocess.run(
            ["git", "-C", str(source), *words], capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+changes" if git("status", "--porcelain") else "")
    except (OSError, subprocess.CalledProcessError):
        return None
