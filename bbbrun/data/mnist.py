"""MNIST: found or downloaded with torchvision's checksums and mirrors, verified, and read without unpacking.

torchvision's own loader checks only what it downloads, and needs a writable folder to unpack in; this one
checks every file it reads, packed or not, and never writes where nothing is missing.
"""

import gzip

import numpy as np
import torch
from torch import Tensor
from torchvision.datasets import MNIST

from bbbrun.data.download import Checksum, DataFolder, data_root, file_in, read_verified

_UNPACKED_MD5 = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}


_FOLDERS = ("MNIST/raw", "raw", ".")  # of the root, of the folder MNIST, and of MNIST/raw itself


def load_mnist(root: str | None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Training pixels uint8 (60000, 28, 28) and labels uint8 (60000,), then the test set's 10,000.

    `root` is the folder that holds MNIST/raw, or MNIST, or MNIST/raw itself; None means $BBBRUN_DATA or else the
    user's cache folder, the only one into which missing files are downloaded. Raises UserError naming the file that is
    missing, another one or unreachable.
    """
    folder = data_root(root, "MNIST/raw")
    contents = [_read(folder, archive, md5) for archive, md5 in MNIST.resources]
    train_x, train_y, test_x, test_y = contents
    return _images(train_x), _labels(train_y), _images(test_x), _labels(test_y)


def _read(folder: DataFolder, archive: str, md5: str) -> bytes:
    unpacked = archive.removesuffix(".gz")
    path = file_in(folder, _FOLDERS, (unpacked, archive))
    if path.name == unpacked:
        return read_verified(path, Checksum("md5", _UNPACKED_MD5[unpacked]), [], ours=folder.ours)
    # The mirror that still answers first.
    mirrors = sorted(MNIST.mirrors, key=lambda mirror: "lecun" in mirror)
    urls = [mirror + archive for mirror in mirrors]
    return gzip.decompress(read_verified(path, Checksum("md5", md5), urls, ours=folder.ours))


def _images(content: bytes) -> Tensor:
    return torch.from_numpy(np.frombuffer(content, np.uint8, offset=16).reshape(-1, 28, 28).copy())


def _labels(content: bytes) -> Tensor:
    return torch.from_numpy(np.frombuffer(content, np.uint8, offset=8).copy())
