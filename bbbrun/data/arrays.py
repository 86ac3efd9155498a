"""Arrays in files: NumPy's NPY and NPZ, and MNIST's IDX, packed or not. Nothing in them can run code."""

import gzip
import math
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from bbbrun.errors import UserError

# IDX's code of a type, big-endian. Source: LeCun, Cortes and Burges, "The MNIST database", the IDX file format.
_IDX_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
# Names of inputs and of labels in an NPZ that holds several arrays.
INPUTS, LABELS = ("inputs", "x", "X", "images", "x_test"), ("labels", "y", "Y", "targets", "y_test")

# What NumPy raises for an NPY or NPZ file that is damaged, encrypted, packed in another way, or something else.
_DAMAGED = (
    *(ValueError, TypeError, AttributeError, SyntaxError, tokenize.TokenError, OverflowError, MemoryError, EOFError),
    *(RuntimeError, zipfile.BadZipFile, zlib.error),
)


class IdxHeader(NamedTuple):
    """The header of an IDX file: the type of its numbers, and the array's shape."""

    dtype: "np.dtype[Any]"
    shape: tuple[int, ...]


def read_npy(path: Path) -> NDArray[Any]:
    """The array of an NPY file, memory-mapped; raises UserError for anything but numbers."""
    try:
        with np.errstate(over="ignore"):
            return _of_numbers(np.load(path, mmap_mode="r", allow_pickle=False), path)
    except _DAMAGED as error:
        raise UserError(f"{path} is no NPY file of numbers, or damaged") from error


def read_npz(path: Path, names: tuple[str, ...]) -> NDArray[Any]:
    """The only array of an NPZ file, or the one that has the first of `names`, whole.

    Raises UserError where there is none, and for anything but numbers.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            present = [name for name in names if name in arrays.files]
            if not present and len(arrays.files) == 1 and names == INPUTS:
                present = list(arrays.files)
            if not present:
                raise UserError(
                    f"{path} has the arrays {', '.join(arrays.files) or 'none'}: name one of them {names[0]}"
                )
            return native(_of_numbers(arrays[present[0]], path))
    except _DAMAGED as error:
        raise UserError(f"{path} is no NPZ file of numbers, or damaged") from error


def native(array: NDArray[Any]) -> NDArray[Any]:
    """A copy in memory, in this machine's order of bytes, which pandas and torch require."""
    return np.array(array, dtype=array.dtype.newbyteorder("="))


def _of_numbers(array: Any, path: Path) -> NDArray[Any]:
    if array.dtype.kind not in "iufb" or array.ndim == 0:
        raise UserError(f"{path} must hold rows of numbers, not an array {array.shape} of {array.dtype}")
    return cast(NDArray[Any], array)


def idx_header(path: Path) -> IdxHeader:
    """The header of an IDX file; raises UserError where the file is none."""
    with _open(path) as file:
        return _header(file, path)


def idx_chunks(path: Path, rows: int) -> Iterator[NDArray[Any]]:
    """The array of an IDX file, `rows` of it at a time; raises UserError where the file is cut short."""
    with _open(path) as file:
        dtype, shape = _header(file, path)
        size = math.prod(shape[1:]) * dtype.itemsize
        for first in range(0, shape[0], rows):
            count = min(rows, shape[0] - first)
            content = _read(file, count * size, path)
            if len(content) != count * size:
                raise UserError(f"{path} is cut short: its header says {shape[0]} rows")
            yield np.frombuffer(content, dtype).reshape(count, *shape[1:])


def _open(path: Path) -> IO[bytes]:
    return cast("IO[bytes]", gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb"))


def _read(file: IO[bytes], size: int, path: Path) -> bytes:
    try:
        return file.read(size)
    except (EOFError, OSError, zlib.error, OverflowError, MemoryError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise UserError(f"{path} is damaged or cut short: {error}") from error


def _header(file: IO[bytes], path: Path) -> IdxHeader:
    start = _read(file, 4, path)
    if len(start) < 4 or start[:2] != b"\0\0" or start[2] not in _IDX_TYPES or not 1 <= start[3] <= 4:
        raise UserError(f"{path} is no IDX file: it begins with {start.hex(' ')}")
    sizes = _read(file, 4 * start[3], path)
    if len(sizes) < 4 * start[3]:
        raise UserError(f"{path} is cut short within its header")
    shape = tuple(int.from_bytes(sizes[4 * number : 4 * number + 4], "big") for number in range(start[3]))
    return IdxHeader(np.dtype(_IDX_TYPES[start[2]]), shape)
