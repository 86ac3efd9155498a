"""Harder test images: rotated, shifted, and with eight corruptions. Pixels (N, H, W) are from 0 to 1, before and after.

The corruptions are drawn from NumPy's generator with seed 0, the same ones at each call. They follow the idea of
MNIST-C (Mu and Gilmer, "MNIST-C: a robustness benchmark for computer vision", 2019), but numbers on them cannot be
compared with numbers on MNIST-C. Of its fifteen corruptions shot noise, impulse noise, motion blur and stripe are among
the eight, with other settings, and rotate and translate are `rotated` and `shifted`; Gaussian noise, blur, contrast and
occlusion are not among the fifteen.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import convolve1d, gaussian_filter, rotate

Pixels = NDArray[Any]

ANGLES = tuple(range(0, 181, 15))  # degrees


def rotated(pixels: Pixels, degrees: float) -> Pixels:
    """Rotated counter-clockwise about the centre, bilinear, black outside the old image."""
    turned: Pixels = rotate(pixels, degrees, axes=(1, 2), reshape=False, order=1, mode="grid-constant")
    return np.clip(turned, 0, 1)


def shifts(width: int) -> tuple[int, ...]:
    """The distances of `shifted` for images of this width, pixels: from 0 to half of it, in steps of a fourteenth."""
    return tuple(range(0, width // 2 + 1, max(1, width // 14)))


def shifted(pixels: Pixels, columns: int) -> Pixels:
    """Moved to the right by this many columns, black outside the old image."""
    moved = np.zeros_like(pixels)
    moved[..., columns:] = pixels[..., : pixels.shape[-1] - columns]
    return moved


def _gaussian_noise(pixels: Pixels, random: np.random.Generator) -> Pixels:
    return np.clip(pixels + random.normal(0, 0.3, pixels.shape), 0, 1)


def _shot_noise(pixels: Pixels, random: np.random.Generator) -> Pixels:
    noisy: Pixels = random.poisson(pixels * 5) / 5
    return np.clip(noisy, 0, 1)


def _impulse_noise(pixels: Pixels, random: np.random.Generator) -> Pixels:
    """A fifth of the pixels black or white."""
    return np.where(random.random(pixels.shape) < 0.2, random.integers(0, 2, pixels.shape), pixels)


def _blur(pixels: Pixels, random: np.random.Generator) -> Pixels:
    """A Gaussian whose sigma is 1/18 of the width."""
    blurred: Pixels = gaussian_filter(pixels, (0, pixels.shape[1] / 18, pixels.shape[2] / 18), mode="constant")
    return blurred


def _motion_blur(pixels: Pixels, random: np.random.Generator) -> Pixels:
    """The mean over a quarter of the width, sideways."""
    length = max(2, pixels.shape[2] // 4)
    blurred: Pixels = convolve1d(pixels, np.full(length, 1 / length), axis=2, mode="constant")
    return blurred


def _contrast(pixels: Pixels, random: np.random.Generator) -> Pixels:
    """A quarter of the contrast, about each image's mean."""
    mean = pixels.mean(axis=(1, 2), keepdims=True)
    paler: Pixels = mean + 0.25 * (pixels - mean)
    return paler


def _occlusion(pixels: Pixels, random: np.random.Generator) -> Pixels:
    """A black square, a third as wide as the image, at a random position."""
    rows, height, width = pixels.shape
    side = width // 3
    top = random.integers(0, height - side + 1, (rows, 1, 1))
    left = random.integers(0, width - side + 1, (rows, 1, 1))
    y, x = np.arange(height)[None, :, None], np.arange(width)[None, None, :]
    return np.where((y >= top) & (y < top + side) & (x >= left) & (x < left + side), 0, pixels)


def _stripe(pixels: Pixels, random: np.random.Generator) -> Pixels:
    """The middle quarter of the columns inverted."""
    width = pixels.shape[2]
    striped = pixels.copy()
    middle = slice(width * 3 // 8, width * 5 // 8)
    striped[..., middle] = 1 - striped[..., middle]
    return striped


CORRUPTIONS: dict[str, Callable[[Pixels, np.random.Generator], Pixels]] = {
    "gaussian noise": _gaussian_noise,
    "shot noise": _shot_noise,
    "impulse noise": _impulse_noise,
    "blur": _blur,
    "motion blur": _motion_blur,
    "contrast": _contrast,
    "occlusion": _occlusion,
    "stripe": _stripe,
}


def corrupted(pixels: Pixels, name: str) -> Pixels:
    """The images with the corruption of this name."""
    return CORRUPTIONS[name](pixels, np.random.default_rng(0)).astype(np.float32)
