"""MNIST: found or downloaded with torchvision's checksums and mirrors, verified, and read without unpacking.

torchvision's own loader checks only what it downloads, and needs a writable folder to unpack in; this one
checks every file it reads, packed or not, and never writes where nothing is missing.
"""

import gzip
import hashlib
import os
import socket
import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torchvision.datasets import MNIST
from torchvision.datasets.utils import download_url

from bbbrun.errors import UserError

_UNPACKED_MD5 = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}
_TIMEOUT_SECONDS = 30.0


def load_mnist(root: str | None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Training pixels uint8 (60000, 28, 28) and labels uint8 (60000,), then the test set's 10,000.

    `root` is the folder that holds MNIST/raw; None means $BBBRUN_DATA or else the user's cache folder, into
    which missing files are downloaded. Raises UserError naming the file that is missing, corrupt or unreachable.
    """
    raw = _root(root) / "MNIST" / "raw"
    contents = [_read(raw, archive, md5) for archive, md5 in MNIST.resources]
    train_x, train_y, test_x, test_y = contents
    return _images(train_x), _labels(train_y), _images(test_x), _labels(test_y)


def _root(root: str | None) -> Path:
    for key, value in (("dataset.root", root), ("BBBRUN_DATA", os.environ.get("BBBRUN_DATA"))):
        if value:
            if not Path(value).is_dir():
                raise UserError(
                    f"{key}: there is no folder {value}; name the one that holds MNIST/raw, or leave it out to download"
                )
            return Path(value)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "bbbrun"


def _read(raw: Path, archive: str, md5: str) -> bytes:
    unpacked = raw / archive.removesuffix(".gz")
    try:
        if unpacked.exists():
            return _verified(unpacked, _UNPACKED_MD5[unpacked.name])
        if not (raw / archive).exists():
            _download(raw, archive, md5)
        return gzip.decompress(_verified(raw / archive, md5))
    except OSError as error:
        raise UserError(
            f"{raw / archive}: cannot be read or written ({error.strerror or error}); check its permissions"
        ) from error


def _verified(path: Path, md5: str) -> bytes:
    content = path.read_bytes()
    if hashlib.md5(content, usedforsecurity=False).hexdigest() != md5:
        raise UserError(f"{path} is corrupt or cut short (its MD5 is not {md5}): delete it to have it downloaded again")
    return content


def _download(raw: Path, archive: str, md5: str) -> None:
    raw.mkdir(parents=True, exist_ok=True)
    # The mirror that still answers first, and a limit on waiting for one that does not.
    mirrors = sorted(MNIST.mirrors, key=lambda mirror: "lecun" in mirror)
    timeout = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_TIMEOUT_SECONDS)
    reasons = []
    try:
        # Whole and checked before it takes its name: a download that is cut short leaves nothing behind.
        with tempfile.TemporaryDirectory(dir=raw, prefix="download-") as folder:
            for mirror in mirrors:
                try:
                    download_url(mirror + archive, folder, archive, md5)
                except (RuntimeError, OSError) as error:
                    reasons.append(str(error))
                    continue
                (Path(folder) / archive).replace(raw / archive)
                return
    finally:
        socket.setdefaulttimeout(timeout)
    raise UserError(
        f"{raw / archive} is missing and could not be downloaded ({reasons[0]}): connect to the network, or put the "
        "four published files there, or name their folder as dataset.root or $BBBRUN_DATA"
    )


def _images(content: bytes) -> Tensor:
    return torch.from_numpy(np.frombuffer(content, np.uint8, offset=16).reshape(-1, 28, 28).copy())


def _labels(content: bytes) -> Tensor:
    return torch.from_numpy(np.frombuffer(content, np.uint8, offset=8).copy())
