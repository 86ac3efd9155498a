"""The run on disk that fulfils a job, how long the rest of it takes, and its record."""

import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path

from bbbrun.runs.files import CHECKPOINT, FIGURES, LOG, SUMMARY
from bbbrun.runs.identity import differing_on_resume, setting
from bbbrun.runs.jobs import Job
from bbbrun.runs.on_disk import RunOnDisk


def match(job: Job, runs: Iterable[RunOnDisk]) -> RunOnDisk | None:
    """The job's last finished run; else one in progress; else the furthest that it can resume; else None."""
    candidates = [
        run
        for run in runs
        if setting(run.config) == setting(job.config)
        and run.config["seed"] == job.config["seed"]
        and (run.finished or not differing_on_resume(run.config, job.config))
    ]
    return max(reversed(candidates), key=lambda run: (run.finished, run.in_progress, run.done), default=None)


def expected_seconds(job: Job, own: RunOnDisk | None, runs: Iterable[RunOnDisk]) -> float | None:
    """About how long the rest of the job takes: at the rate of its own run so far, else of another seed's run.

    None where neither has been timed. own: the job's run.
    """
    same_setting = [run for run in runs if run.done > 0 and setting(run.config) == setting(job.config)]
    source = own if own is not None and own.done > 0 else next(iter(same_setting), None)
    return None if source is None else (1 - (own.done if own else 0)) * source.seconds / source.done


def copy_record(run: Path, runs: Path, records: Path) -> None:
    """Copy the finished run in the folder `run` from `runs` into `records`, without weights and figures, unless there.

    Raises FileExistsError where something else has the record's name.
    """
    record = records / run.relative_to(runs)
    if _same_run(run, record):
        return
    if record.exists():
        raise FileExistsError(f"{record} is something else: move it away")
    record.parent.mkdir(parents=True, exist_ok=True)
    # Copied whole or not at all: a half copy must not count as a run. hydra.yaml and the log hold this machine's paths.
    with tempfile.TemporaryDirectory(dir=records.parent) as partial:
        copy = Path(partial) / record.name
        shutil.copytree(run, copy, ignore=shutil.ignore_patterns(CHECKPOINT, FIGURES, LOG, "hydra.yaml"))
        try:
            copy.rename(record)
        except OSError:
            if not _same_run(run, record):  # else another process was first
                raise


def _same_run(run: Path, record: Path) -> bool:
    summary = record / SUMMARY
    return summary.is_file() and summary.read_bytes() == (run / SUMMARY).read_bytes()
