"""A folder of pictures as pixels: PNG and JPEG, grey or turned grey, of one size."""

import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from bbbrun.errors import UserError

_ENDINGS = (".png", ".jpg", ".jpeg")
_EIGHT_BITS = ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr")


def picture_files(folder: Path, labelled: bool) -> list[Path]:
    """The pictures of a folder, by name; `labelled`: those of its sub-folders, which classes are named by.

    Raises UserError where there are none.
    """
    folders = sorted(path for path in folder.iterdir() if path.is_dir()) if labelled else [folder]
    files = [path for each in folders for path in sorted(each.iterdir()) if path.suffix.lower() in _ENDINGS]
    for path in (path for path in files if not path.is_file()):
        raise UserError(f"{path} is no file")
    if not files:
        inside = "folders named by class, with pictures (PNG or JPEG) in them" if labelled else "PNG or JPEG pictures"
        raise UserError(f"{folder} must hold {inside}")
    return files


def read_pictures(files: list[Path], size: tuple[int, int]) -> NDArray[np.uint8]:
    """The pixels of these pictures, 0 to 255, (N, H, W) for size (H, W); colours as their luminance (ITU-R 601).

    Raises UserError naming a file of another size or depth, or that is no picture.
    """
    height, width = size
    pixels = np.empty((len(files), height, width), np.uint8)
    for row, path in enumerate(files):
        try:
            with warnings.catch_warnings(action="ignore"), Image.open(path) as image:
                # Before the pixels are unpacked: a small file may claim a huge picture.
                if image.size != (width, height):
                    raise UserError(
                        f"{path}: the picture is {image.size[0]} x {image.size[1]} pixels, wide and high, where this "
                        f"run's are {width} x {height}"
                    )
                if image.mode not in _EIGHT_BITS:
                    raise UserError(f"{path}: a picture of mode {image.mode}, not of 8 bits a channel")
                pixels[row] = np.asarray(image.convert("L"))
        except (UnidentifiedImageError, Image.DecompressionBombError, SyntaxError, ValueError) as error:
            raise UserError(f"{path} is no PNG or JPEG picture that can be read") from error
        except OSError as error:
            if error.errno is not None:
                raise
            raise UserError(f"{path} is damaged or cut short: {error}") from error
    return pixels
