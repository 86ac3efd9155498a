"""The files in a run's folder: their names, and the lock by which one process holds the folder."""

from argparse import ArgumentTypeError
from pathlib import Path
from typing import IO

try:
    import fcntl
except ImportError:  # not a POSIX system: runs go unlocked
    fcntl = None  # type: ignore[assignment]

METRICS, CHECKPOINT, PREDICTIONS, SUMMARY = "metrics.csv", "checkpoint.pt", "predictions.csv", "summary.json"
FIGURES = "figures"


def lock(metrics: IO[str], *, shared: bool = False) -> bool:
    """Hold the folder of an open metrics.csv until that is closed; False where another process does."""
    if fcntl is not None:
        try:
            fcntl.flock(metrics, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except OSError:
            return False
    return True


def held(folder: Path) -> bool:
    """Whether another process is writing the run in `folder`."""
    try:
        # Shared: two that ask at the same time must not take each other for the writer.
        with (folder / METRICS).open() as file:
            return not lock(file, shared=True)
    except FileNotFoundError:
        return False


def named_folder(word: str) -> Path:
    """A folder's name on a command line; raises ArgumentTypeError for an empty word, as of an unset variable."""
    if not word:
        raise ArgumentTypeError("the name of a folder, not an empty word")
    return Path(word)
