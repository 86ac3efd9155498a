"""CSV and Parquet files as streams of tables, a DataFrame of some rows at a time."""

import csv
import importlib.util
import math
import warnings
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from bbbrun.errors import UserError

_SEPARATORS = (";", "\t", "|")  # of columns, in files that are no CSV files here
_LONGEST_LINE = 1 << 24  # characters; a table of a million columns


class Frames(NamedTuple):
    """The rows of a file: at most how many, and a function that reads them anew, at most so many at a time."""

    rows: int
    chunks: Callable[[int], Iterator[pd.DataFrame]]


def csv_frames(path: Path, texts: Collection[str] = ()) -> Frames:
    """The rows of a CSV file in UTF-8; texts: columns to read as they stand, so that 01 is not 1.

    Columns without a header are numbered. Raises UserError for a file that is none.
    """
    with path.open("rb") as file:
        lines, returns, last = 0, 0, b"\n"
        for block in iter(lambda: file.read(1 << 20), b""):
            lines, returns, last = lines + block.count(b"\n"), returns + block.count(b"\r"), block
        # Lines may end in a carriage return alone.
        lines = max(lines, returns) + (not last.endswith((b"\n", b"\r")))
    names, fields = _first_rows(path)
    if len(names) == 1:
        for mark in (mark for mark in _SEPARATORS if mark in names[0] and mark in "".join(fields)):
            raise UserError(f"{path}: its columns are separated by {mark!r}, and must be by commas")
    header = not all(map(_is_number, names))
    if header and fields and len(fields) != len(names):
        raise UserError(f"{path}: its header has {len(names)} columns, and row 1 has {len(fields)} values")
    # pandas would give the second one another name.
    for twice in (name for name, count in Counter(names).items() if header and name and count > 1):
        raise UserError(f"{path} has the column {twice!r} twice")

    def chunks(rows: int) -> Iterator[pd.DataFrame]:
        options: dict[str, Any] = {"header": 0 if header else None, "chunksize": rows, "encoding": "utf-8-sig"}
        options["dtype"] = {name: str for name in texts if name in names} if header else None
        try:
            # low_memory guesses the type of a column piece by piece. index_col: no column is taken for the rows' names.
            with pd.read_csv(path, index_col=False, skipinitialspace=True, low_memory=False, **options) as reader:
                while (frame := _next(reader)) is not None:
                    if not header:
                        frame.columns = pd.RangeIndex(len(frame.columns))
                    if len(frame):
                        yield _with_floats(frame)
        except (ValueError, pd.errors.ParserWarning) as error:
            raise UserError(f"{path} is no CSV file that can be read: {str(error).strip()}") from error

    return Frames(lines - header, chunks)


def _with_floats(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with columns of whole numbers beyond 64 bits, which pandas leaves as Python's numbers, as floats."""
    for name in frame:
        column = frame[name]
        if pd.api.types.is_object_dtype(column) and column.map(type).isin([int, float]).all():
            with suppress(OverflowError):  # beyond floats, too
                floats = column.astype(float)
                if floats.nunique() == column.nunique():  # else they are codes, which must not become one
                    frame[name] = floats
    return frame


def _first_rows(path: Path) -> tuple[list[str], list[str]]:
    """The first two rows of a CSV file, of which the second may be missing, []; blank lines are no rows."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        lines = _bounded(iter(lambda: file.readline(_LONGEST_LINE), ""), path)
        rows = (row for row in csv.reader(lines, skipinitialspace=True) if row)
        try:
            first, second = next(rows, []), next(rows, [])
        except (UnicodeDecodeError, csv.Error) as error:
            raise UserError(f"{path} is no CSV file in UTF-8: {error}") from error
    if not first:
        raise UserError(f"{path} has no rows")
    return first, second


def _bounded(lines: Iterator[str], path: Path) -> Iterator[str]:
    """The lines; raises UserError for one so long that the file is no table."""
    for line in lines:
        if len(line) >= _LONGEST_LINE:
            raise UserError(f"{path}: its first line is longer than {_LONGEST_LINE} characters: it is no table")
        yield line


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


def parquet_frames(path: Path) -> Frames:
    """The rows of a Parquet file; raises UserError for a file that is none, or holds lists, and without pyarrow."""
    require_parquet(path)
    import pyarrow
    from pyarrow.parquet import ParquetFile

    with _parquet_errors(path), ParquetFile(path) as file:
        rows, fields = file.metadata.num_rows, list(file.schema_arrow)
    for field in (field for field in fields if pyarrow.types.is_nested(field.type)):
        raise UserError(f"{path}: column {field.name!r} holds {field.type}, and must hold numbers or texts")
    # An index without a name, which pandas wrote beside the columns.
    columns = [field.name for field in fields if not field.name.startswith("__index_level_")]

    def chunks(size: int) -> Iterator[pd.DataFrame]:
        # Batches end with the file's row groups: gather them, so that a chunk has all its rows.
        waiting: list[Any] = []
        with _parquet_errors(path), ParquetFile(path) as opened:
            for batch in opened.iter_batches(batch_size=size, columns=columns):
                waiting.append(batch)
                if sum(map(len, waiting)) >= size:
                    table = pyarrow.Table.from_batches(waiting)
                    yield table.slice(0, size).to_pandas(ignore_metadata=True)
                    waiting = table.slice(size).to_batches()
            if sum(map(len, waiting)):
                yield pyarrow.Table.from_batches(waiting).to_pandas(ignore_metadata=True)

    return Frames(rows, chunks)


@contextmanager
def _parquet_errors(path: Path) -> Iterator[None]:
    """Raise UserError where pyarrow finds the file damaged; of an error of the system, that one."""
    import pyarrow

    try:
        yield
    except (pyarrow.ArrowException, ValueError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise UserError(f"{path} is no Parquet file that can be read: {' '.join(str(error).split())}") from error
