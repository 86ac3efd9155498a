"""A run's clock, its checkpoints and its progress: the same for epochs and for interactions."""

import time
from collections.abc import Callable
from contextlib import nullcontext
from types import TracebackType
from typing import Any, NamedTuple

import torch
from torch import Tensor

from bbbrun.runs.writer import RunFolder
from bbbrun.runtime import stops
from bbbrun.runtime.device import synchronize
from bbbrun.schema.config import Config
from bbbrun.training.progress import Progress
from bbbrun.training.task import Predictions

# Makes the checkpoint that a stop saves; gives None where none must be saved.
MakeCheckpoint = Callable[[], dict[str, Any] | None]


class Outcome(NamedTuple):
    """The results of a training for the summary, and its predictions where the task has some.

    diverged: what is told of a replica that diverged, which has no results; None of any other.
    """

    metrics: dict[str, float]
    seconds: float
    steps_per_second: float | None
    compiled: bool
    predictions: Predictions | None = None
    diverged: str | None = None


class Session:
    """One session of a run, from its start or its checkpoint to its end or its interruption.

    step: steps done before this session. metrics: the last row, which the loop sets. total: all steps.
    more: further entries of the checkpoint from which the run starts. A stop saves what
    `make_checkpoint` returns.
    """

    def __init__(
        self, run: RunFolder, device: torch.device, config: Config, total: int, metrics: Any, **more: Any
    ) -> None:
        self._run, self._device, self._every = run, device, config.train.checkpoint_seconds
        start = {"step": 0, "seconds": 0.0, "timed_steps": 0, "timed_seconds": 0.0, "metrics": metrics} | more
        self.saved: dict[str, Any] = run.checkpoint or start
        self.resumed = run.checkpoint is not None
        self.step: int = self.saved["step"]
        self.progress = Progress(total, self.step, config.name)
        self.metrics: Any = self.saved["metrics"]
        self._timed_steps: int = self.saved["timed_steps"]
        self._timed_seconds: float = self.saved["timed_seconds"]
        self.make_checkpoint: MakeCheckpoint | None = None
        self._start = self._last = time.monotonic()
        self._lap = time.perf_counter()

    def __enter__(self) -> "Session":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        state = self.make_checkpoint() if error is not None and stops.is_stopping() and self.make_checkpoint else None
        if state:
            self._run.save_checkpoint(state)
        self.progress.close()

    def take(self, step: Callable[[], None], settled: bool, make_checkpoint: MakeCheckpoint) -> None:
        """Take a step, which a stop does not interrupt; from then on a stop saves what `make_checkpoint` returns.

        settled: whether nothing compiles in it. Compiling takes long, so a stop may interrupt it; the earlier
        checkpoint then stays.
        """
        if not settled:
            self.make_checkpoint = None
        with stops.whole() if settled else nullcontext():
            step()
            self.make_checkpoint = make_checkpoint

    @property
    def seconds(self) -> float:
        """The run's time so far, s, including earlier sessions."""
        return float(self.saved["seconds"]) + time.monotonic() - self._start

    @property
    def steps_per_second(self) -> float | None:
        """The rate of the timed steps; None where none was timed."""
        return self._timed_steps / self._timed_seconds if self._timed_seconds else None

    def start_lap(self) -> None:
        """Time steps from here on, once the device has finished its queue."""
        synchronize(self._device)
        self._lap = time.perf_counter()

    def end_lap(self, steps: int) -> None:
        """Count as timed the `steps` since `start_lap`, or since the last lap's end."""
        synchronize(self._device)
        end = time.perf_counter()
        if steps > 0:
            self._timed_steps, self._timed_seconds = (
                self._timed_steps + steps,
                self._timed_seconds + end - self._lap,
            )
        self._lap = end

    def checkpoint(self, step: int, tensors: list[Tensor], **more: Any) -> dict[str, Any]:
        """The content of a checkpoint at this step."""
        timed = {"timed_steps": self._timed_steps, "timed_seconds": self._timed_seconds}
        return {"step": step, "seconds": self.seconds, "metrics": self.metrics, "tensors": tensors} | timed | more

    def save(self, step: int, tensors: Callable[[], list[Tensor]], last: bool, **more: Any) -> None:
        """Write a checkpoint if it is the last step, or train.checkpoint_seconds after the previous one."""
        if last or time.monotonic() - self._last >= self._every:
            self._run.save_checkpoint(self.checkpoint(step, tensors(), **more))
            self._last = time.monotonic()
