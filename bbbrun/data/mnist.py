"""MNIST and the sets in its format, IDX: found or downloaded, verified, and read without unpacking.

torchvision's own loader checks only what it downloads, and needs a writable folder to unpack in. This one checks every
file it reads, packed or not, and never writes where nothing is missing. Names, mirrors and MD5 are torchvision's.
"""

import gzip
import zlib
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torchvision import datasets

from bbbrun.data.download import Checksum, DataFolder, data_root, file_in, read_verified


class Idx(NamedTuple):
    """A set of four files, NAME.gz: images and labels to train on, images and labels to test with.

    unpacked: the checksums of NAME, in the same order; () where none is published, so that an unpacked NAME is ignored.
    """

    source: type[datasets.MNIST]
    unpacked: tuple[Checksum, ...]


IDX = {
    "mnist": Idx(
        datasets.MNIST,
        (
            Checksum("md5", "6bbc9ace898e44ae57da46a324031adb"),
            Checksum("md5", "a25bea736e30d166cdddb491f175f624"),
            Checksum("md5", "2646ac647ad5339dbf082846283269ea"),
            Checksum("md5", "27ae3e4e09519cfbb04c329615203637"),
        ),
    ),
    "fashion_mnist": Idx(
        datasets.FashionMNIST,
        (
            Checksum("sha256", "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888"),
            Checksum("sha256", "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9"),
            Checksum("sha256", "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b"),
            Checksum("sha256", "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34"),
        ),
    ),
    "kmnist": Idx(datasets.KMNIST, ()),
}


class Packed(NamedTuple):
    """The checksum of a published NAME.gz, and of NAME, by which a repacked file (such as Debian's) is recognised."""

    published: Checksum
    unpacked: Checksum | None

    def matches(self, content: bytes) -> bool:
        same_inside = self.unpacked is not None and self.unpacked.matches(_unpacked(content))
        return same_inside or self.published.matches(content)

    def of(self, content: bytes) -> str:
        return self.published.of(content)

    def named(self) -> str:
        return self.published.named()


def load_idx(name: str, root: str | None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Training pixels uint8 (60000, 28, 28) and labels uint8 (60000,), then the test set's 10,000, of IDX[name].

    `root` is the folder that holds MNIST/raw (of another set, that torchvision's name for it), or MNIST, or MNIST/raw
    itself; None means $BBBRUN_DATA or else the user's cache folder, the only one into which missing files are
    downloaded. Raises UserError naming the file that is missing, another one or unreachable.
    """
    source, unpacked = IDX[name]
    own = source.__name__
    root_folder = data_root(root, f"{own}/raw")
    # The mirror that still answers comes first.
    mirrors = sorted(source.mirrors, key=lambda mirror: "lecun" in mirror)
    train_x, train_y, test_x, test_y = (
        _read(root_folder, own, archive, Checksum("md5", md5), inner, [mirror + archive for mirror in mirrors])
        for (archive, md5), inner in zip(source.resources, unpacked or [None] * 4, strict=True)
    )
    return _images(train_x), _labels(train_y), _images(test_x), _labels(test_y)


def _read(
    root: DataFolder, own: str, archive: str, published: Checksum, inner: Checksum | None, urls: list[str]
) -> bytes:
    """The unpacked content of `archive`."""
    unpacked = archive.removesuffix(".gz")
    path = file_in(root, (f"{own}/raw", "raw", "."), (unpacked, archive) if inner else (archive,))
    if inner and path.name == unpacked:
        return read_verified(path, inner, [], ours=root.ours)
    return gzip.decompress(read_verified(path, Packed(published, inner), urls, ours=root.ours))


def _unpacked(content: bytes) -> bytes:
    """The unpacked content of an archive; empty if it is damaged."""
    try:
        return gzip.decompress(content)
    except (OSError, EOFError, zlib.error):
        return b""


def _images(content: bytes) -> Tensor:
    return torch.from_numpy(np.frombuffer(content, np.uint8, offset=16).reshape(-1, 28, 28).copy())


def _labels(content: bytes) -> Tensor:
    return torch.from_numpy(np.frombuffer(content, np.uint8, offset=8).copy())
