"""A sweep is a folder: its command lines, and its jobs, each a run in a numbered folder below it."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from bbbrun.errors import UserError, line_of
from bbbrun.runs.files import alone, numbered, write_atomically
from bbbrun.runs.identity import FREE_ON_RESUME

SWEEP = "sweep.json"
_LOCK = "sweep.lock"
_PATIENCE = 60.0  # s; a process has the lock while it writes the list


class SweepJob(NamedTuple):
    """A job of a sweep: the name of its folder below the sweep's, and the settings that are its own."""

    folder: str
    words: tuple[str, ...]


class Sweep(NamedTuple):
    """commands: the flags and settings of each command line, without `-m` and `resume=`. jobs: its jobs."""

    commands: list[list[str]]
    jobs: list[SweepJob]


def labels(jobs: Sequence[SweepJob]) -> dict[str, str]:
    """The label of each job, by its folder: the number, and the settings that not all jobs share."""
    common = set.intersection(*(set(job.words) for job in jobs)) if len(jobs) > 1 else set()
    return {job.folder: " ".join([job.folder, *(text for text in job.words if text not in common)]) for job in jobs}


def is_sweep(folder: Path) -> bool:
    """Whether `folder` is that of a sweep."""
    return (folder / SWEEP).is_file()


def read_sweep(folder: Path) -> Sweep:
    """The sweep in `folder`; raises UserError where there is none, or none that can be read."""
    path = folder / SWEEP
    try:
        content: Any = json.loads(path.read_text("utf-8"))
        jobs = [SweepJob(str(name), tuple(map(str, words))) for name, words in content["jobs"].items()]
        if any(map(_is_elsewhere, jobs)):
            raise ValueError("a job lies elsewhere")
        return Sweep([list(map(str, words)) for words in content["asked"]], jobs)
    except FileNotFoundError:
        raise UserError(f"{folder} is not the folder of a sweep (it has no {SWEEP})") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path} cannot be read: it is not what bbbrun wrote ({line_of(error)[:120]})") from error


def _is_elsewhere(job: SweepJob) -> bool:
    """Whether the job's folder would lie outside of the sweep's."""
    return Path(job.folder).is_absolute() or ".." in Path(job.folder).parts


def enroll(
    folder: Path,
    command: Sequence[str],
    jobs: Sequence[Sequence[str]],
    name: Callable[[Sequence[str], int], str] = lambda words, number: numbered(number),
) -> list[SweepJob]:
    """The jobs of these settings, in their order; new ones are added to the sweep, with the next numbers.

    Two processes at once make one list. command: their command line. name: (settings, number) -> folder.
    Raises UserError where two jobs would share a folder, or one would lie outside of the sweep's.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with alone(folder / _LOCK, _PATIENCE):
        sweep = read_sweep(folder) if is_sweep(folder) else Sweep([], [])
        folders = {job.folder: job for job in sweep.jobs}
        by_settings: dict[frozenset[str], list[SweepJob]] = {}
        for job in sweep.jobs:
            by_settings.setdefault(settings(job.words), []).append(job)
        exact = {frozenset(job.words): job for job in sweep.jobs}
        # Jobs of one call that differ only in where or how they run, as of threads=1,4, are several.
        taken = {exact[key].folder for key in map(frozenset, jobs) if key in exact}
        enrolled = []
        for words in jobs:
            candidates = (each for each in by_settings.get(settings(words), ()) if each.folder not in taken)
            known = exact.get(frozenset(words)) or next(candidates, None)
            if known is not None:
                job = known
            else:
                job = SweepJob(name(words, len(folders)), tuple(words))
                if _is_elsewhere(job):
                    raise UserError(f"hydra.sweep.subdir must be a folder within the sweep's, not {job.folder}")
                if job.folder in folders:
                    raise UserError(
                        f"hydra.sweep.subdir gives two jobs the folder {job.folder}: "
                        f"'{' '.join(folders[job.folder].words)}' and '{' '.join(job.words)}'"
                    )
                folders[job.folder] = job
            exact[frozenset(words)] = job
            taken.add(job.folder)
            enrolled.append(job)
        if list(command) not in sweep.commands:
            sweep.commands.append(list(command))
        content = {"asked": sweep.commands, "jobs": {name: job.words for name, job in folders.items()}}
        write_atomically(folder / SWEEP, (json.dumps(content, indent=1) + "\n").encode())
    return enrolled


def settings(words: Sequence[str]) -> frozenset[str]:
    """The settings by which jobs differ: all but those that decide only where and how a run runs."""
    return frozenset(word for word in words if word.partition("=")[0] not in FREE_ON_RESUME)
