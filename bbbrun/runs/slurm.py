"""Slurm's queue: which jobs of a sweep are in it, whichever process submitted them."""

import getpass
import json
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from bbbrun.runs.files import write_atomically

SUBMITTED = ".submitit"  # in a sweep's folder; below it a folder for each submission, and there one for each job
_JOBS = "jobs.json"  # the jobs of a submission, in the order of Slurm's array


def submission(sweep: Path, jobs: Sequence[str]) -> str:
    """submitit's folder for a new submission of these jobs, with %j in place of Slurm's number of each job."""
    folder = sweep / SUBMITTED / f"{datetime.now():%Y-%m-%d_%H%M%S_%f}"
    folder.mkdir(parents=True)
    write_atomically(folder / _JOBS, json.dumps(list(jobs)).encode())
    return str(folder / "%j")


def slurm_number(environment: Mapping[str, str]) -> str | None:
    """The number of the Slurm job whose environment this is, as squeue and scancel have it: 12_3 in an array."""
    array, place = (environment.get(f"SLURM_ARRAY_{name}_ID") for name in ("JOB", "TASK"))
    return f"{array}_{place}" if array and place else environment.get("SLURM_JOB_ID")


def queued(sweep: Path) -> dict[str, str]:
    """Slurm's numbers of the sweep's jobs in its queue, by their folders; none where Slurm is not installed.

    submitit submits an array, whose jobs have the numbers 12_0, 12_1, ...
    """
    submitted = {path.name: path.parent for path in sweep.glob(f"{SUBMITTED}/*/*_*") if path.is_dir()}
    if not submitted or shutil.which("squeue") is None:
        return {}
    command = ["squeue", "--noheader", "--array", "--user", getpass.getuser(), "--format=%i"]
    try:
        numbers = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout.split()
    except (OSError, subprocess.SubprocessError):
        return {}
    queue = {}
    arrays = {name.partition("_")[0]: folder for name, folder in submitted.items()}
    for number in numbers:
        array, _, index = number.partition("_")
        # submitit makes the folders of an array's jobs after it has submitted them.
        if array in arrays and re.fullmatch(r"\d+", index):
            queue[_jobs(arrays[array])[int(index)]] = number
    return queue


def _jobs(folder: Path) -> Any:
    return json.loads((folder / _JOBS).read_text("utf-8"))
