"""Runs found on disk, finished or not: how far each has come."""

import io
import math
import os
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from bbbrun.errors import UserError
from bbbrun.runs.checkpoints import has_checkpoint
from bbbrun.runs.files import METRICS, RECORD, SUMMARY, in_use, is_replica
from bbbrun.runs.reader import UNREADABLE, read
from bbbrun.runs.record import configuration_of, table_text


class RunOnDisk(NamedTuple):
    """A run found on disk. done: the fraction of its epochs or interactions completed. seconds: the time they took."""

    folder: Path
    config: dict[str, Any]
    done: float
    seconds: float

    @property
    def finished(self) -> bool:
        return (self.folder / SUMMARY).exists()

    @property
    def in_progress(self) -> bool:
        return not self.finished and in_use(self.folder)


def runs_on_disk(folder: Path, *, warn: bool = False) -> list[RunOnDisk]:
    """The runs in and below `folder`, finished or not, sorted by path. warn: name on stderr what cannot be read."""
    runs, unreadable = [], []
    for path, _, names in sorted(os.walk(folder, onerror=lambda error: unreadable.append(Path(error.filename)))):
        # An unfinished replica resumes with the others only, so it is no run of its own.
        if SUMMARY in names or (METRICS in names and not is_replica(Path(path))):
            run = _run_on_disk(Path(path))
            if run is None:
                unreadable.append(Path(path))
            else:
                runs.append(run)
    for each in unreadable:
        if warn and each.exists():
            print(f"warning: {each} cannot be read: it counts as no run; mend it or delete it", file=sys.stderr)
    return runs


def _run_on_disk(folder: Path) -> RunOnDisk | None:
    """The run in `folder`; None where it cannot be read."""
    try:
        finished = (folder / SUMMARY).exists()
        config = read(folder).config if finished else configuration_of(folder / RECORD)
        # A last line without its newline is torn: a resumed run writes it again.
        lines = table_text(folder / METRICS).rpartition("\n")[0]
        rows = pd.read_csv(io.StringIO(lines))
        total = config["train"]["epochs"] or config["agent"]["steps"]
        completed = rows["epoch" if config["train"]["epochs"] else "step"]
        # Without a checkpoint an interrupted run restarts from nothing.
        resumable = len(rows) > 0 and (has_checkpoint(folder) or finished)
        done, seconds = (completed.iloc[-1] / total, rows["seconds"].iloc[-1]) if resumable else (0.0, 0.0)
        _ = int(config["seed"])
        if not math.isfinite(done + seconds):
            raise ValueError("text where numbers belong")
    except (UserError, OverflowError, *UNREADABLE):
        return None
    return RunOnDisk(folder, config, float(done), float(seconds))
