"""A user's file as a stream of rows: CSV, Parquet, NPY, NPZ, IDX, or a folder of pictures."""

import csv
import importlib.util
import math
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bbbrun.data.arrays import INPUTS, LABELS, idx_chunks, idx_header, read_npy, read_npz
from bbbrun.data.pictures import picture_files, read_pictures
from bbbrun.data.tables.names import hint, some_of
from bbbrun.errors import UserError

_SEPARATORS = (";", "\t", "|")  # of columns, in files that are no CSV files here
_LONGEST_LINE = 1 << 24  # bytes; a table of a million columns


class Chunk(NamedTuple):
    """Some rows. inputs: a pandas.DataFrame or an array. labels: of each row, where asked for. files: of pictures."""

    inputs: Any
    labels: NDArray[Any] | None
    files: list[str] | None


class Source(NamedTuple):
    """The rows of a file: how many, and a function that reads them anew, at most so many at a time."""

    path: Path
    rows: int
    chunks: Callable[[int], Iterator[Chunk]]


def open_source(path: Path, size: tuple[int, int] | None, label: str | None = None) -> Source:
    """The rows of `path`, which its name's ending says how to read.

    size: the (H, W) of the run's pictures, None where its inputs are none. label: the column of the labels, None where
    none are wanted. Other formats have them elsewhere: an NPZ file in its array `labels`, IDX images in the file
    labels-idx1 beside their images-idx3, a folder of pictures in the names of its sub-folders.
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
                source = opened(path, label)
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


def _csv(path: Path, label: str | None) -> Source:
    with path.open("rb") as file:
        first, second = file.readline(_LONGEST_LINE), file.readline(_LONGEST_LINE)
        if len(first) == _LONGEST_LINE:
            raise UserError(f"{path}: its first line is longer than {_LONGEST_LINE} bytes: it is no table")
        file.seek(0)
        lines, last = 0, b"\n"
        for block in iter(lambda: file.read(1 << 20), b""):
            lines, last = lines + block.count(b"\n"), block
        lines += not last.endswith(b"\n")
    try:
        names, fields = (next(csv.reader([line.decode("utf-8-sig")]), []) for line in (first, second))
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} is no CSV file in UTF-8: {error}") from error
    if not names:
        raise UserError(f"{path} has no rows")
    if len(names) == 1:
        for mark in (mark for mark in _SEPARATORS if mark in names[0] and mark in second.decode("utf-8", "replace")):
            raise UserError(f"{path}: its columns are separated by {mark!r}, and must be by commas")
    header = not all(map(_is_number, names))
    if header and fields and len(fields) != len(names):
        raise UserError(f"{path}: its header has {len(names)} columns, and row 1 has {len(fields)} values")

    def chunks(rows: int) -> Iterator[Chunk]:
        options: dict[str, Any] = {"header": 0 if header else None, "chunksize": rows, "encoding": "utf-8-sig"}
        try:
            # low_memory guesses the type of a column piece by piece. index_col: no column is taken for the rows' names.
            with pd.read_csv(path, index_col=False, skipinitialspace=True, low_memory=False, **options) as reader:
                while (frame := _next(reader)) is not None:
                    yield _split(frame, label, path)
        except (ValueError, pd.errors.ParserWarning) as error:
            raise UserError(f"{path} is no CSV file that can be read: {str(error).strip()}") from error

    return Source(path, lines - header, chunks)


def _next(reader: Any) -> pd.DataFrame | None:
    """The next rows, None at the end; a line with too many values is an error, where pandas warns and drops some."""
    with warnings.catch_warnings(action="error", category=pd.errors.ParserWarning):
        frame: pd.DataFrame | None = next(reader, None)
    return frame


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def require_parquet(path: Path) -> None:
    """Raise UserError where Parquet cannot be read or written here."""
    if importlib.util.find_spec("pyarrow") is None:
        raise UserError(f"{path}: Parquet needs pyarrow: pip install 'bbbrun[parquet]', or use CSV")


def _parquet(path: Path, label: str | None) -> Source:
    require_parquet(path)
    import pyarrow
    from pyarrow.parquet import ParquetFile

    try:
        rows = ParquetFile(path).metadata.num_rows
    except (pyarrow.ArrowException, ValueError) as error:
        raise UserError(f"{path} is no Parquet file: {error}") from error

    def chunks(size: int) -> Iterator[Chunk]:
        try:
            # Batches end with the file's row groups: gather them, so that a chunk has all its rows.
            waiting: list[Any] = []
            for batch in ParquetFile(path).iter_batches(batch_size=size):
                waiting.append(batch)
                if sum(map(len, waiting)) >= size:
                    table = pyarrow.Table.from_batches(waiting)
                    yield _split(table.slice(0, size).to_pandas(), label, path)
                    waiting = table.slice(size).to_batches()
            if sum(map(len, waiting)):
                yield _split(pyarrow.Table.from_batches(waiting).to_pandas(), label, path)
        except (pyarrow.ArrowException, ValueError) as error:
            raise UserError(f"{path} is no Parquet file that can be read: {error}") from error

    return Source(path, rows, chunks)


def _array(inputs: NDArray[Any], labels: NDArray[Any] | None, path: Path) -> Source:
    if labels is not None and len(labels) != len(inputs):
        raise UserError(f"{path} has {len(inputs)} inputs and {len(labels)} labels")

    def chunks(rows: int) -> Iterator[Chunk]:
        for first in range(0, len(inputs), rows):
            part = slice(first, first + rows)
            yield Chunk(inputs[part], None if labels is None else labels[part], None)

    return Source(path, len(inputs), chunks)


def _npy(path: Path, label: str | None) -> Source:
    if label is not None:
        raise UserError(f"{path} has no labels: use an NPZ file with the arrays {INPUTS[0]} and {LABELS[0]}")
    rows = len(read_npy(path))

    def chunks(size: int) -> Iterator[Chunk]:
        for first in range(0, rows, size):
            # Mapped anew and copied: the pages of a mapping stay in memory for as long as it lives.
            yield Chunk(np.array(read_npy(path)[first : first + size]), None, None)

    return Source(path, rows, chunks)


def _npz(path: Path, label: str | None) -> Source:
    return _array(read_npz(path, INPUTS), None if label is None else read_npz(path, LABELS), path)


def _idx(path: Path, label: str | None) -> Source:
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


# How a name ends, without .gz -> what opens the file for (path, label column)
_FORMATS: dict[str, Callable[[Path, str | None], Source]] = {
    ".csv": _csv,
    ".parquet": _parquet,
    ".npy": _npy,
    ".npz": _npz,
    ".idx": _idx,
    "ubyte": _idx,
}
