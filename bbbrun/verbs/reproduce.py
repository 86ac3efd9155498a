"""`bbbrun reproduce`: the paper's experiments as ordinary runs; skips finished ones, resumes interrupted ones."""

import argparse
import shlex
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from hashlib import sha256
from pathlib import Path

from hydra.errors import HydraException

from bbbrun.errors import UserError
from bbbrun.runs.checkpoints import has_checkpoint
from bbbrun.runs.files import RUNS, lock, named_folder
from bbbrun.runs.jobs import Job, seeds_of, wanted
from bbbrun.runs.matching import copy_record, expected_seconds, match
from bbbrun.runs.on_disk import RunOnDisk, runs_on_disk
from bbbrun.runs.slurm import queued
from bbbrun.runs.sweep import enroll, is_sweep, read_sweep, settings
from bbbrun.runtime import stops
from bbbrun.schema.config import composed, require_device
from bbbrun.schema.messages import one_line
from bbbrun.schema.quoting import word
from bbbrun.sweeps.shares import cores, jobs_at_once, threads_each

_SWEEP = RUNS / "reproduce"  # the sweep of all runs that a launcher runs


def main(words: Sequence[str] | None = None) -> None:
    """Run `bbbrun reproduce`; exit code 0 when all its runs are finished, 1 otherwise, 2 for wrong words."""
    parser = argparse.ArgumentParser(
        prog="bbbrun reproduce",
        description="The paper's experiments as ordinary runs. Skips finished ones and resumes interrupted ones.",
    )
    add = parser.add_argument
    text = "tables and figures: table1 figure6, or table1,figure6; or smoke: short runs"
    add("--only", nargs="+", default=[], metavar="ITEM", help=text)
    add("--seeds", help="seeds, joined by commas, in place of those listed")
    add("--device", default="auto", help="as for bbbrun: auto, cpu, cuda or cuda:N")
    add(
        "--records",
        type=named_folder,
        help="a folder whose finished runs count, too; ours are copied into it without their weights",
    )
    text = "how many runs at once, which share the cores; by default one per core, and one where a GPU is used"
    add("--jobs", type=int, metavar="N", help=text)
    text = "give the runs to a launcher of Hydra's: --launcher slurm hydra.launcher.partition=NAME"
    add("--launcher", nargs="+", metavar=("NAME", "SETTING"), help=text)
    add("--list", action="store_true", help="list the missing runs, and run nothing")
    arguments = parser.parse_args(words)
    if arguments.jobs is not None and arguments.jobs < 1:
        parser.error("--jobs takes a whole number of at least 1")
    if arguments.launcher and arguments.jobs:
        parser.error("--jobs has no effect with --launcher: give the launcher's own settings")
    try:
        _require_device(arguments.device)
        seeds = None if arguments.seeds is None else seeds_of(arguments.seeds)
        only = [name for text in arguments.only for name in text.split(",") if name]
        if arguments.only and not only:
            raise UserError(f"--only takes tables and figures, not {' '.join(arguments.only)!r}")
        jobs = wanted(only, seeds)
        if arguments.records:
            _require_folder(arguments.records)
        launcher = _launcher_words(arguments.launcher) if arguments.launcher else []
    except UserError as error:
        parser.error(str(error))
    remaining = _remaining(jobs, arguments.records)
    at_once = min(arguments.jobs or jobs_at_once(arguments.device), max(len(remaining), 1))
    failures: list[str] = []
    if launcher and remaining and not arguments.list:
        failures, remaining = _launched(remaining, launcher, arguments.device), []
    if not arguments.list:
        failures += _run(jobs, remaining, arguments.records, arguments.device, at_once)
    for failure in failures:
        print(failure, file=sys.stderr)
    sys.exit(1 if failures else 0)


def _run(jobs: list[Job], remaining: list[Job], records: Path | None, device: str, at_once: int) -> list[str]:
    """Run the remaining jobs, and copy finished ones into `records`; return a line for each failure."""
    threads = threads_each(cores(), len(remaining), at_once) if at_once > 1 and remaining else []
    shares = {job.words: share for job, share in zip(remaining, threads, strict=False)}
    children: list[subprocess.Popen[str]] = []
    earlier = runs_on_disk(RUNS) if records else []  # once: it reads every run

    def finished(job: Job) -> list[str]:
        failures = []
        if job in remaining and (failure := _finish(job, device, shares.get(job.words), children)):
            failures.append(failure)
        if records:
            run = match(job, runs_on_disk(RUNS) if job in remaining else earlier)
            try:
                if run is not None and run.finished:
                    copy_record(run.folder, RUNS, records)
            except OSError as error:
                failures.append(f"no record of bbbrun {shlex.join(job.words)} in {records}: {error}")
        return failures

    with stops.shown_here(), ThreadPoolExecutor(at_once) as pool:
        futures = [pool.submit(finished, job) for job in jobs]
        try:
            return [failure for future in futures for failure in future.result()]
        except BaseException:
            # The stopped runs save a checkpoint.
            pool.shutdown(wait=False, cancel_futures=True)
            for child in children:
                child.terminate()
            raise


def _launched(jobs: list[Job], launcher: list[str], device: str) -> list[str]:
    """Run these jobs by a launcher, as one sweep, which knows the queued ones; return a line if any fails."""
    from bbbrun.sweeps.command import job_words
    from bbbrun.verbs import train

    words = [[*job_words(job.words), f"device={device}"] for job in jobs]
    # Numbers alone would not tell the records of several machines apart.
    enrolled = enroll(_SWEEP, [], words, lambda _, number: f"{datetime.now():%Y-%m-%d_%H%M%S_%f}_{number}")
    runs = runs_on_disk(RUNS)
    for job, each in zip(jobs, enrolled, strict=True):
        run, folder = match(job, runs), _SWEEP / each.folder
        elsewhere = run is not None and not run.in_progress and run.folder.absolute() != folder.absolute()
        if run is not None and elsewhere and has_checkpoint(run.folder) and not folder.exists():
            print(f"moved, to continue there: {run.folder} -> {folder}", file=sys.stderr)
            run.folder.rename(folder)
    try:
        only = {each.folder for each in enrolled}
        train.main([word("resume", str(_SWEEP)), *launcher], only)
    except SystemExit as end:
        if end.code == stops.CODE:
            raise
        return ["not all runs are finished"] if end.code else []
    return []


def _queued(job: Job) -> str | None:
    """Slurm's number of the job, if it is in the queue."""
    if not is_sweep(_SWEEP):
        return None
    numbers = queued(_SWEEP)
    from bbbrun.sweeps.command import job_words

    key = settings(job_words(job.words))
    jobs = [each for each in read_sweep(_SWEEP).jobs if each.folder in numbers and settings(each.words) == key]
    return numbers[jobs[0].folder] if jobs else None


def _require_folder(records: Path) -> None:
    """Before anything is run: raise UserError where no record could be written."""
    try:
        records.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = error.strerror
        raise UserError(f"--records takes a folder, which may be a new one, not {records} ({reason})") from error


def _require_device(device: str) -> None:
    if device not in ("auto", "cpu"):
        from bbbrun.runtime.device import choose_device  # here, since torch takes seconds to load

        require_device(device)
        choose_device(device)


def _launcher_words(launcher: list[str]) -> list[str]:
    words = [f"hydra/launcher={launcher[0]}", *launcher[1:]]
    try:
        composed(words)
    except HydraException as error:
        raise UserError(f"--launcher: {one_line(error)}") from None
    return words


def _remaining(jobs: list[Job], records: Path | None) -> list[Job]:
    """The jobs without a finished run, here or in `records`; prints them and an estimate of their time."""
    folders = [RUNS, records] if records else [RUNS]
    runs = [run for folder in folders for run in runs_on_disk(folder, warn=True)]
    matches = [(job, match(job, runs)) for job in jobs]
    unfinished = [(job, run) for job, run in matches if run is None or not run.finished]
    times = [expected_seconds(job, run, runs) for job, run in unfinished]
    for (job, run), seconds in zip(unfinished, times, strict=True):
        duration = "never timed" if seconds is None else f"{seconds / 3600:.2f} h"
        note = f" ({_in_progress(run)})" if run is not None and run.in_progress else ""
        print(f"{duration}: bbbrun {shlex.join(job.words)}{note}", file=sys.stderr)
    hours = [seconds / 3600 for seconds in times if seconds is not None]
    untimed = [f"{times.count(None)} never timed"] if None in times else []
    total = ", and ".join(([f"about {sum(hours):.1f} h"] if hours else []) + untimed)
    print(f"{len(unfinished)} of {len(jobs)} runs remain{f': {total}' if total else ''}", file=sys.stderr)
    return [job for job, _ in unfinished]


def _finish(job: Job, device: str, threads: int | None, children: "list[subprocess.Popen[str]]") -> str | None:
    """Run the job, or the rest of it; return the reason why it is not finished, None if it is.

    threads: its share of the cores if several run at once; each line that it prints then begins with its words.
    children: the processes, to which its own is added.
    """
    # A run has its own lock only once it has read its data.
    path = RUNS / f".{sha256(shlex.join(job.words).encode()).hexdigest()[:16]}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        if not lock(file, patience=0):
            return f"skipped: bbbrun {shlex.join(job.words)} (in progress in another process)"
        return _finish_alone(job, device, threads, children)


def _finish_alone(job: Job, device: str, threads: int | None, children: "list[subprocess.Popen[str]]") -> str | None:
    """What `_finish` does, where no other process does it."""
    run = match(job, runs_on_disk(RUNS))
    if run is not None and run.finished:
        return None  # by another process, in the meantime
    words = shlex.join(job.words)
    if run is not None and run.in_progress:
        return f"skipped: bbbrun {words} ({_in_progress(run)})"
    if number := _queued(job):
        return f"skipped: bbbrun {words} (in Slurm's queue as job {number})"
    command = [*job.words, f"device={device}"]
    if threads and job.config["threads"] is None:
        command.append(f"threads={threads}")
    resumed = run.folder if run is not None and has_checkpoint(run.folder) else None
    command += [word("resume", str(resumed))] if resumed else []
    print(f"bbbrun {shlex.join(command)}", file=sys.stderr)
    if stops.is_stopping():
        return None
    pipe = subprocess.PIPE if threads else None
    with subprocess.Popen([sys.executable, "-m", "bbbrun", *command], stderr=pipe, text=True) as child:
        children.append(child)
        if stops.is_stopping():  # since the test above
            child.terminate()
        for line in child.stderr or ():
            print(f"[{' '.join(job.words)}] {line}", end="", file=sys.stderr)
        code = child.wait()
    if code == 0:
        return None
    if run is not None and run.in_progress:
        return f"skipped: bbbrun {words} ({_in_progress(run)})"  # begun elsewhere while this one was starting
    remedy = f"; if it cannot be resumed from {resumed}, delete that folder to start anew" if resumed else ""
    return f"failed: bbbrun {words}{remedy}"


def _in_progress(run: RunOnDisk) -> str:
    return f"in progress in another process, in {run.folder}"
