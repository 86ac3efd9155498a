"""Published data files: found in a folder, or downloaded into the cache, and read only if their digest is right."""

import hashlib
import os
import socket
import tempfile
import zipfile
from collections.abc import Sequence
from http.client import HTTPException
from pathlib import Path
from typing import NamedTuple, Protocol

from bbbrun.errors import UserError
from bbbrun.runtime.places import cache_folder

_TIMEOUT_SECONDS = 30.0


class Checksum(NamedTuple):
    """A hexadecimal digest by one of hashlib's algorithms."""

    algorithm: str
    digest: str

    def matches(self, content: bytes) -> bool:
        return self.of(content) == self.named()

    def of(self, content: bytes) -> str:
        """The same algorithm's digest of `content`, with its name."""
        return f"{self.algorithm.upper()} {hashlib.new(self.algorithm, content, usedforsecurity=False).hexdigest()}"

    def named(self) -> str:
        return f"{self.algorithm.upper()} {self.digest}"


class Digest(Protocol):
    """The contract of a digest, such as Checksum, which decides whether a file is the published one."""

    def matches(self, content: bytes) -> bool:
        """Whether this is the content of the published file."""

    def of(self, content: bytes) -> str:
        """The digest of `content`, for a message."""

    def named(self) -> str:
        """The digest that was expected, for a message."""


class DataFolder(NamedTuple):
    """The folder of a data set's files. ours: it is the user's cache, the only folder to which files are downloaded."""

    path: Path
    ours: bool


def data_root(root: str | None, holds: str) -> DataFolder:
    """The folder of the data: `root`, else $BBBRUN_DATA, else one in the user's cache that need not exist yet.

    holds: the folder's expected content, for the UserError of a missing folder.
    """
    for key, value in (("dataset.root", root), ("BBBRUN_DATA", os.environ.get("BBBRUN_DATA"))):
        if value:
            path = Path(value).expanduser()
            if not path.is_dir():
                raise UserError(
                    f"{key}: there is no folder {value}; name the one that holds {holds}, or leave it out to download"
                )
            return DataFolder(path, ours=False)
    return DataFolder(cache_folder() / "bbbrun", ours=True)


def file_in(root: DataFolder, folders: Sequence[str], names: Sequence[str]) -> Path:
    """The first of `names` that is in the first of `folders` below the root; else the last name in the first folder.

    A user may name the data set's own folder or its parent: "." is the root itself.
    """
    paths = [root.path / folder / name for folder in folders for name in names]
    return next((path for path in paths if path.exists()), root.path / folders[0] / names[-1])


def read_verified(path: Path, checksum: Digest, urls: Sequence[str], *, ours: bool) -> bytes:
    """The content of `path`. If it is missing and `ours`, it is downloaded first, from the first of `urls` that has it.

    A URL gives the file itself or a zip archive that holds it.
    Raises UserError naming a file that is not the published one, is missing, or cannot be reached, read or written.
    """
    try:
        if not path.exists():
            if not ours:
                raise UserError(
                    f"{path} is missing, and nothing is downloaded into a folder that you named: put the published "
                    "file there, name another folder as dataset.root or $BBBRUN_DATA, or leave both out to download "
                    "into the cache folder"
                )
            _download(path, checksum, urls)
        content = path.read_bytes()
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read or written ({error.strerror or error}); check its permissions"
        ) from error
    if not checksum.matches(content):
        remedy = (
            "move it away to have it downloaded again"
            if ours
            else "name another folder as dataset.root or $BBBRUN_DATA"
        )
        raise UserError(
            f"{path} is not the published file of this name: it is another data set's, changed, or cut short "
            f"({checksum.of(content)} in place of {checksum.named()}); {remedy}"
        )
    return content


def _download(path: Path, checksum: Digest, urls: Sequence[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # A limit on the wait for a server that does not answer.
    timeout = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_TIMEOUT_SECONDS)
    reasons = []
    try:
        for url in urls:
            # Checked before it gets its name, so that an interrupted download leaves no file.
            with tempfile.TemporaryDirectory(dir=path.parent, prefix="download-") as folder:
                try:
                    content = _fetch(url, Path(folder), path.name)
                except (RuntimeError, OSError, HTTPException, zipfile.BadZipFile, KeyError) as error:
                    reasons.append(str(error))
                    continue
                if not checksum.matches(content):
                    reasons.append(f"{url} has other content than {checksum.named()}")
                    continue
                verified = Path(folder) / path.name
                verified.write_bytes(content)
                verified.replace(path)
                return
    finally:
        socket.setdefaulttimeout(timeout)
    raise UserError(
        f"{path} is missing and could not be downloaded ({'; '.join(dict.fromkeys(reasons))}): connect to the "
        "network, put the published file there, or name a folder that has it as dataset.root or $BBBRUN_DATA"
    )


def download_url(url: str, folder: Path, name: str) -> None:
    """The file at `url`, as `name` in `folder`; raises what torchvision's downloader does."""
    from torchvision.datasets import utils  # here, since torchvision loads torch's compiler

    utils.download_url(url, folder, name)


def _fetch(url: str, folder: Path, name: str) -> bytes:
    fetched = folder / "fetched"
    download_url(url, folder, fetched.name)
    if not zipfile.is_zipfile(fetched):
        return fetched.read_bytes()
    with zipfile.ZipFile(fetched) as archive:
        return archive.read(name)
