"""Image data sets as whole tensors: pixels scaled once, the training images split into training and validation."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from bbbrun.data.digits import digits_parts, load_digits
from bbbrun.errors import UserError
from bbbrun.schema.datasets import DatasetConfig, DigitsConfig, ImageDatasetConfig, MnistConfig


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

    The last `valid_size` training images are the validation set; inputs are pixels / `pixel_divisor`. With test=false
    the test set is empty.
    Raises UserError where files are missing or wrong, or the validation set leaves nothing to train on.
    """
    assert isinstance(config, ImageDatasetConfig)
    data = IMAGES[config.name]
    pixels, labels, test_pixels, test_labels = data.load(config)
    train = len(pixels) - config.valid_size
    if train < 1:
        raise UserError(f"dataset.valid_size must be below the {len(pixels)} training images, not {config.valid_size}")

    tested = len(test_pixels) if config.test else 0

    def split(pixels: Tensor, labels: Tensor) -> Split:
        # A channel, which convolutions need.
        inputs = pixels.unsqueeze(1).to(torch.float32) / config.pixel_divisor
        return Split(inputs.to(device), labels.to(device, torch.int64))

    return Images(
        split(pixels[:train], labels[:train]),
        split(pixels[train:], labels[train:]),
        split(test_pixels[:tested], test_labels[:tested]),
        data.classes,
    )


Pixels = tuple[Tensor, Tensor, Tensor, Tensor]  # pixels (N, H, W) and labels (N,) to train on, then to test with


def _idx(config: MnistConfig) -> Pixels:
    from bbbrun.data.mnist import load_idx

    return load_idx(config.name, config.root)


def _digits(config: DigitsConfig) -> Pixels:
    pixels, labels = load_digits()
    train, test = digits_parts(labels)
    return (
        torch.tensor(pixels[train]),
        torch.tensor(labels[train]),
        torch.tensor(pixels[test]),
        torch.tensor(labels[test]),
    )


class ImageSet(NamedTuple):
    """A data set of images: the shape of one, classes K, the function that reads it, the greatest pixel value."""

    shape: tuple[int, int, int]
    classes: int
    load: Callable[[Any], Pixels]
    brightest: float


# name -> set
IMAGES: dict[str, ImageSet] = {
    "mnist": ImageSet((1, 28, 28), 10, _idx, 255.0),
    "fashion_mnist": ImageSet((1, 28, 28), 10, _idx, 255.0),
    "kmnist": ImageSet((1, 28, 28), 10, _idx, 255.0),
    "digits": ImageSet((1, 8, 8), 10, _digits, 16.0),
}
