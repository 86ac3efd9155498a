"""A job of a sweep, in whichever process it runs: its log, its error file, and its return value for a sweeper."""

import atexit
import math
import os
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from bbbrun.errors import RunInUse, UserError
from bbbrun.runs.files import ERROR, LOG, lock, write_atomically
from bbbrun.runtime import stops
from bbbrun.schema.config import OBJECTIVES
from bbbrun.schema.messages import one_line


def objective_name(names: Collection[str], name: str | None) -> str | None:
    """By which of these metrics a job is judged: `name`, or the first of OBJECTIVES; None where it is not there."""
    return next((each for each in ((name,) if name else OBJECTIVES) if each in names), None)


def objective(metrics: Mapping[str, Any], name: str | None) -> float:
    """The validation metric that a job returns to a sweeper, to be made small; nan where it has none.

    name: as for objective_name. Raises UserError where the run has others only.
    """
    if name is not None and metrics and name not in metrics:
        there = [other for other in OBJECTIVES if other in metrics]
        raise UserError(f"objective: the run has no {name}, only {', '.join(there) or 'metrics of the test'}")
    found = objective_name(metrics, name)
    return float(metrics[found]) if found else math.nan


def run_job(folder: Path, work: Callable[[], Mapping[str, Any]], name: str | None = None) -> float:
    """Do a sweep's job in its folder: its output goes to the log there, its error to the error file.

    Returns the objective of this name (see objective). A job that another process is doing is skipped. Raises UserError
    with the line of any error, which can be sent to another process, and KeyboardInterrupt at a stop.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with _requeued(), _logged(folder) as locked:
        if not locked:
            return math.nan
        try:
            (folder / ERROR).unlink(missing_ok=True)
            return objective(work(), name)
        except RunInUse:
            return math.nan
        except Exception as error:
            if stops.is_stopping():
                raise KeyboardInterrupt from error
            text = error_text(error)
            print(text, file=sys.stderr)
            write_atomically(folder / ERROR, text.encode())
            if _on_slurm():
                atexit.register(os._exit, 1)  # so that Slurm counts it as failed; submitit has the result by then
            raise UserError(text.partition("\n")[0]) from None


def error_text(error: BaseException) -> str:
    """The content of an error file: the error in one line, and for a bug the traceback below."""
    if isinstance(error, UserError | HydraException | OmegaConfBaseException | OSError):
        return one_line(error) + "\n"
    trace = "".join(traceback.format_exception(error))
    return f"{type(error).__name__}: {' '.join(str(error).split())}\n\n{trace}"


def _on_slurm() -> bool:
    return os.environ.get("SUBMITIT_EXECUTOR") == "slurm"


@contextmanager
def _requeued() -> Iterator[None]:
    """On Slurm, save a checkpoint before submitit requeues the job: at SIGUSR2, sent before a time limit."""
    requeue = signal.getsignal(signal.SIGUSR2) if _on_slurm() else None
    if not callable(requeue):
        yield
        return
    stops.install(signal.SIGUSR2)
    try:
        yield
    except KeyboardInterrupt:
        if stops.number() == signal.SIGUSR2:
            requeue(signal.SIGUSR2, None)  # ends the process
        raise


@contextmanager
def _logged(folder: Path) -> Iterator[bool]:
    """Redirect standard error and warnings to the job's log; warnings are shown as well.

    The log is locked from before data are read; gives False where another process has the lock.
    """
    terminal, showwarning = sys.stderr, warnings.showwarning
    with (folder / LOG).open("a", encoding="utf-8", buffering=1) as log:

        def warn(message: Warning | str, *_: Any, **__: Any) -> None:
            print(f"bbbrun: warning: {message}", file=log)
            print(f"bbbrun: warning: {message} (job {folder.name})", file=terminal)

        if not lock(log):
            yield False
            return
        print(f"--- {time.strftime('%Y-%m-%d %H:%M:%S')}", file=log)
        stream: TextIO = log
        sys.stderr, warnings.showwarning = stream, warn
        try:
            yield True
        finally:
            sys.stderr, warnings.showwarning = terminal, showwarning
