"""The files in a run's folder: their names, and the lock that keeps other processes from writing them."""

import errno
import os
import re
import time
import warnings
from argparse import ArgumentTypeError
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import yaml

from bbbrun.errors import UserError

try:
    import fcntl
except ImportError:  # not a POSIX system: runs are not locked
    fcntl = None  # type: ignore[assignment]

METRICS, CHECKPOINT, PREDICTIONS, SUMMARY = "metrics.csv", "checkpoint.pt", "predictions.csv", "summary.json"
INPUTS = "inputs.json"  # of a table: how its columns became inputs
FIGURES = "figures"
PREVIOUS = "checkpoint.previous.pt"
WRITER = "writer.json"  # who writes the run; counts only while metrics.csv is locked
LOG, ERROR = "log.txt", "error.txt"  # of a sweep's job: output and error; error.txt also where training diverged
RECORD = Path(".hydra") / "config.yaml"
RUNS = Path("results") / "runs"  # the default folder of runs, below the current one

# s; a reader that only tests the lock has it for less.
_PATIENCE = 0.5
_LOCKED = (errno.EWOULDBLOCK, errno.EAGAIN)
_OPEN = re.compile(r"/dev/(stdout|stderr|fd/\d+)|/proc/self/fd/\d+")  # what the process has open, as files


def numbered(number: int) -> str:
    """The folder of a sweep's job: numbers of equal length, so that they sort by value."""
    return f"{number:04d}"


def lock(metrics: IO[str], *, shared: bool = False, patience: float = _PATIENCE) -> bool:
    """Lock a run's folder by its open metrics.csv until that is closed; False where another process has the lock.

    patience: how long to wait for a lock that is not shared, s. Some network file systems have no locks: there the run
    is not locked, and its writer is warned.
    """
    deadline = time.monotonic() + (0 if shared else patience)
    while fcntl is not None:
        try:
            fcntl.flock(metrics, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in _LOCKED:
                if time.monotonic() >= deadline:
                    return False
                time.sleep(0.02)
                continue
            if not shared:
                warnings.warn(
                    f"{metrics.name} cannot be locked ({error.strerror}): see to it that no other process writes it",
                    stacklevel=2,
                )
        break
    return True


@contextmanager
def alone(path: Path, patience: float) -> Iterator[None]:
    """Lock this file meanwhile; raises UserError where another process has the lock for longer than `patience` s."""
    with naming(path):
        file = path.open("a")
    with file:
        if not lock(file, patience=patience):
            raise UserError(f"{path} is locked by another process for {patience:.0f} s: stop it")
        yield


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Give an OSError that names no file, as of a full disk, the name of `path`."""
    try:
        yield
    except OSError as error:
        if error.filename is not None or error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


@contextmanager
def replacing(path: Path, follow: bool = False) -> Iterator[IO[bytes]]:
    """A temporary file beside `path`, renamed to it at the end, so that a kill leaves the old file or the new one.

    follow: for a file that the user names. Then a link stays one, and the file that it names is replaced; what is no
    regular file, or one that the process has open, is written as it is. A run's own files replace links, which may lead
    anywhere.
    Raises OSError naming `path`, as where the disk is full. On any exception the temporary file is deleted.
    """
    special = path.exists() and not path.is_file() and not path.is_dir()
    if follow and (special or _OPEN.fullmatch(str(path))):
        with naming(path), path.open("ab") as file:
            yield file
        return
    path = Path(os.path.realpath(path)) if follow and path.is_symlink() else path
    # No name that a user's own file would have. It is the same after a kill, so that nothing is left over for good.
    temporary = path.with_name(f".{path.name}.bbbrun.tmp")
    try:
        with naming(path), temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename == str(temporary):
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


def require_not_of_a_run(path: Path, option: str = "--output") -> None:
    """Raise UserError for an output that would replace a file of a run, or fill its folder."""
    place = Path(os.path.realpath(path))  # an output may be written through a link
    folder = place if place.is_dir() else place.parent
    if folder.name in (Path(RECORD).parent.name, FIGURES):
        folder = folder.parent
    own = place.parent != folder or place.name in (
        METRICS,
        CHECKPOINT,
        PREVIOUS,
        PREDICTIONS,
        SUMMARY,
        INPUTS,
        WRITER,
        LOG,
        ERROR,
    )
    if (own or place.is_dir()) and (folder / RECORD).exists():
        raise UserError(f"{option} {path} is {'the folder' if place.is_dir() else 'a file'} of a run: name another")


def write_atomically(path: Path, content: bytes, follow: bool = False) -> None:
    """Replace `path` by a file with this content, as `replacing` does."""
    with replacing(path, follow) as file:
        file.write(content)


def in_use(folder: Path) -> bool:
    """Whether another process is writing the run in `folder`, or is about to as a sweep's job."""
    for name in (METRICS, LOG):
        try:
            # Shared: two readers at the same time must not take each other for the writer.
            with (folder / name).open(encoding="utf-8") as file:
                if not lock(file, shared=True):
                    return True
        except FileNotFoundError:
            continue
    return False


def is_replica(folder: Path) -> bool:
    """Whether the run in `folder` is one of several replicas: the parent folder has their record, and no rows.

    Such a record gives their number; any other `.hydra` in the parent folder is not of this run.
    """
    try:
        parent: Any = yaml.safe_load((folder.parent / RECORD).read_text("utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return False
    return (
        isinstance(parent, dict)
        and parent.get("replicas", 1) not in (1, None)
        and not (folder.parent / METRICS).exists()
    )


def replica_folders(folder: Path) -> list[Path]:
    """The folders of the replicas below `folder`."""
    return sorted(path.parent for path in folder.glob(f"*/{METRICS}"))


def named_folder(word: str) -> Path:
    """The argument type of a folder or file; raises ArgumentTypeError for an empty word, as of an unset variable."""
    if not word:
        raise ArgumentTypeError("a name, not an empty word")
    return Path(word)
