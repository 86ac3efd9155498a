"""`bbbrun log`: copies runs to TensorBoard or MLflow. It reads runs and never trains."""

import argparse
import os
import sys
import time
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from bbbrun.errors import UserError
from bbbrun.runs.files import named_folder, require_not_of_a_run
from bbbrun.trackers.tracked import tracked_runs

# name -> module and class, default target, and packages to install.
TRACKERS = {
    "tensorboard": ("tensorboard", "TensorBoard", "results/tensorboard", "tensorboard"),
    "mlflow": ("mlflow", "MLflow", "sqlite:///results/mlflow.db", "mlflow-skinny sqlalchemy alembic"),
}
_ROUND = 5.0  # s between two looks of --follow


def main(words: Sequence[str] | None = None) -> None:
    """Run `bbbrun log`; exit code 0, 1 where no run has begun or a tool is missing, 2 for wrong words."""
    parser = argparse.ArgumentParser(prog="bbbrun log", description="Copies runs to TensorBoard or MLflow.")
    add = parser.add_argument
    add("runs", nargs="+", type=named_folder, help="folders with runs in or below them, finished or not")
    add("--to", choices=TRACKERS, required=True, help="the tool")
    defaults = ", ".join(f"{default} for {name}" for name, (_, _, default, _) in TRACKERS.items())
    add("-o", "--output", help=f"TensorBoard's folder, or the address of MLflow's store; by default {defaults}")
    add("--follow", action="store_true", help="repeat until all runs are finished or have failed")
    arguments = parser.parse_args(words)
    if arguments.output == "":
        parser.error("--output takes a folder or an address, not an empty word")
    for folder in arguments.runs:
        if not folder.is_dir():
            raise UserError(f"{folder} is not a folder: name one that holds runs, such as results/runs")
    module, name, default, packages = TRACKERS[arguments.to]
    target = arguments.output or default
    if arguments.to == "tensorboard":
        require_not_of_a_run(Path(target))
    tracked_runs(arguments.runs[0])  # before a store is created
    if target.startswith("sqlite:///"):
        Path(target.removeprefix("sqlite:///")).absolute().parent.mkdir(parents=True, exist_ok=True)
    if not arguments.follow:
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")  # by default it tries for minutes
    try:
        tracker: Any = getattr(import_module(f"bbbrun.trackers.{module}"), name)(target)
        try:
            _write(tracker, arguments.runs, arguments.follow)
        finally:
            tracker.close()
    except ModuleNotFoundError as error:
        raise UserError(f"--to {arguments.to} needs packages: pip install {packages} ({error})") from error
    except Exception as error:
        if type(error).__module__.partition(".")[0] not in ("mlflow", "sqlalchemy"):
            raise
        raise UserError(f"--output {target}: {' '.join(str(error).split())[:200]}") from None
    print(f"written: {target}", file=sys.stderr)


def _write(tracker: Any, folders: Sequence[Path], follow: bool) -> None:
    """Write all runs; with `follow`, write unfinished ones again and again."""
    finished: set[Path] = set()
    while True:
        runs = [run for folder in folders for run in tracked_runs(folder)]
        for run in runs:
            if run.folder not in finished:
                tracker.update(run)
        finished |= {run.folder for run in runs if run.state == "finished"}
        if not follow or all(run.state in ("finished", "failed") for run in runs):
            return
        try:
            time.sleep(_ROUND)
        except KeyboardInterrupt:
            return  # what is written is written
