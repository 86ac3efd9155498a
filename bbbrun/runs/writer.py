"""A run's folder: rows flushed as they happen, checkpoints that are whole or absent, a summary written last."""

import csv
import io
import json
import os
from pathlib import Path
from typing import IO, Any

import pandas as pd
import torch

from bbbrun.errors import UserError
from bbbrun.runs.files import CHECKPOINT, METRICS, PREDICTIONS, SUMMARY, lock


def write_atomically(path: Path, content: bytes) -> None:
    """Write to a temporary name beside `path`, then rename: a kill leaves the old file or the new one."""
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def keep_record(folder: Path, record: dict[str, str]) -> None:
    """Keep file names and texts under .hydra, unless the folder has a record already."""
    kept = folder / ".hydra"
    if not kept.exists():
        kept.mkdir()
        for name, text in record.items():
            (kept / name).write_text(text)


_CHECKPOINT_KEYS = {"step", "seconds", "timed_steps", "timed_seconds", "metrics", "tensors", "rows"}


class RunFolder:
    """The folder of one run, held by one process: .hydra/, metrics.csv, checkpoint.pt, summary.json, figures/.

    A task that predicts over a grid has predictions.csv too. A new run keeps `record` (file names and texts)
    under .hydra. Opening an existing folder cuts metrics.csv back to the rows that its checkpoint covers. Replicas
    have one checkpoint for all, in the folder `shared` around theirs. Raises UserError where another process holds
    the folder, or a file in it is damaged.
    """

    def __init__(self, path: Path, columns: list[str], record: dict[str, str], shared: Path | None = None) -> None:
        self.path, self._shared = path, shared or path
        path.mkdir(exist_ok=True)
        self._columns = columns
        self._file = self._locked()
        self.checkpoint = self._load_checkpoint()
        self._rows = self._cut()
        keep_record(path, record)

    @property
    def shares_checkpoint(self) -> bool:
        """Whether it is one of several replicas."""
        return self._shared != self.path

    def _locked(self) -> IO[str]:
        file = (self.path / METRICS).open("a+", newline="")
        if not lock(file):
            file.close()
            raise UserError(f"{self.path} is being written by another process: wait for it, or stop it")
        return file

    def _load_checkpoint(self) -> dict[str, Any] | None:
        path = self._shared / CHECKPOINT
        if not path.exists():
            return None
        try:
            state: Any = torch.load(path, weights_only=True, map_location="cpu")
            if not isinstance(state, dict) or not state.keys() >= _CHECKPOINT_KEYS:
                raise ValueError("it lacks what a checkpoint holds")
        except Exception as error:
            reason = type(error).__name__
            raise UserError(f"{path} is not a checkpoint that can be read ({reason}): start a new run") from error
        return state

    def _cut(self) -> int:
        """Cut metrics.csv back to its header and the rows that the checkpoint covers; return their number."""
        path = self.path / METRICS
        header = ",".join(self._columns) + "\n"
        covered, expected = (self.checkpoint["step"], self.checkpoint["rows"]) if self.checkpoint else (-1, 0)
        self._file.seek(0)
        try:
            lines = self._file.read().splitlines(keepends=True)
            # A line without its end is torn; a row past the checkpoint will be written again.
            whole = [line for line in lines[1:] if line.endswith("\n")]
            kept = [line for line in whole if self._step(line) <= covered]
        except (ValueError, IndexError, StopIteration) as error:
            raise UserError(f"{path} is damaged: it cannot be continued") from error
        foreign = bool(lines) and lines[0].endswith("\n") and lines[0] != header
        if foreign or len(kept) != expected or lines[1 : 1 + expected] != kept:
            raise UserError(f"{path} does not hold the rows that {CHECKPOINT} covers: it cannot be continued")
        if lines != [header, *kept]:
            # In place, under the lock: what is cut will be written again, so a kill here loses nothing.
            self._file.truncate(len("".join(kept)) + len(header) if lines[:1] == [header] else 0)
            if lines[:1] != [header]:
                self._file.write(header)
            self._file.flush()
            os.fsync(self._file.fileno())
        return len(kept)

    def _step(self, line: str) -> int:
        return int(next(csv.reader([line]))[self._columns.index("step")])

    def append(self, row: dict[str, Any]) -> None:
        """Append one row and see it onto the disk; a column that the row lacks stays empty."""
        text = io.StringIO()
        csv.DictWriter(text, self._columns, lineterminator="\n").writerow(row)
        self._file.write(text.getvalue())
        self._file.flush()
        os.fsync(self._file.fileno())
        self._rows += 1

    def save_checkpoint(self, state: dict[str, Any], own: bool = False) -> None:
        """Replace checkpoint.pt; `state` has _CHECKPOINT_KEYS: tensors, numbers, strings, containers of them.

        own: that in the run's own folder, of a replica whose training is done.
        """
        content = io.BytesIO()
        torch.save(state | {"rows": self._rows}, content)
        write_atomically((self.path if own else self._shared) / CHECKPOINT, content.getvalue())

    def save_predictions(self, table: pd.DataFrame) -> None:
        """Write predictions.csv."""
        write_atomically(self.path / PREDICTIONS, table.to_csv(index=False, lineterminator="\n").encode())

    def finish(self, summary: dict[str, Any]) -> None:
        """Write summary.json, whose presence means that the run is finished."""
        write_atomically(self.path / SUMMARY, (json.dumps(summary, indent=2) + "\n").encode())

    def close(self) -> None:
        """Let go of the folder."""
        self._file.close()
