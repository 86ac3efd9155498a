"""The end of a sweep: its unfinished jobs, why they are unfinished, and the command that continues them."""

import os
import shlex
import sys
from contextlib import suppress
from pathlib import Path

from bbbrun.errors import UserError
from bbbrun.runs.slurm import queued
from bbbrun.runs.standing import Standing, standing
from bbbrun.runs.sweep import labels, read_sweep
from bbbrun.schema.quoting import word
from bbbrun.sweeps.command import Calls

_MOST_LINES = 20  # of unfinished jobs; `bbbrun status` lists them all


def report_end(calls: Calls) -> bool:
    """Print how the sweep ended; return whether all of its jobs are finished."""
    unfinished, number = _unfinished(calls), len(calls.jobs)
    if not unfinished:
        print(f"finished: {calls.folder} ({number} job{'s' * (number > 1)})", file=sys.stderr)
        return True
    assert calls.folder is not None
    names = labels(read_sweep(calls.folder).jobs)
    print(f"{len(unfinished)} of {number} jobs are not finished, in {calls.folder}:", file=sys.stderr)
    for folder, progress in unfinished[:_MOST_LINES]:
        detail = f": {progress.detail}" if progress.detail else ""
        print(f"  {names[folder]}: {progress.state}{detail}", file=sys.stderr)
    if len(unfinished) > _MOST_LINES:
        print(f"  ... and {len(unfinished) - _MOST_LINES} more: bbbrun status {calls.folder}", file=sys.stderr)
    print(f"to continue them: {_again(calls)}", file=sys.stderr)
    return False


def remedy(calls: Calls) -> str:
    """What to do after a stop, in one line. On Slurm jobs continue without this process."""
    assert isinstance(calls.folder, Path)
    numbers: dict[str, str] = {}
    with suppress(UserError):  # where Slurm does not answer
        numbers = queued(calls.folder) if calls.on_slurm else {}
    if numbers:
        arrays = sorted({number.partition("_")[0] for number in numbers.values()})
        continuing = "1 job continues" if len(numbers) == 1 else f"{len(numbers)} jobs continue"
        return (
            f"{continuing} in Slurm: bbbrun status {calls.folder} shows them, "
            f"scancel {' '.join(arrays)} ends them, and {_again(calls)} waits for them and does the rest"
        )
    return f"{len(_unfinished(calls))} of {len(calls.jobs)} jobs are left; continue with: {_again(calls)}"


def _unfinished(calls: Calls) -> list[tuple[str, Standing]]:
    """The unfinished jobs by the names of their folders, each with its progress."""
    assert isinstance(calls.folder, Path)
    every = [(folder, standing(calls.folder / folder)) for folder in calls.jobs]
    return [(folder, progress) for folder, progress in every if progress.state != "finished"]


def _again(calls: Calls) -> str:
    """The command that continues the sweep. scripts/run names itself in BBBRUN_COMMAND."""
    assert isinstance(calls.folder, Path)
    return shlex.join([os.environ.get("BBBRUN_COMMAND", "bbbrun"), word("resume", str(calls.folder))])
