"""The progress of runs, from their folders alone: a thousand in a fraction of a second, without torch and pandas."""

import json
import os
import re
from collections import Counter
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any, NamedTuple

from bbbrun.runs.files import ERROR, LOG, METRICS, RECORD, SUMMARY, WRITER, in_use, is_replica, replica_folders
from bbbrun.runs.sweep import is_sweep, labels, read_sweep

# The states of a run, in the order in which they are counted.
STATES = ("finished", "running", "interrupted", "failed", "waiting")

_LAST_BYTES = 4096  # of a table, more than its last row
_DONE_BY = re.compile(r"^(train|agent):\n(?:  .*\n)*?  (epochs|steps): (\d+)$", re.MULTILINE)
_REPLICAS = re.compile(r"^replicas: (\d+)$", re.MULTILINE)


class Standing(NamedTuple):
    """A run's progress. done: the fraction completed; seconds: the time so far; detail: its process, or its error.

    rate: epochs or interactions per second, as text.
    """

    state: str
    done: float = 0.0
    seconds: float = 0.0
    detail: str = ""
    rate: str = ""

    @property
    def seconds_left(self) -> float | None:
        """The time of the rest at the rate so far; None where nothing is done yet."""
        return self.seconds * (1 - self.done) / self.done if self.done > 0 else None


def jobs_in(folder: Path) -> list[tuple[Path, str]]:
    """The runs in or below `folder`, each with a label: a job's settings, else its folder's name.

    A sweep's runs include those that have not begun. Replicas are one run.
    """
    runs: list[tuple[Path, str]] = []
    for root, folders, names in os.walk(folder):
        path = Path(root)
        if is_sweep(path):
            prefix = "" if path == folder else f"{path.relative_to(folder)}/"
            runs += [(path / name, prefix + label) for name, label in labels(read_sweep(path).jobs).items()]
            folders.clear()
        elif METRICS in names or SUMMARY in names or LOG in names or (path / RECORD).is_file():
            runs.append((path, str(path.relative_to(folder) if path != folder else path)))
            folders.clear()
        folders.sort()
    return runs


def standing(folder: Path) -> Standing:
    """The progress of the run in `folder`, of replicas together."""
    if (folder / SUMMARY).exists():
        return Standing("finished", 1.0, _progress(folder)[1])
    if (folder / METRICS).exists():
        return _alone(folder)
    if (folder / RECORD).exists() and (parts := replica_folders(folder)):
        return _together(folder, [standing(part) for part in parts])
    if in_use(folder):
        return Standing("running")
    started = (folder / RECORD).exists() or (folder / LOG).exists()
    return _failed(folder) or Standing("interrupted" if started else "waiting")


def _alone(folder: Path) -> Standing:
    """The progress of an unfinished run that has begun its table."""
    running = in_use(folder)
    if not running and (failed := _failed(folder) or _failed_as_all(folder)):
        return failed
    total = _total(folder)
    completed, seconds, unit = _progress(folder)
    done = min(completed / total, 1.0) if total else 0.0
    rate = f"{completed / seconds:.3g} {unit}s/s" if seconds > 0 else ""
    return Standing("running" if running else "interrupted", done, seconds, _writer(folder) if running else "", rate)


def _together(folder: Path, parts: list[Standing]) -> Standing:
    """The progress of replicas, which are trained together."""
    states = {part.state for part in parts}
    done = sum(part.done for part in parts) / len(parts)
    seconds = max(part.seconds for part in parts)
    if "running" in states:
        return Standing("running", done, seconds, max(part.detail for part in parts), parts[0].rate)
    if states == {"finished"} and len(parts) >= _number(folder, _REPLICAS, 1, len(parts)):
        return Standing("finished", 1.0, seconds)
    if states == {"finished", "failed"}:
        diverged = sum(part.state == "failed" for part in parts)
        return Standing("finished", 1.0, seconds, f"{diverged} of {len(parts)} replicas diverged")
    return _failed(folder) or Standing("interrupted", done, seconds)


def _failed_as_all(folder: Path) -> Standing | None:
    """The failed standing of a replica of which none was left; None of any other run."""
    failed = _failed(folder.parent)
    return failed if failed and is_replica(folder) else None


def _failed(folder: Path) -> Standing | None:
    """The failed standing with the first line of the run's error file; None where there is no such file."""
    try:
        text = (folder / ERROR).read_text("utf-8", "replace")
    except OSError:
        return None
    return Standing("failed", detail=text.partition("\n")[0])


def _progress(folder: Path) -> tuple[float, float, str]:
    """The epochs or steps in the last whole row of metrics.csv, its seconds, and the unit, epoch or step.

    Tables begin with epoch, step, seconds, or with step, seconds. 0 where there is no row.
    """
    try:
        with (folder / METRICS).open("rb") as file:
            head = file.readline().decode().rstrip("\n").split(",")
            start = file.tell()
            file.seek(max(start, file.seek(0, os.SEEK_END) - _LAST_BYTES))
            rows = file.read().decode("utf-8", "replace").rpartition("\n")[0].split("\n")
        cells = dict(zip(head, rows[-1].split(","), strict=False))
        return float(cells[head[0]]), float(cells["seconds"]), head[0]
    except (OSError, ValueError, KeyError):
        return 0.0, 0.0, "step"


def _total(folder: Path) -> int:
    """The epochs or interactions in the run's configuration; 0 where it cannot be read."""
    return _number(folder, _DONE_BY, 3, 0)


def _number(folder: Path, pattern: re.Pattern[str], group: int, default: int) -> int:
    """A number in the run's record, found by `pattern`: parsing the YAML takes 10 ms, and there may be 1,000."""
    try:
        match = pattern.search((folder / RECORD).read_text("utf-8"))
    except (OSError, ValueError):
        match = None
    return int(match[group]) if match else default


def writer(folder: Path) -> dict[str, Any]:
    """Host, process, parent process and Slurm job that write the run; empty where writer.json is missing."""
    try:
        content: Any = json.loads((folder / WRITER).read_text("utf-8"))
        return {name: content[name] for name in ("host", "process", "parent", "slurm")}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _writer(folder: Path) -> str:
    """Host, process and Slurm job that write the run, as text."""
    content = writer(folder)
    slurm = f", Slurm job {content['slurm']}" if content.get("slurm") else ""
    return f"on {content['host']}, process {content['process']}{slurm}" if content else ""


def counted(standings: Iterable[Standing]) -> str:
    """The number of runs in each state, as text, without empty states."""
    numbers = Counter(each.state for each in standings)
    return ", ".join(f"{numbers[state]} {state}" for state in STATES if numbers[state])


def seconds_left(standings: Collection[Standing]) -> float | None:
    """An estimate of the time until all runs have ended, with as many at once as now, s; None if unknown.

    A run that has not begun counts with the mean time of the others.
    """
    unfinished = [each for each in standings if each.state not in ("finished", "failed")]
    whole = [each.seconds / each.done for each in standings if each.done > 0]
    if not whole:
        return None if unfinished else 0.0
    mean = sum(whole) / len(whole)
    rest = sum(mean if each.seconds_left is None else each.seconds_left for each in unfinished)
    return rest / max(1, sum(each.state == "running" for each in standings))


def percent(share: float) -> str:
    """A share from 0 to 1 as whole percent, rounded down: 100% is the whole."""
    return f"{int(100 * share + 1e-9)}%"


def duration(seconds: float | None) -> str:
    """A time as a user reads it: 12 s, 3.4 min, 2.1 h."""
    if seconds is None:
        return "?"
    for size, unit in ((3600, "h"), (60, "min")):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"
