"""MNIST: found or downloaded with torchvision's checksums and mirrors, verified, and read without unpacking.

torchvision's own loader checks only what it downloads, and needs a writable folder to unpack in; this one
checks every file it reads, packed or not, and never writes where nothing is missing.
"""

import gzip
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torchvision.datasets import MNIST

from bbbrun.data.download import Checksum, data_root, read_verified

_UNPACKED_MD5 = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}


def load_mnist(root: str | None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Training pixels uint8 (60000, 28, 28) and labels uint8 (60000,), then the test set's 10,000.

    `root` is the folder that holds MNIST/raw; None means $BBBRUN_DATA or else the user's cache folder, into
    which missing files are downloaded. Raises UserError naming the file that is missing, corrupt or unreachable.
    """
    raw = data_root(root, "MNIST/raw") / "MNIST" / "raw"
    contents = [_read(raw, archive, md5) for archive, md5 in MNIST.resources]
    train_x, train_y, test_x, test_y = contents
    return _images(train_x), _labels(train_y), _images(test_x), _labels(test_y)


def _read(raw: Path, archive: str, md5: str) -> bytes:
    unpacked = raw / archive.removesuffix(".gz")
    if unpacked.exists():
        return read_verified(unpacked, Checksum("md5", _UNPACKED_MD5[unpacked.name]), [])
    # The mirror that still answers first.
    mirrors = sorted(MNIST.mirrors, key=lambda mirror: "lecun" in mirror)
    return gzip.decompress(read_verified(raw / archive, Checksum("md5", md5), [mirror + archive for mirror in mirrors]))


def _images(content: bytes) -> Tensor:
    return torch.from_numpy(np.frombuffer(content, np.uint8, offset=16).reshape(-1, 28, 28).copy())


def _labels(content: bytes) -> Tensor:
    return torch.from_numpy(np.frombuffer(content, np.uint8, offset=8).copy())
