"""The progress of a running sweep on standard error: one bar on a terminal, a line for each job elsewhere."""

import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from tqdm import tqdm

from bbbrun.runs.files import LOG
from bbbrun.runs.record import metrics_of
from bbbrun.runs.standing import Standing, counted, duration, seconds_left, standing
from bbbrun.runs.sweep import SweepJob, labels, read_sweep
from bbbrun.sweeps.job import objective_name

_ROUND = 0.5  # s between two looks at the folders


class Watch:
    """Reads the state of a sweep's jobs in a thread of its own, and prints each job's end once, as it happens.

    folder: the sweep's. jobs: those of this call; those that ended earlier are not printed. objective: the metric told
    of a finished job, None for the first of OBJECTIVES that it has.
    """

    def __init__(self, folder: Path, jobs: Sequence[SweepJob], objective: str | None = None) -> None:
        self._folder, self._jobs, self._stream = folder, list(jobs), sys.stderr
        self._objective = objective
        self._labels = labels(read_sweep(folder).jobs)
        self._awaited: set[str] = set()
        self._standings: dict[str, Standing] = {}
        self._finished = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._bar: Any = None

    def __enter__(self) -> "Watch":
        self._bar = tqdm(
            total=len(self._jobs),
            unit="job",
            disable=None,
            dynamic_ncols=True,
            file=self._stream,
            bar_format="{desc}: {percentage:3.0f}%|{bar}| {postfix}",
        )
        self._bar.set_description_str(self._folder.name)
        self._look()
        self._finished = sum(each.state == "finished" for each in self._standings.values())
        self._awaited = {name for name, each in self._standings.items() if each.state not in ("finished", "failed")}
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
        self._look()
        self._bar.close()

    def _run(self) -> None:
        while not self._over.wait(_ROUND):
            self._look()

    def _look(self) -> None:
        for job in self._jobs:
            previous = self._standings.get(job.folder)
            if previous is not None and previous.state == "finished":
                continue
            current = self._standings[job.folder] = standing(self._folder / job.folder)
            if job.folder in self._awaited and current.state in ("finished", "failed"):
                self._awaited.discard(job.folder)
                self._tell(job, current)
        self._show()

    def _tell(self, job: SweepJob, end: Standing) -> None:
        """Print the line of a job that has ended: always if it failed, if it finished only where there is no bar."""
        folder = self._folder / job.folder
        if end.state == "failed":
            self._print(f"bbbrun: error: {end.detail} (job {self._labels[job.folder]}; its log: {folder / LOG})")
            return
        self._finished += 1
        if self._bar.disable:
            result = f"{self._result(folder)}, {duration(end.seconds)}"
            self._print(f"{self._finished}/{len(self._jobs)} finished: {self._labels[job.folder]}{result}")

    def _print(self, text: str) -> None:
        tqdm.write(text, file=self._stream)

    def _show(self) -> None:
        """Move the bar to the jobs' total progress."""
        if self._bar.disable:
            return
        standings = list(self._standings.values())
        self._bar.n = sum(each.done for each in standings)
        self._bar.set_postfix_str(f"{counted(standings)}, {duration(seconds_left(standings))} left")

    def _result(self, folder: Path) -> str:
        """The objective of a finished job and its value, from its summary."""
        metrics = metrics_of(folder)
        name = objective_name(metrics, self._objective)
        return f", {name} {metrics[name]:.5g}" if name else ""
