"""Published data files: found in a folder or downloaded into it, and read only when their checksum is right."""

import hashlib
import os
import socket
import tempfile
import zipfile
from collections.abc import Sequence
from http.client import HTTPException
from pathlib import Path
from typing import NamedTuple

from torchvision.datasets.utils import download_url

from bbbrun.errors import UserError

_TIMEOUT_SECONDS = 30.0


class Checksum(NamedTuple):
    """A hexadecimal digest by one of hashlib's algorithms."""

    algorithm: str
    digest: str

    def matches(self, content: bytes) -> bool:
        return hashlib.new(self.algorithm, content, usedforsecurity=False).hexdigest() == self.digest

    def named(self) -> str:
        return f"{self.algorithm.upper()} {self.digest}"


def data_root(root: str | None, holds: str) -> Path:
    """The folder of the data: `root`, else $BBBRUN_DATA, else one in the user's cache that need not exist yet.

    holds: what the folder holds, for the UserError that a folder which does not exist raises.
    """
    for key, value in (("dataset.root", root), ("BBBRUN_DATA", os.environ.get("BBBRUN_DATA"))):
        if value:
            if not Path(value).is_dir():
                raise UserError(
                    f"{key}: there is no folder {value}; name the one that holds {holds}, or leave it out to download"
                )
            return Path(value)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "bbbrun"


def read_verified(path: Path, checksum: Checksum, urls: Sequence[str]) -> bytes:
    """The content of `path`, which is downloaded first, from the first of `urls` that has it, where it is missing.

    A URL gives the file itself or a zip archive that holds it.
    Raises UserError naming the file that is corrupt, unreachable, or cannot be read or written.
    """
    try:
        if not path.exists():
            _download(path, checksum, urls)
        content = path.read_bytes()
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read or written ({error.strerror or error}); check its permissions"
        ) from error
    if not checksum.matches(content):
        raise UserError(
            f"{path} is corrupt or cut short (it should have {checksum.named()}): delete it to have it downloaded again"
        )
    return content


def _download(path: Path, checksum: Checksum, urls: Sequence[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # A limit on waiting for a server that does not answer.
    timeout = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_TIMEOUT_SECONDS)
    reasons = []
    try:
        for url in urls:
            # Whole and checked before it takes its name: a download that is cut short leaves nothing behind.
            with tempfile.TemporaryDirectory(dir=path.parent, prefix="download-") as folder:
                try:
                    content = _fetch(url, Path(folder), path.name)
                except (RuntimeError, OSError, HTTPException, zipfile.BadZipFile, KeyError) as error:
                    reasons.append(str(error))
                    continue
                if not checksum.matches(content):
                    reasons.append(f"{url} has other content than {checksum.named()}")
                    continue
                whole = Path(folder) / path.name
                whole.write_bytes(content)
                whole.replace(path)
                return
    finally:
        socket.setdefaulttimeout(timeout)
    raise UserError(
        f"{path} is missing and could not be downloaded ({'; '.join(dict.fromkeys(reasons))}): connect to the "
        "network, put the published file there, or name a folder that has it as dataset.root or $BBBRUN_DATA"
    )


def _fetch(url: str, folder: Path, name: str) -> bytes:
    fetched = folder / "fetched"
    download_url(url, folder, fetched.name)
    if not zipfile.is_zipfile(fetched):
        return fetched.read_bytes()
    with zipfile.ZipFile(fetched) as archive:
        return archive.read(name)
