"""A user's file as the rows of a training, a validation and a test part, checked, in the file's own units."""

import hashlib
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from bbbrun.data.arrays import INPUTS, LABELS, read_npz
from bbbrun.data.sources import open_source
from bbbrun.data.tables.form import PARTS
from bbbrun.data.tables.names import hint, some_of
from bbbrun.data.tables.values import is_number
from bbbrun.errors import UserError
from bbbrun.schema.tables import Kind, Missing, TableConfig


class Rows(NamedTuple):
    """The rows of each part, and how their columns are to be read.

    kind: regression or classification, auto where the target decides. categorical: columns of numbers that stand for
    kinds. ignored: further columns of the file. files: name -> SHA-256.
    """

    train: pd.DataFrame
    valid: pd.DataFrame
    test: pd.DataFrame
    target: str
    kind: Kind
    categorical: Sequence[str]
    ignored: Sequence[str]
    fill: bool
    files: dict[str, str]

    @property
    def parts(self) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
        return self.train, self.valid, self.test


def table_rows(config: TableConfig, folder: str | None = None, digests: dict[str, str] | None = None) -> Rows:
    """The rows of the files that the configuration names; folder: where to look for files by their names alone.

    digests: the required ones of the files, as `Rows.files`.

    Raises UserError where a key is missing, a file cannot be read, a column is not there, or a value is missing.
    """
    if config.path is None:
        raise UserError("dataset.path must be the file of the table, as dataset.path=houses.csv")
    paths = [config.path, config.valid_path, config.test_path]
    keys = ("path", "valid_path", "test_path")
    files = [None if path is None else _place(key, path, folder) for key, path in zip(keys, paths, strict=True)]
    hashes = {path.name: _digest(path) for path in files if path is not None}
    if digests is not None and hashes != digests:
        raise UserError(f"{', '.join(map(str, filter(None, files)))}: not what the run learnt from, by their SHA-256")
    frames = [None if path is None else read_table(path, config.target) for path in files]
    texts = [*config.categorical, *(name for frame in frames if frame is not None for name in _texts(frame))]
    frames = [None if path is None else read_table(path, config.target, texts) for path in files] if texts else frames
    main, target = frames[0], _target(config, files[0], frames[0])
    assert main is not None
    split_column = [config.split_column] if config.split_column else []
    ignored = [*config.ignore, *split_column]
    for key, names in (("ignore", config.ignore), ("categorical", config.categorical), ("split_column", split_column)):
        for name in (name for name in names if name not in main.columns):
            raise UserError(f"dataset.{key}={name}: {_no_column(files[0], name, main)}")
    names = [path.name for path in files if path is not None]
    if len(set(names)) < len(names):
        raise UserError(
            f"dataset.path, valid_path and test_path must be files of different names, not {some_of(names)}"
        )
    for path, frame in zip(files[1:], frames[1:], strict=True):
        if frame is not None and set(frame.columns) != set(main.columns):
            differing = sorted(set(frame.columns) ^ set(main.columns))
            raise UserError(f"{path} and {files[0]} must have the same columns: they differ in {some_of(differing)}")
    extras = [[] if frame is None else [frame[main.columns]] for frame in frames[1:]]
    parts = _split(config, _without_gaps(config, main, target, ignored, files[0]))
    for number, extra in enumerate(extras, start=1):
        parts[number] = [_without_gaps(config, each, target, ignored, files[number]) for each in extra] or parts[number]
    train, valid, test = joined = [pd.concat(part, ignore_index=True).drop(columns=ignored) for part in parts]
    for name, part in zip(PARTS, joined, strict=True):
        if not len(part) and name != "valid":
            raise UserError(f"dataset.path={config.path}: no row is left for the {name} part")
    if list(train.columns) == [target]:
        raise UserError(f"{files[0]} has no column left beside the target {target!r}")
    fill = config.missing is Missing.mean
    return Rows(train, valid, test, target, config.kind, config.categorical, ignored, fill, hashes)


def _texts(frame: pd.DataFrame) -> list[str]:
    """The columns that pandas did not read as numbers."""
    return [str(name) for name in frame if not is_number(frame[name])]


def read_table(path: Path, target: str | None, texts: Collection[str] = ()) -> pd.DataFrame:
    """The whole table in a CSV, Parquet, NPY or NPZ file, its columns named by text, of arrays 1, 2, ...

    target: of an NPZ file, which has arrays and no columns, the name of that array, or None for a usual one. texts:
    columns of a CSV file to be read as they stand. Raises UserError for a file that is no table.
    """
    if path.suffix == ".npz":
        inputs, labels = read_npz(path, INPUTS), read_npz(path, (target,) if target else LABELS)
        if inputs.ndim != 2 or labels.shape != inputs.shape[:1]:
            raise UserError(f"{path} must hold inputs (N, D) and a target (N,), not {inputs.shape} and {labels.shape}")
        frame = pd.DataFrame(inputs).set_axis([str(number + 1) for number in range(inputs.shape[1])], axis=1)
        return frame.assign(**{target or LABELS[0]: labels})
    if path.suffix not in (".csv", ".parquet", ".npy"):
        raise UserError(f"{path} must end in .csv, .parquet, .npy or .npz to be a table")
    source = open_source(path, None, texts=texts)
    chunks = [chunk.inputs for chunk in source.chunks(source.rows)]
    if not chunks:
        raise UserError(f"{path} has no rows")
    for chunk in (chunk for chunk in chunks if isinstance(chunk, np.ndarray) and chunk.ndim != 2):
        raise UserError(f"{path} must hold rows of columns, (N, D), not an array {chunk.shape}")
    frame = pd.concat(map(pd.DataFrame, chunks), ignore_index=True)
    if isinstance(frame.columns, pd.RangeIndex):
        return frame.set_axis([str(number + 1) for number in frame.columns], axis=1)
    frame = frame.set_axis([str(name) for name in frame.columns], axis=1)
    if not frame.columns.is_unique:
        raise UserError(f"{path} has the column {frame.columns[frame.columns.duplicated()][0]!r} twice")
    return frame


def _place(key: str, path: str, folder: str | None) -> Path:
    file = Path(folder) / Path(path).name if folder else Path(path).expanduser()
    if not file.is_file():
        hint = "" if folder is None else " in the folder of the data"
        raise UserError(f"dataset.{key}={path}: there is no file {file}{hint}")
    return file


def _target(config: TableConfig, path: Path | None, frame: pd.DataFrame | None) -> str:
    assert frame is not None
    assert path is not None
    if config.target is None and path.suffix == ".npz":
        return LABELS[0]
    if config.target is None:
        raise UserError(f"dataset.target must be the column to predict: {path} has {some_of(frame.columns)}")
    if config.target not in frame.columns:
        raise UserError(f"dataset.target={config.target}: {_no_column(path, config.target, frame)}")
    if len(frame.columns) == 1:
        raise UserError(f"{path} has no column beside the target {config.target!r}")
    return config.target


def _no_column(path: Path | None, name: str, frame: pd.DataFrame) -> str:
    return f"{path} has no such column; it has {some_of(frame.columns)}{hint(name, frame.columns)}"


def _without_gaps(
    config: TableConfig, frame: pd.DataFrame, target: str, ignored: Sequence[str], path: Path | None
) -> pd.DataFrame:
    """The rows to use; raises UserError that names the columns in which values are missing."""
    table = frame.drop(columns=list(config.ignore))
    counts = table.isna().sum()
    empty = [name for name in table.columns if counts[name] == len(table)]
    if empty:
        raise UserError(f"{path}: no value in column {some_of(empty)}: leave it out with dataset.ignore=[{empty[0]}]")
    if config.missing is Missing.drop:
        complete = frame[~table.isna().any(axis=1)]
        if complete.empty:
            raise UserError(f"{path}: no row is without a missing value: dataset.missing=mean fills them")
        return complete
    required = [name for name in counts.index if config.missing is Missing.error or name in (target, *ignored)]
    gaps = [f"{name} ({counts[name]})" for name in required if counts[name]]
    if gaps:
        # A mean can replace an input, but not a target.
        inputs = any(counts[name] and name not in (target, *ignored) for name in required)
        remedy = "drop leaves their rows out" + (", mean fills inputs" if inputs else "")
        raise UserError(f"{path}: values are missing in {some_of(gaps)}: dataset.missing={remedy}")
    return frame


def _split(config: TableConfig, frame: pd.DataFrame) -> list[list[pd.DataFrame]]:
    """The rows of the three parts, by the column that names them, or by shares of the rows in a random order."""
    if config.split_column is not None:
        words = frame[config.split_column].astype(str)
        odd = words[~words.isin(PARTS)]
        if len(odd):
            raise UserError(
                f"dataset.split_column={config.split_column}: row {odd.index[0] + 1} has {odd.iloc[0][:40]!r}, not "
                f"{', '.join(PARTS)}"
            )
        return [[frame[words == name]] for name in PARTS]
    count = len(frame)
    test = 0 if config.test_path else max(1, round(count * config.test_share))
    valid = 0 if config.valid_path else round(count * config.valid_share)
    order = np.random.default_rng(config.split_seed).permutation(count)
    bounds = [order[test + valid :], order[test : test + valid], order[:test]]
    return [[frame.iloc[np.sort(rows)]] for rows in bounds]


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
