"""Folders for the caches of libraries, for a user without a writable home folder."""

import os
import tempfile
import warnings
from pathlib import Path

# Variables that torch's compiler, Triton and matplotlib read, and the folder of each below that of the caches.
_CACHES = {"TORCHINDUCTOR_CACHE_DIR": "torchinductor", "TRITON_CACHE_DIR": "triton", "MPLCONFIGDIR": "matplotlib"}


def cache_folder() -> Path:
    """The user's cache folder, which need not exist yet: $XDG_CACHE_HOME, ~/.cache, or one for temporary files.

    The last is used without a writable home folder, as for the user ids of containers.
    """
    named = os.environ.get("XDG_CACHE_HOME")
    if named:
        return Path(named)
    try:
        home = Path.home() / ".cache"
    except RuntimeError:
        return _temporary()
    return home if _writable(home) else _temporary()


def settle() -> None:
    """Give libraries folders for their caches where their own cannot be written: no home folder, or a misnamed one.

    Warns with one line that names the folder. Variables that name a writable folder stay.
    """
    folder = _temporary()
    misnamed = [name for name in _CACHES if name in os.environ and not _writable(Path(os.environ[name]))]
    unnamed = [name for name in _CACHES if name not in os.environ] if cache_folder() == folder else []
    for name in misnamed:
        text = f"{name}={os.environ[name]} is no folder that can be written: this cache goes to {folder}"
        warnings.warn(text, stacklevel=2)
    for name in (*misnamed, *unnamed):
        os.environ[name] = str(folder / _CACHES[name])
    if not unnamed:
        return
    try:
        (folder / _CACHES["MPLCONFIGDIR"]).mkdir(parents=True, exist_ok=True)  # matplotlib needs it to exist
    except OSError as error:
        warnings.warn(f"there is no folder for caches: {folder} cannot be made ({error.strerror})", stacklevel=2)
        return
    warnings.warn(f"there is no home folder that can be written: caches and downloads go to {folder}", stacklevel=2)


def _temporary() -> Path:
    # With the user's id: another user's folder of the same name could not be written.
    return Path(tempfile.gettempdir()) / f"bbbrun-{os.getuid() if hasattr(os, 'getuid') else 'user'}"


def _writable(folder: Path) -> bool:
    """Whether `folder` can be written, or made where it is not there yet."""
    existing = folder
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    return existing.is_dir() and os.access(existing, os.W_OK | os.X_OK)
