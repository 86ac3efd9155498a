"""Writes a run's folder: rows flushed one by one, checkpoints replaced atomically, the summary last."""

import csv
import io
import json
import os
import socket
from pathlib import Path
from typing import IO, Any

import pandas as pd

from bbbrun.errors import RunInUse, UserError
from bbbrun.runs import checkpoints
from bbbrun.runs.files import (
    CHECKPOINT,
    ERROR,
    INPUTS,
    METRICS,
    PREDICTIONS,
    RECORD,
    SUMMARY,
    WRITER,
    lock,
    naming,
    write_atomically,
)
from bbbrun.runs.record import MOST_INPUTS
from bbbrun.runs.slurm import slurm_number


def keep_record(folder: Path, record: dict[str, str]) -> None:
    """Write the record, texts by file name, into .hydra, unless the folder has a complete one already."""
    # config.yaml comes last: if it exists, the others do.
    if not (folder / RECORD).exists():
        (folder / RECORD).parent.mkdir(exist_ok=True)
        for name in sorted(record, key=lambda name: name == RECORD.name):
            write_atomically(folder / RECORD.parent / name, record[name].encode())


_CHECKPOINT_KEYS = {"step", "seconds", "timed_steps", "timed_seconds", "metrics", "tensors", "rows"}


class RunFolder:
    """The folder of one run, locked by one process: .hydra/, metrics.csv, checkpoint.pt, summary.json, figures/.

    A run on images or of a regression has predictions.csv too. record: the files of .hydra of a new run, texts by file
    name. shared: the parent folder of replicas, with their common checkpoint. Opening the folder of an interrupted run
    cuts metrics.csv back to the rows that its checkpoint covers; `rows` counts them. Raises RunInUse where another
    process has the lock, UserError where a file is damaged.
    """

    def __init__(self, path: Path, columns: list[str], record: dict[str, str], shared: Path | None = None) -> None:
        self.path, self._shared = path, shared or path
        path.mkdir(exist_ok=True)
        self._columns = columns
        self._file = self._locked()
        try:
            # First, so that a run killed from here on can be resumed.
            keep_record(path, record)
            writer = {"host": socket.gethostname(), "process": os.getpid(), "parent": os.getppid()}
            writer |= {"slurm": slurm_number(os.environ)}
            with naming(path / WRITER):
                (path / WRITER).write_text(json.dumps(writer), "utf-8")
            self.checkpoint = checkpoints.last_good_checkpoint(self._shared, _CHECKPOINT_KEYS)
            with naming(path / METRICS):
                self.rows = self._cut()
        except BaseException:
            self._file.close()
            raise

    @property
    def shares_checkpoint(self) -> bool:
        """Whether the run is one of several replicas."""
        return self._shared != self.path

    def _locked(self) -> IO[str]:
        file = (self.path / METRICS).open("a+", newline="", encoding="utf-8")
        if not lock(file):
            file.close()
            raise RunInUse(f"{self.path} is being written by another process: wait for it, or stop it")
        return file

    def _cut(self) -> int:
        """Cut metrics.csv back to its header and the rows that the checkpoint covers; return how many these are."""
        path = self.path / METRICS
        header = ",".join(self._columns) + "\n"
        step, count = (self.checkpoint["step"], self.checkpoint["rows"]) if self.checkpoint else (-1, 0)
        # An epoch that a stop interrupted has no row yet.
        step -= self.checkpoint.get("within", 0) if self.checkpoint else 0
        self._file.seek(0)
        try:
            lines = self._file.read().splitlines(keepends=True)
            # A line without its newline is torn. A row past the checkpoint will be written again.
            whole = [line for line in lines[1:] if line.endswith("\n")]
            covered = [line for line in whole if self._step(line) <= step]
        except (ValueError, IndexError, StopIteration) as error:
            raise UserError(f"{path} is damaged: it cannot be continued") from error
        foreign = bool(lines) and lines[0].endswith("\n") and lines[0] != header
        if foreign or len(covered) != count or lines[1 : 1 + count] != covered:
            raise UserError(f"{path} does not hold the rows that {CHECKPOINT} covers: it cannot be continued")
        if lines != [header, *covered]:
            # In place, under the lock: cut rows will be written again, so a kill here loses nothing.
            self._file.truncate(len("".join(covered)) + len(header) if lines[:1] == [header] else 0)
            if lines[:1] != [header]:
                self._file.write(header)
            self._file.flush()
            os.fsync(self._file.fileno())
        return len(covered)

    def _step(self, line: str) -> int:
        return int(next(csv.reader([line]))[self._columns.index("step")])

    def keep_inputs(self, text: str) -> None:
        """Write inputs.json, a JSON object, unless a resumed run has it already.

        Raises UserError where the existing one was made from other files (`files` has their digests) or other rows.
        """
        path = self.path / INPUTS
        if not path.exists():
            if len(text) > MOST_INPUTS:
                raise UserError(f"what was done to the table's columns takes {len(text)} bytes, beyond {MOST_INPUTS}")
            write_atomically(path, text.encode())
            return
        recorded, current = json.loads(path.read_text("utf-8")), json.loads(text)
        if any(recorded.get(key) != current[key] for key in ("files", "rows")):
            raise UserError(f"the data have changed since the run in {self.path} began: it cannot be continued")

    def append(self, row: dict[str, Any]) -> None:
        """Append one row and flush it to the disk. Columns that the row lacks stay empty."""
        text = io.StringIO()
        csv.DictWriter(text, self._columns, lineterminator="\n").writerow(row)
        with naming(self.path / METRICS):
            self._file.write(text.getvalue())
            self._file.flush()
            os.fsync(self._file.fileno())
        self.rows += 1

    def save_checkpoint(self, state: dict[str, Any], own: bool = False) -> None:
        """Replace checkpoint.pt by `state`: tensors, numbers, strings and containers of them, by _CHECKPOINT_KEYS.

        own: write to the run's own folder, as for a replica whose training is done, not to the shared one.
        """
        checkpoints.save_checkpoint(self.path if own else self._shared, state | {"rows": self.rows})

    def save_predictions(self, table: pd.DataFrame) -> None:
        """Write predictions.csv."""
        write_atomically(self.path / PREDICTIONS, table.to_csv(index=False, lineterminator="\n").encode())

    def finish(self, summary: dict[str, Any]) -> None:
        """Write summary.json, whose presence means that the run is finished."""
        checkpoints.remove_checkpoints(self.path, newest=False)
        write_atomically(self.path / SUMMARY, (json.dumps(summary, indent=2) + "\n").encode())

    def fail(self, text: str) -> None:
        """Write error.txt, which means that the run has ended without results."""
        write_atomically(self.path / ERROR, f"{text}\n".encode())

    def close(self) -> None:
        """Release the lock."""
        (self.path / WRITER).unlink(missing_ok=True)
        with naming(self.path / METRICS):
            self._file.close()
