"""How far runs are, read from their folders alone, a thousand in a fraction of a second: without torch and pandas."""

import json
import os
import re
from collections import Counter
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any, NamedTuple

from bbbrun.runs.files import ERROR, LOG, METRICS, RECORD, SUMMARY, WRITER, in_use
from bbbrun.runs.sweep import is_sweep, labels, read_sweep

# The states of a run, in the order in which they are counted.
STATES = ("finished", "running", "interrupted", "failed", "waiting")

_LAST_BYTES = 4096  # of a table, in which its last row ends
_DONE_BY = re.compile(r"^(train|agent):\n(?:  .*\n)*?  (epochs|steps): (\d+)$", re.MULTILINE)
_REPLICAS = re.compile(r"^replicas: (\d+)$", re.MULTILINE)


class Standing(NamedTuple):
    """How far a run is. done: from 0 to 1; seconds: the time that took; detail: who runs it, or its error.

    rate: epochs or interactions per second, as text.
    """

    state: str
    done: float = 0.0
    seconds: float = 0.0
    detail: str = ""
    rate: str = ""

    @property
    def seconds_left(self) -> float | None:
        """The time that the rest takes at the rate so far; None where nothing is done yet."""
        return self.seconds * (1 - self.done) / self.done if self.done > 0 else None


def jobs_in(folder: Path) -> list[tuple[Path, str]]:
    """The runs in or below `folder`, and what tells them apart: a job's settings, else its folder's name.

    A sweep has those that have not begun, too. Replicas are one run.
    """
    runs: list[tuple[Path, str]] = []
    for path, folders, names in os.walk(folder):
        here = Path(path)
        if is_sweep(here):
            prefix = "" if here == folder else f"{here.relative_to(folder)}/"
            runs += [(here / name, prefix + label) for name, label in labels(read_sweep(here).jobs).items()]
            folders.clear()
        elif METRICS in names or SUMMARY in names or LOG in names or (here / RECORD).is_file():
            runs.append((here, str(here.relative_to(folder) if here != folder else here)))
            folders.clear()
        folders.sort()
    return runs


def standing(folder: Path) -> Standing:
    """How far the run in `folder` is; of replicas, how far they are together."""
    if (folder / SUMMARY).exists():
        return Standing("finished", 1.0, _progress(folder)[1])
    if (folder / METRICS).exists():
        return _alone(folder)
    if (folder / RECORD).exists() and (parts := _replicas(folder)):
        return _together(folder, [standing(part) for part in parts])
    if in_use(folder):
        return Standing("running")
    begun = (folder / RECORD).exists() or (folder / LOG).exists()
    return _failed(folder) or Standing("interrupted" if begun else "waiting")


def _alone(folder: Path) -> Standing:
    """How far a run without a summary is that has begun its table."""
    running = in_use(folder)
    if not running and (failed := _failed(folder)):
        return failed
    total = _total(folder)
    completed, seconds, unit = _progress(folder)
    done = min(completed / total, 1.0) if total else 0.0
    rate = f"{completed / seconds:.3g} {unit}s/s" if seconds > 0 else ""
    return Standing("running" if running else "interrupted", done, seconds, _writer(folder) if running else "", rate)


def _together(folder: Path, parts: list[Standing]) -> Standing:
    """How far replicas are, which go on together."""
    states = {part.state for part in parts}
    done = sum(part.done for part in parts) / len(parts)
    seconds = max(part.seconds for part in parts)
    if "running" in states:
        return Standing("running", done, seconds, max(part.detail for part in parts), parts[0].rate)
    if states == {"finished"} and len(parts) >= _number(folder, _REPLICAS, 1, len(parts)):
        return Standing("finished", 1.0, seconds)
    return _failed(folder) or Standing("interrupted", done, seconds)


def _replicas(folder: Path) -> list[Path]:
    """The folders of replicas in that around them."""
    return sorted(path.parent for path in folder.glob(f"*/{METRICS}"))


def _failed(folder: Path) -> Standing | None:
    """The failure that the run's folder tells of, with its first line; None where there is none."""
    try:
        text = (folder / ERROR).read_text("utf-8", "replace")
    except OSError:
        return None
    return Standing("failed", detail=text.partition("\n")[0])


def _progress(folder: Path) -> tuple[float, float, str]:
    """What the last whole row of metrics.csv counts, the seconds it took, and which of epoch and step it counts.

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
    """The epochs or interactions that the run's record asks for; 0 where it cannot be read."""
    return _number(folder, _DONE_BY, 3, 0)


def _number(folder: Path, pattern: re.Pattern[str], group: int, otherwise: int) -> int:
    """A number in the run's record, whose YAML bbbrun wrote itself: parsing it takes 10 ms, and there may be 1,000."""
    try:
        match = pattern.search((folder / RECORD).read_text("utf-8"))
    except (OSError, ValueError):
        match = None
    return int(match[group]) if match else otherwise


def writer(folder: Path) -> dict[str, Any]:
    """Host, process and its parent, and Slurm's number of the job that writes the run; empty where nothing says it."""
    try:
        about: Any = json.loads((folder / WRITER).read_text("utf-8"))
        return {name: about[name] for name in ("host", "process", "parent", "slurm")}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _writer(folder: Path) -> str:
    """Where the run is being written: host and process, and Slurm's number of the job."""
    about = writer(folder)
    slurm = f", Slurm job {about['slurm']}" if about.get("slurm") else ""
    return f"on {about['host']}, process {about['process']}{slurm}" if about else ""


def counted(standings: Iterable[Standing]) -> str:
    """How many runs are in each state, without states that none is in."""
    numbers = Counter(each.state for each in standings)
    return ", ".join(f"{numbers[state]} {state}" for state in STATES if numbers[state])


def seconds_left(standings: Collection[Standing]) -> float | None:
    """About how long the runs take that are not finished and have not failed, as many at once as now; None if unknown.

    One that has not begun takes as long as the others do on average.
    """
    unfinished = [each for each in standings if each.state not in ("finished", "failed")]
    whole = [each.seconds / each.done for each in standings if each.done > 0]
    if not whole:
        return None if unfinished else 0.0
    mean = sum(whole) / len(whole)
    rest = sum(mean if each.seconds_left is None else each.seconds_left for each in unfinished)
    return rest / max(1, sum(each.state == "running" for each in standings))


def duration(seconds: float | None) -> str:
    """A time as a user reads it: 12 s, 3.4 min, 2.1 h."""
    if seconds is None:
        return "?"
    for size, unit in ((3600, "h"), (60, "min")):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"
