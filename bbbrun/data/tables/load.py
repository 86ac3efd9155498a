"""A table as whole tensors: the form fitted to the training part, and the three parts in it."""

import re
import warnings
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from bbbrun.data.images import Split
from bbbrun.data.tables.form import PARTS, Feature, Form, Label, Target
from bbbrun.data.tables.rows import Rows, table_rows
from bbbrun.data.tables.uci import uci_rows
from bbbrun.data.tables.values import TableLayout, column_numbers, is_number, levels_of, positions, text_of_value
from bbbrun.errors import UserError
from bbbrun.schema.datasets import DatasetConfig
from bbbrun.schema.tables import Kind, TableConfig, TabularConfig, UciConfig

_MOST_WHOLE = 2**53  # beyond, float64 does not tell whole numbers apart
_MOST_CLASSES = 20  # whole numbers with more distinct values are numbers
_MOST_LEVELS = 1000
_FEW_LEVELS = 20  # as many are a category in a table of any length
_MOST_DEVIATIONS = 1e15  # of a target from its mean: float32 holds the squares of such numbers


class Table(NamedTuple):
    """The three parts of a table in its `form`. The validation part may have no rows."""

    form: Form
    train: Split
    valid: Split
    test: Split

    def to(self, device: torch.device) -> "Table":
        """The same on `device`."""
        return Table(self.form, self.train.to(device), self.valid.to(device), self.test.to(device))


def rows_of(config: TabularConfig, root: str | None = None, digests: dict[str, str] | None = None) -> Rows:
    """The rows that the configuration names.

    root: the folder of the data in place of the configuration's. digests: the required ones of a user's files.
    """
    match config:
        case UciConfig():
            return uci_rows(config, config.root if root is None else root)
        case TableConfig():
            return table_rows(config, root, digests)
        case _:
            raise TypeError(f"no table for {config!r}")


def load_table(config: DatasetConfig) -> Table:
    """The table that the configuration names, on the CPU; raises UserError where it is missing or not usable."""
    assert isinstance(config, TabularConfig)
    rows = rows_of(config)
    form = fitted(rows)
    places = [_place(config, name) for name in PARTS]
    train, valid, test = (_split(form, place, part) for place, part in zip(places, rows.parts, strict=True))
    return Table(form, train, valid, test)


def _place(config: TabularConfig, part: str) -> str:
    """Where the rows of this part are from, in words."""
    if getattr(config, f"{part}_path", None):
        return f"dataset.{part}_path"
    key = "dataset.path" if isinstance(config, TableConfig) else f"dataset.name={config.name}"
    return f"{key}, in its {part} part"


def _split(form: Form, place: str, part: pd.DataFrame) -> Split:
    """The inputs (N, D) and labels (N,) of a part's rows; UserError with `place` for a value that is none."""
    layout = TableLayout(form)
    try:
        return Split(layout.scaled(layout.raw(part)), form.labels(target_values(form.target, part[form.target.name])))
    except ValueError as error:
        raise UserError(f"{place}: {error}") from error


def target_values(target: Target, column: Any) -> NDArray[np.float64]:
    """The target's values (N,), of classes their positions 0 .. K - 1; raises ValueError that names a row."""
    levels = [text_of_value(label) for label in target.classes]
    values = positions(column, levels) if levels else column_numbers(column)
    if np.isnan(values).any():
        raise ValueError(f"row {int(np.argmax(np.isnan(values))) + 1}, column {column.name!r}: the value is missing")
    with np.errstate(over="ignore"):
        beyond = np.abs((values - target.mean) / target.scale) > _MOST_DEVIATIONS
    if not levels and beyond.any():
        row = int(np.argmax(beyond))
        raise ValueError(
            f"row {row + 1}, column {column.name!r}: {values[row]:g} is more than {_MOST_DEVIATIONS:g} standard "
            "deviations from the mean of the training part"
        )
    return values


def fitted(rows: Rows) -> Form:
    """The form of these rows: levels of all parts, means and deviations of the training part alone.

    A level that only other parts have is an input that is always 0 in training.
    Raises UserError that names a column which is neither numbers nor categories.
    """
    frame = pd.concat(rows.parts, ignore_index=True)
    names = [name for name in frame.columns if name != rows.target]
    for name in (name for name in frame.columns if is_number(frame[name]) and np.isinf(frame[name]).any()):
        raise UserError(f"dataset.path: column {name!r} has a value that is not finite")
    try:
        features = tuple(_feature(frame[name], rows.train[name], name in rows.categorical) for name in names)
        target = _target(frame[rows.target], rows.train[rows.target], rows.kind)
    except ValueError as error:
        raise UserError(f"dataset.path: {error}") from error
    counts = (len(rows.train), len(rows.valid), len(rows.test))
    return Form(features, target, tuple(rows.ignored), rows.fill, counts, rows.files)


def _feature(column: Any, train: Any, categorical: bool) -> Feature:
    name = str(column.name)
    if name.startswith("Unnamed: "):
        raise ValueError(
            f"column {name.removeprefix('Unnamed: ')} has no name, as where pandas wrote row numbers: name it, or "
            f"leave it out with dataset.ignore=['{name}']"
        )
    if train.isna().all():
        raise ValueError(
            f"column {name!r} has no value in the training part: leave it out with dataset.ignore=[{name}]"
        )
    if not categorical and is_number(column):
        scaler = _scaler(train, name)
        return Feature(name, (), (float(scaler.mean_[0]),), float(scaler.scale_[0]))
    if not categorical:
        _require_categories(column)
    levels = levels_of(column)
    if len(levels) > _MOST_LEVELS:
        raise ValueError(
            f"column {name!r} has {len(levels)} different texts, more than the {_MOST_LEVELS} of a category: leave it "
            f"out with dataset.ignore=[{name}]"
        )
    if not categorical and len(levels) > max(_FEW_LEVELS, column.count() / 2):
        warnings.warn(
            f"column {name!r} has {len(levels)} different texts in {column.count()} rows, and each becomes an input: "
            f"leave it out with dataset.ignore=[{name}], or say dataset.categorical=[{name}]",
            stacklevel=2,
        )
    codes = positions(train, levels)
    counts = np.bincount(codes[~np.isnan(codes)].astype(np.int64), minlength=len(levels))
    return Feature(name, tuple(levels), tuple((counts / max(int(counts.sum()), 1)).tolist()), 1.0)


def _scaler(train: Any, name: str) -> Any:
    """scikit-learn's mean_ and scale_ of a column of numbers; the deviation of equal numbers is 1."""
    from sklearn.preprocessing import StandardScaler  # here, since it takes a second to load

    return StandardScaler().fit(_within_range(column_numbers(train), name)[:, None])


def _within_range(values: NDArray[np.float64], name: str) -> NDArray[np.float64]:
    if len(values) and np.nanmax(np.abs(values), initial=0) > 1e150:
        raise ValueError(f"column {name!r} has numbers beyond 1e150, whose squares are no numbers")
    return values


def _require_categories(column: Any, remedy: str = "") -> None:
    """Raise ValueError for a column of dates, and for a column that mixes numbers and texts, or has decimal commas."""
    if pd.api.types.is_datetime64_any_dtype(column.dtype) or pd.api.types.is_timedelta64_dtype(column.dtype):
        raise ValueError(f"column {column.name!r} has dates: make numbers of them, or leave it out with dataset.ignore")
    texts = column.map(text_of_value, na_action="ignore")
    numbers = pd.to_numeric(texts, errors="coerce").notna() & column.notna()
    others = ~numbers & column.notna()
    if others.any() and numbers.sum() > others.sum():
        row = int(np.argmax(others.to_numpy()))
        raise ValueError(
            f"column {column.name!r} has numbers, and {str(column.iloc[row])[:40]!r} among them: leave that empty, or "
            + (remedy or f"say dataset.categorical=[{column.name}]")
        )
    if bool((texts.str.fullmatch(r"-?\d+,\d+") & column.notna()).any()):
        raise ValueError(f"column {column.name!r} has decimal commas, and numbers need points")


def _target(column: Any, train: Any, kind: Kind) -> Target:
    name, requested = str(column.name), kind
    values = pd.unique(column)
    if kind is Kind.auto:
        whole = is_number(column) and bool(((column == column.round()) & (column.abs() < _MOST_WHOLE)).all())
        discrete = whole and len(values) <= _MOST_CLASSES
        kind = Kind.classification if discrete or not is_number(column) else Kind.regression
    distinct = pd.unique(train) if kind is Kind.regression else values
    if len(distinct) < 2:
        raise ValueError(f"the target {name!r} has one value alone, {str(distinct[0])[:40]!r}: nothing can be learnt")
    if kind is Kind.regression:
        scaler = _scaler(train, name)
        return Target(name, (), float(scaler.mean_[0]), float(scaler.scale_[0]))
    if len(values) > _MOST_LEVELS:
        raise ValueError(f"the target {name!r} has {len(values)} different values, more than {_MOST_LEVELS} classes")
    if not is_number(column) and requested is Kind.auto:
        _require_categories(column, "say dataset.kind=classification")
    return Target(name, _classes(values), 0.0, 1.0)


def _classes(values: Any) -> tuple[Label, ...]:
    """The classes in order: whole numbers as such, anything else as text."""
    texts = {text_of_value(value) for value in values}
    if all(re.fullmatch(r"-?\d+", text) and str(int(text)) == text for text in texts):
        return tuple(sorted(map(int, texts)))
    return tuple(sorted(texts))
