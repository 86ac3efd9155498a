"""A run's folder: rows flushed as they happen, checkpoints that are whole or absent, a summary written last."""

import csv
import io
import json
import os
from pathlib import Path
from typing import IO, Any

import torch

from bbbrun.errors import UserError

try:
    import fcntl
except ImportError:  # not a POSIX system: runs go unlocked
    fcntl = None  # type: ignore[assignment]

METRICS, CHECKPOINT, SUMMARY = "metrics.csv", "checkpoint.pt", "summary.json"


def write_atomically(path: Path, content: bytes) -> None:
    """Write to a temporary name beside `path`, then rename: a kill leaves the old file or the new one."""
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


class RunFolder:
    """The folder of one run, held by one process: metrics.csv, checkpoint.pt, summary.json, figures/.

    Opening an existing folder cuts metrics.csv back to the rows that its checkpoint covers.
    Raises UserError where another process holds the folder.
    """

    def __init__(self, path: Path, columns: list[str]) -> None:
        self.path = path
        self._columns = columns
        self.checkpoint = self._load_checkpoint()
        self._file = self._open()

    def _load_checkpoint(self) -> dict[str, Any] | None:
        path = self.path / CHECKPOINT
        if not path.exists():
            return None
        try:
            state: dict[str, Any] = torch.load(path, weights_only=True, map_location="cpu")
        except Exception as error:
            raise UserError(
                f"{path} is not a checkpoint that can be read ({type(error).__name__}): delete it to start over"
            ) from error
        return state

    def _open(self) -> IO[str]:
        path = self.path / METRICS
        file = path.open("a+", newline="")
        if fcntl is not None:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise UserError(f"{self.path} is being written by another process: wait for it, or stop it") from error
        file.seek(0)
        lines = file.read().splitlines(keepends=True)
        covered = self.checkpoint["step"] if self.checkpoint else -1
        # A line without its end is torn; a row past the checkpoint will be written again.
        kept = [line for line in lines[1:] if line.endswith("\n") and self._step(line) <= covered]
        header = ",".join(self._columns) + "\n"
        if lines and lines[0].endswith("\n") and lines[0] != header:
            raise UserError(f"{path} has other columns than this version writes: it cannot be continued")
        if lines != [header, *kept]:
            write_atomically(path, "".join([header, *kept]).encode())
            file.close()
            return self._open()
        return file

    def _step(self, line: str) -> int:
        return int(next(csv.reader([line]))[self._columns.index("step")])

    def append(self, row: dict[str, Any]) -> None:
        """Append one row and see it onto the disk; a column that the row lacks stays empty."""
        text = io.StringIO()
        csv.DictWriter(text, self._columns, lineterminator="\n").writerow(row)
        self._file.write(text.getvalue())
        self._file.flush()
        os.fsync(self._file.fileno())

    def save_checkpoint(self, state: dict[str, Any]) -> None:
        """Replace checkpoint.pt; `state` holds tensors, numbers, strings and containers of them, and its `step`."""
        content = io.BytesIO()
        torch.save(state, content)
        write_atomically(self.path / CHECKPOINT, content.getvalue())

    def finish(self, summary: dict[str, Any]) -> None:
        """Write summary.json, whose presence means that the run is finished."""
        write_atomically(self.path / SUMMARY, (json.dumps(summary, indent=2) + "\n").encode())

    def close(self) -> None:
        """Let go of the folder."""
        self._file.close()
