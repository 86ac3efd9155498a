"""Checkpoints: written atomically, checked byte by byte when read; the previous one is kept beside the newest."""

import io
import os
import warnings
import zipfile
from pathlib import Path
from typing import Any

from bbbrun.errors import UserError, line_of
from bbbrun.runs.files import CHECKPOINT, PREVIOUS, write_atomically


def save_checkpoint(folder: Path, state: dict[str, Any]) -> None:
    """Replace checkpoint.pt in `folder` by `state`; the old one stays as checkpoint.previous.pt.

    torch's file is a zip archive with a CRC-32 of each member, which `read_checkpoint` checks.
    """
    import torch  # here, since it takes seconds to load and most readers need no weights

    content = io.BytesIO()
    torch.save(state, content)
    newest, previous = folder / CHECKPOINT, folder / PREVIOUS
    if newest.exists():
        previous.unlink(missing_ok=True)
        try:
            os.link(newest, previous)
        except OSError:  # a file system without hard links
            os.rename(newest, previous)
    write_atomically(newest, content.getvalue())


def remove_checkpoints(folder: Path, *, newest: bool) -> None:
    """Delete the previous checkpoint, which a finished run no longer needs; `newest`: the newest one too."""
    (folder / PREVIOUS).unlink(missing_ok=True)
    if newest:
        (folder / CHECKPOINT).unlink(missing_ok=True)


def has_checkpoint(folder: Path) -> bool:
    """Whether an interrupted run in `folder` can be resumed from a checkpoint."""
    return (folder / CHECKPOINT).exists() or (folder / PREVIOUS).exists()


def read_checkpoint(path: Path) -> Any:
    """The content of the checkpoint `path`, on the CPU; raises ValueError where a checksum differs.

    torch itself does not check them. A file that is no checkpoint raises torch's own errors.
    """
    import torch

    # The bytes that are checked are those that are then read.
    if path.exists() and not path.is_file():
        raise ValueError("it is no regular file")
    content = io.BytesIO(path.read_bytes())
    with zipfile.ZipFile(content) as archive:
        members = archive.infolist()
        # torch stores members uncompressed. A small file of compressed or overlapping ones could fill the memory.
        if any(member.compress_type != zipfile.ZIP_STORED for member in members):
            raise ValueError("its members are compressed")
        if sum(member.file_size for member in members) > len(content.getbuffer()):
            raise ValueError("its members overlap")
        if (damaged := archive.testzip()) is not None:
            raise ValueError(f"the checksum of {damaged} differs")
    content.seek(0)
    return torch.load(content, weights_only=True, map_location="cpu")


def last_good_checkpoint(folder: Path, keys: set[str]) -> dict[str, Any] | None:
    """The newest undamaged checkpoint in `folder` with these keys; None where there is none yet.

    Where that is the previous one it warns, and deletes the damaged file, in whose favour the next checkpoint would
    delete the good one. Raises UserError where all are damaged. For the one process that has the run's lock.
    """
    failure: UserError | None = None
    for path in (folder / CHECKPOINT, folder / PREVIOUS):
        if not path.exists():
            continue
        try:
            state: Any = read_checkpoint(path)
            if not isinstance(state, dict) or not state.keys() >= keys:
                raise ValueError("keys are missing")
        except (OSError, MemoryError):
            raise  # says nothing of the file
        except Exception as error:
            reason = line_of(error)[:120]
            if failure is None:
                failure = UserError(f"{path} is not a checkpoint that can be read ({reason}): start a new run")
                failure.__cause__ = error
            continue
        if failure is not None:
            (folder / CHECKPOINT).unlink()
            warnings.warn(
                f"{folder / CHECKPOINT} is damaged and deleted: the run continues from the checkpoint before it, of "
                f"step {state['step']}",
                stacklevel=2,
            )
        return state
    if failure is not None:
        raise failure
    return None
