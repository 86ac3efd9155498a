"""Slurm's queue: which jobs of a sweep are in it, whichever process submitted them."""

import json
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from bbbrun.errors import UserError
from bbbrun.runs.files import alone, lock, write_atomically

SUBMITTED = ".submitit"  # in a sweep's folder; below it a folder for each submission, and there one for each job
_JOBS = "jobs.json"  # the jobs of a submission, in the order of Slurm's array
_PATIENCE = 120.0  # s; a process looks at the queue while it has the lock


class Submission:
    """A new submission of these jobs. While it is open, other processes take its jobs for submitted.

    folder: submitit's, with %j in place of Slurm's number of each job.
    """

    def __init__(self, sweep: Path, jobs: Sequence[str]) -> None:
        folder = sweep / SUBMITTED / f"{datetime.now():%Y-%m-%d_%H%M%S_%f}"
        folder.mkdir(parents=True)
        write_atomically(folder / _JOBS, json.dumps(list(jobs)).encode())
        self.folder = str(folder / "%j")
        self._file = (folder / _JOBS).open("a")
        lock(self._file)

    def close(self) -> None:
        """End the lock; Slurm's queue has the jobs by then, or the submission failed."""
        self._file.close()


@contextmanager
def submitting(sweep: Path) -> Iterator[None]:
    """Look at the queue and make a Submission meanwhile: one process at a time, so that none submits a job twice."""
    (sweep / SUBMITTED).mkdir(parents=True, exist_ok=True)
    with alone(sweep / SUBMITTED / "submit.lock", _PATIENCE):
        yield


def slurm_number(environment: Mapping[str, str]) -> str | None:
    """The number of the Slurm job whose environment this is, as squeue and scancel have it: 12_3 in an array."""
    array, place = (environment.get(f"SLURM_ARRAY_{name}_ID") for name in ("JOB", "TASK"))
    return f"{array}_{place}" if array and place else environment.get("SLURM_JOB_ID")


def queued(sweep: Path) -> dict[str, str]:
    """Slurm's numbers of the sweep's jobs in its queue, by their folders; none where Slurm is not installed.

    The jobs of an array have the numbers 12_0, 12_1, ...; a single job is no array. Raises UserError where Slurm does
    not answer.
    """
    submissions = {path.parent.name: path for path in sweep.glob(f"{SUBMITTED}/*/{_JOBS}")}
    if not submissions or shutil.which("squeue") is None:
        return {}
    command = ["squeue", "--noheader", "--array", "--me", "--format=%i %o"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    except (OSError, subprocess.SubprocessError) as error:
        output = getattr(error, "stderr", None) or str(error)
        # After a timeout it is bytes whatever was asked for.
        reason = " ".join((output.decode(errors="replace") if isinstance(output, bytes) else output).split())
        raise UserError(
            f"Slurm's queue, in which jobs of {sweep} may be, is unknown ({reason}); if it has none of them, delete "
            f"{sweep / SUBMITTED}"
        ) from error
    queue = {}
    for line in answer.splitlines():
        # submitit's script lies in the submission's folder. Slurm has its path as soon as it has the jobs.
        number, _, script = line.partition(" ")
        _, _, index = number.partition("_")
        path = submissions.get(Path(script).parent.name)
        if path is not None and (index.isdigit() or not index):
            queue[_jobs(path)[int(index or 0)]] = number
    return queue


def being_submitted(sweep: Path) -> set[str]:
    """The folders of jobs that a process is submitting, of which Slurm may not know yet."""
    jobs: set[str] = set()
    for path in sweep.glob(f"{SUBMITTED}/*/{_JOBS}"):
        if any(other.is_dir() for other in path.parent.iterdir()):
            continue  # submitit makes the folders of jobs once they are in the queue
        with path.open() as file:
            if not lock(file, shared=True):
                jobs.update(_jobs(path))
    return jobs


def _jobs(path: Path) -> list[str]:
    folders: list[str] = json.loads(path.read_text("utf-8"))
    return folders
