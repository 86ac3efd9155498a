"""Images that a network never learnt: Fashion-MNIST's and Kuzushiji-MNIST's test images, and noise."""

import gzip
import hashlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torchvision.datasets import KMNIST, MNIST, FashionMNIST

from bbbrun.data.download import Checksum, data_root, read_verified
from bbbrun.errors import UserError

_ARCHIVE = "t10k-images-idx3-ubyte.gz"
_HEADER = 16  # bytes before the pixels


class _Published(NamedTuple):
    """Where a set is published, and the MD5 of its unpacked images, where it is known: some copies are packed anew."""

    source: type[MNIST]
    unpacked_md5: str | None


_SETS = {
    "fashion": _Published(FashionMNIST, "8181f5470baa50b63fa0f6fddb340f0a"),
    "kmnist": _Published(KMNIST, None),
}


def foreign_images(name: str, root: str | None) -> NDArray[np.uint8]:
    """The 10,000 test images of `fashion` or `kmnist`, (10000, 28, 28), from FashionMNIST/raw or KMNIST/raw in `root`.

    root: as of `data_root`. A missing file is downloaded. Raises UserError where it is corrupt or unreachable.
    """
    source, unpacked_md5 = _SETS[name]
    raw = data_root(root, f"{source.__name__}/raw") / source.__name__ / "raw"
    content = _unpacked(raw, source, unpacked_md5)
    return np.frombuffer(content, np.uint8, offset=_HEADER).reshape(-1, 28, 28)


def _unpacked(raw: Path, source: type[MNIST], md5: str | None) -> bytes:
    archive, plain = raw / _ARCHIVE, raw / _ARCHIVE.removesuffix(".gz")
    if md5 and plain.exists():
        return read_verified(plain, Checksum("md5", md5), [])
    if md5 and archive.exists():
        try:
            content = gzip.decompress(archive.read_bytes())
        except (EOFError, gzip.BadGzipFile) as error:
            raise UserError(f"{archive} is corrupt or cut short: delete it to have it downloaded again") from error
        if hashlib.md5(content, usedforsecurity=False).hexdigest() != md5:
            raise UserError(f"{archive} is corrupt (unpacked it should have MD5 {md5}): delete it")
        return content
    packed = Checksum("md5", dict(source.resources)[_ARCHIVE])
    return gzip.decompress(read_verified(archive, packed, [mirror + _ARCHIVE for mirror in source.mirrors]))


def noise_images(rows: int, size: tuple[int, int], brightest: float) -> NDArray[np.float32]:
    """Images (rows, H, W) of independent pixels, uniform on 0 .. brightest; the same ones at each call."""
    return np.random.default_rng(0).uniform(0, brightest, (rows, *size)).astype(np.float32)
