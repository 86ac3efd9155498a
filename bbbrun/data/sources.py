"""A user's file as a stream of rows: CSV, Parquet, NPY, NPZ, IDX, or a folder of pictures."""

from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from numpy.typing import NDArray

from bbbrun.data.arrays import INPUTS, LABELS, idx_chunks, idx_header, native, read_npy, read_npz
from bbbrun.data.pictures import picture_files, read_pictures
from bbbrun.data.tables.columns import Frames, csv_frames, parquet_frames
from bbbrun.data.tables.names import hint, some_of
from bbbrun.errors import UserError


class Chunk(NamedTuple):
    """Some rows. inputs: a pandas.DataFrame or an array. labels: of each row, where asked for. files: of pictures."""

    inputs: Any
    labels: NDArray[Any] | None
    files: list[str] | None


class Source(NamedTuple):
    """The rows of a file: at most how many, and a function that reads them anew, at most so many at a time."""

    path: Path
    rows: int
    chunks: Callable[[int], Iterator[Chunk]]


def open_source(
    path: Path, size: tuple[int, int] | None, label: str | None = None, texts: Collection[str] = ()
) -> Source:
    """The rows of `path`, which its name's ending says how to read.

    size: the (H, W) of the run's pictures, None where its inputs are none. label: the column of the labels, None where
    none are wanted. Other formats have them elsewhere: an NPZ file in its array `labels`, IDX images in the file
    labels-idx1 beside their images-idx3, a folder of pictures in the names of its sub-folders. texts: columns of a CSV
    file whose values are to be read as they stand: 01 is not 1, whatever else the column holds.
    Raises UserError for a file that cannot be read, or holds no rows or no labels.
    """
    if path.is_dir():
        source = _pictures(path, size, label is not None)
    elif not path.exists():
        raise UserError(f"{path}: there is no such file or folder")
    elif not path.is_file():
        raise UserError(f"{path} is neither a file nor a folder")
    else:
        name = path.name.removesuffix(".gz")
        for ending, opened in _FORMATS.items():
            if name.endswith(ending) and (opened is _idx or path.suffix != ".gz"):
                source = opened(path, label, texts)
                break
        else:
            raise UserError(
                f"{path} must end in {', '.join(name for name in _FORMATS if name != 'ubyte')} or ubyte(.gz), or be a "
                "folder of pictures"
            )
    if not source.rows:
        raise UserError(f"{path} has no rows")
    return source


def _split(frame: pd.DataFrame, label: str | None, path: Path) -> Chunk:
    """The inputs and the column `label` of a table."""
    if label is None:
        return Chunk(frame, None, None)
    if label not in frame.columns:
        names = frame.columns
        raise UserError(
            f"{path}: column {label!r}, the labels, is missing: there are {some_of(names)}{hint(label, names)}"
        )
    return Chunk(frame.drop(columns=label), frame[label].to_numpy(), None)


def _csv(path: Path, label: str | None, texts: Collection[str]) -> Source:
    return _table(csv_frames(path, texts), label, path)


def _parquet(path: Path, label: str | None, texts: Collection[str]) -> Source:
    return _table(parquet_frames(path), label, path)


def _table(frames: Frames, label: str | None, path: Path) -> Source:
    return Source(path, frames.rows, lambda rows: (_split(frame, label, path) for frame in frames.chunks(rows)))


def _array(inputs: NDArray[Any], labels: NDArray[Any] | None, path: Path) -> Source:
    if labels is not None and len(labels) != len(inputs):
        raise UserError(f"{path} has {len(inputs)} inputs and {len(labels)} labels")

    def chunks(rows: int) -> Iterator[Chunk]:
        for first in range(0, len(inputs), rows):
            part = slice(first, first + rows)
            yield Chunk(inputs[part], None if labels is None else labels[part], None)

    return Source(path, len(inputs), chunks)


def _npy(path: Path, label: str | None, texts: Collection[str]) -> Source:
    if label is not None:
        raise UserError(f"{path} has no labels: use an NPZ file with the arrays {INPUTS[0]} and {LABELS[0]}")
    rows = len(read_npy(path))

    def chunks(size: int) -> Iterator[Chunk]:
        for first in range(0, rows, size):
            # Mapped anew and copied: the pages of a mapping stay in memory for as long as it lives.
            yield Chunk(native(read_npy(path)[first : first + size]), None, None)

    return Source(path, rows, chunks)


def _npz(path: Path, label: str | None, texts: Collection[str]) -> Source:
    return _array(read_npz(path, INPUTS), None if label is None else read_npz(path, LABELS), path)


def _idx(path: Path, label: str | None, texts: Collection[str]) -> Source:
    rows = idx_header(path).shape[0]
    if label is None:
        return Source(path, rows, lambda size: (Chunk(part, None, None) for part in idx_chunks(path, size)))
    beside = path.with_name(path.name.replace("images-idx3", "labels-idx1"))
    if beside == path or not beside.is_file():
        raise UserError(f"{path}: its labels must lie beside it, as ...-labels-idx1-ubyte beside ...-images-idx3-ubyte")
    labels = idx_header(beside).shape[0]
    if labels != rows:
        raise UserError(f"{path} has {rows} inputs, and {beside.name} {labels} labels")

    def chunks(size: int) -> Iterator[Chunk]:
        parts = zip(idx_chunks(path, size), idx_chunks(beside, size), strict=True)
        return (Chunk(inputs, labels, None) for inputs, labels in parts)

    return Source(path, rows, chunks)


def _pictures(path: Path, size: tuple[int, int] | None, labelled: bool) -> Source:
    if size is None:
        raise UserError(f"{path} is a folder, and this run's inputs are no pictures: name a file of numbers")
    height_width, files = size, picture_files(path, labelled)

    def chunks(rows: int) -> Iterator[Chunk]:
        for first in range(0, len(files), rows):
            part = files[first : first + rows]
            labels = pd.array([file.parent.name for file in part]).to_numpy() if labelled else None
            yield Chunk(read_pictures(part, height_width), labels, [str(file.relative_to(path)) for file in part])

    return Source(path, len(files), chunks)


# How a name ends, without .gz -> what opens the file for (path, label column, columns of texts)
_FORMATS: dict[str, Callable[[Path, str | None, Collection[str]], Source]] = {
    ".csv": _csv,
    ".parquet": _parquet,
    ".npy": _npy,
    ".npz": _npz,
    ".idx": _idx,
    "ubyte": _idx,
}
