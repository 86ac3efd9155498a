"""Image data sets as whole tensors: pixels scaled once, the training images split into training and validation."""

from typing import NamedTuple

import torch
from torch import Tensor

from bbbrun.errors import UserError
from bbbrun.schema.datasets import DatasetConfig, DigitsConfig, ImageDatasetConfig, MnistConfig

# name -> the shape of an image, and K
IMAGES: dict[str, tuple[tuple[int, int, int], int]] = {"mnist": ((1, 28, 28), 10), "digits": ((1, 8, 8), 10)}
BRIGHTEST = {"mnist": 255.0, "digits": 16.0}  # name -> the greatest value of a pixel


class Split(NamedTuple):
    """inputs float32 (N, ...), images (N, 1, H, W), labels int64 (N,), or float32 values (N,) in a regression."""

    inputs: Tensor
    labels: Tensor

    def to(self, device: torch.device) -> "Split":
        """The same on `device`."""
        return Split(self.inputs.to(device), self.labels.to(device))


class Images(NamedTuple):
    """The three parts of a data set of K classes."""

    train: Split
    valid: Split
    test: Split
    classes: int


def load_images(config: DatasetConfig, device: torch.device) -> Images:
    """The data set that the configuration names, on `device`.

    The last `valid_size` training images are the validation set; inputs are pixels / `pixel_divisor`.
    Raises UserError where files are missing or wrong, or the validation set leaves nothing to train on.
    """
    pixels, labels, test_pixels, test_labels = raw_images(config)
    assert isinstance(config, ImageDatasetConfig)
    train = len(pixels) - config.valid_size
    if train < 1:
        raise UserError(f"dataset.valid_size must be below the {len(pixels)} training images, not {config.valid_size}")

    def split(pixels: Tensor, labels: Tensor) -> Split:
        # A channel, which convolutions want.
        inputs = pixels.unsqueeze(1).to(torch.float32) / config.pixel_divisor
        return Split(inputs.to(device), labels.to(device, torch.int64))

    return Images(
        split(pixels[:train], labels[:train]),
        split(pixels[train:], labels[train:]),
        split(test_pixels, test_labels),
        int(labels.max()) + 1,
    )


def raw_images(config: DatasetConfig) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Training pixels (N, H, W) and labels (N,), in the file's own units, then those of the test set.

    Raises UserError where files are missing or wrong.
    """
    match config:
        case MnistConfig():
            from bbbrun.data.mnist import load_mnist

            return load_mnist(config.root)
        case DigitsConfig():
            return _digits()
        case _:
            raise TypeError(f"no images for {config!r}")


def _digits() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    # The file is ordered by writer: a seeded, stratified split, the same for every run.
    train_x, test_x, train_y, test_y = train_test_split(
        digits.images, digits.target, test_size=360, random_state=0, stratify=digits.target
    )
    return torch.tensor(train_x), torch.tensor(train_y), torch.tensor(test_x), torch.tensor(test_y)
