"""Foreign images, which a network never learnt: test images of other sets in MNIST's format, and noise."""

import numpy as np
from numpy.typing import NDArray

from bbbrun.data.mnist import load_idx

SETS = {"mnist": "mnist", "fashion": "fashion_mnist", "kmnist": "kmnist"}  # name -> that of the data set


def foreign_images(name: str, root: str | None) -> NDArray[np.uint8]:
    """The 10,000 test images of the set SETS[name], (10000, 28, 28), by `load_idx`."""
    pixels: NDArray[np.uint8] = load_idx(SETS[name], root)[2].numpy()
    return pixels


def noise_images(rows: int, size: tuple[int, int], brightest: float) -> NDArray[np.float32]:
    """Images (rows, H, W) of independent pixels, uniform on 0 .. brightest; the same ones at each call."""
    return np.random.default_rng(0).uniform(0, brightest, (rows, *size)).astype(np.float32)
