"""The files in a run's folder: their names, and the lock that keeps other processes from writing them."""

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
    """Lock a run's folder by its open metrics.csv until that is closed; False where another process has the lock."""
    if fcntl is not None:
        try:
            fcntl.flock(metrics, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except OSError:
            return False
    return True


def in_use(folder: Path) -> bool:
    """Whether another process is writing the run in `folder`."""
    try:
        # Shared: two readers that ask at the same time must not take each other for the writer.
        with (folder / METRICS).open() as file:
            return not lock(file, shared=True)
    except FileNotFoundError:
        return False


def named_folder(word: str) -> Path:
    """The argument type of a folder; raises ArgumentTypeError for an empty word, which an unset variable gives."""
    if not word:
        raise ArgumentTypeError("the name of a folder, not an empty word")
    return Path(word)
