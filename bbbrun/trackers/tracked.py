"""A run as a tracker needs it, read from its folder at any moment."""

import math
from pathlib import Path
from typing import NamedTuple

from bbbrun.errors import UserError
from bbbrun.runs.files import FIGURES, METRICS, RECORD, SUMMARY, replica_folders
from bbbrun.runs.identity import leaves
from bbbrun.runs.reader import UNREADABLE
from bbbrun.runs.record import configuration_of, whole_rows
from bbbrun.runs.standing import jobs_in, standing


class Row(NamedTuple):
    """A row of metrics.csv: its step, the approximate time of writing (s since 1970), and its numbers by name."""

    step: int
    moment: float
    numbers: dict[str, float]


class Tracked(NamedTuple):
    """A run. settings: its configuration by dotted keys. files: files to copy, figures first."""

    folder: Path
    name: str
    state: str
    settings: dict[str, str]
    rows: list[Row]
    files: list[Path]


def tracked_runs(folder: Path) -> list[Tracked]:
    """The runs in and below `folder` that have begun, each replica by itself; raises UserError where there is none."""
    jobs = [path for path, _ in jobs_in(folder)]
    folders = [each for job in jobs for each in ([job] if (job / METRICS).exists() else replica_folders(job))]
    if not folders:
        raise UserError(f"{folder} holds no run that has begun (no {METRICS} in or below it)")
    return [_tracked(each) for each in folders]


def _tracked(folder: Path) -> Tracked:
    try:
        settings = leaves(configuration_of(folder / RECORD))
        numbers = [{name: float(cell) for name, cell in row.items() if cell} for row in whole_rows(folder / METRICS)]
        start = (folder / METRICS).stat().st_mtime - (numbers[-1]["seconds"] if numbers else 0.0)
        rows = [Row(int(each["step"]), start + each["seconds"], _finite(each)) for each in numbers]
    except UNREADABLE as error:
        raise UserError(f"the run in {folder} cannot be read: leave its folder out") from error
    files = [*sorted((folder / FIGURES).glob("*.png")), folder / METRICS, folder / RECORD, folder / SUMMARY]
    return Tracked(
        folder.resolve(),
        _name(folder.absolute()),
        standing(folder).state,
        settings,
        rows,
        [path for path in files if path.exists()],
    )


def _finite(numbers: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in numbers.items() if name != "step" and math.isfinite(value)}


def _name(folder: Path) -> str:
    """The run's name: its path below the last folder `runs`, else the last two parts of its path."""
    parts = folder.parts
    start = len(parts) - parts[::-1].index("runs") if "runs" in parts[:-1] else len(parts) - 2
    return "/".join(parts[start:])
