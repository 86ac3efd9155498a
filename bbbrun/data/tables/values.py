"""The values of a table's columns as numbers or as indices of a category's levels, checked one by one."""

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from bbbrun.data.tables.form import Feature, Form
from bbbrun.data.tables.names import require_columns, some_of

_FAR = 10.0  # standard deviations


class TableLayout(NamedTuple):
    """Rows of the columns that a run learnt from, by name in any order, or without names in the order of `form`.

    The columns that the run ignored, and its target, may be present; they are ignored.
    """

    form: Form

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.form.width,)

    @property
    def size(self) -> tuple[int, int] | None:
        return None

    @property
    def texts(self) -> tuple[str, ...]:
        return self.form.texts

    def raw(self, values: Any, first: int = 0) -> Tensor:
        """float64 (N, columns): numbers, the positions of levels, and NaN where a missing value is to be filled."""
        names = [feature.name for feature in self.form.features]
        frame = values if isinstance(values, pd.DataFrame) else _frame(values)
        if isinstance(frame.columns, pd.RangeIndex):
            if len(frame.columns) != len(names):
                raise ValueError(f"a row must be the {len(names)} columns {some_of(names)}, not {len(frame.columns)}")
            frame = frame.set_axis(names, axis=1)
        present = [str(name) for name in frame.columns]
        require_columns(names, present, (self.form.target.name, *self.form.ignored))
        frame = frame.set_axis(present, axis=1)
        columns = [self._values(frame[feature.name], feature, first) for feature in self.form.features]
        return torch.from_numpy(np.stack(columns, axis=1))

    def _values(self, column: Any, feature: Feature, first: int) -> NDArray[np.float64]:
        values = positions(column, feature.levels, first) if feature.levels else column_numbers(column, first)
        if not self.form.fill and np.isnan(values).any():
            row = int(np.argmax(np.isnan(values)))
            raise ValueError(f"row {first + row + 1}, column {feature.name!r}: the value is missing")
        return values

    def scaled(self, raw: Tensor) -> Tensor:
        return self.form.scaled(raw)

    def far(self, values: Any, first: int = 0) -> list[str]:
        # Numbers are standardised, and of a category the inputs are 0 or 1.
        farthest, columns = self.scaled(self.raw(values, first)).abs().max(dim=1)
        names = [each.name for each in self.form.features for _ in each.levels or [None]]
        rows = (farthest > _FAR).nonzero()[:, 0].tolist()
        return [f"row {first + row + 1}, {names[columns[row]]}" for row in rows]


def is_number(column: Any) -> bool:
    """Whether a column, or its dtype, is of numbers; truth values are none."""
    return pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)


def column_numbers(column: Any, first: int = 0) -> NDArray[np.float64]:
    """A column as float64 (N,), NaN where a value is missing; raises ValueError naming a row that is no number."""
    if is_number(column):
        values = column.to_numpy(np.float64, na_value=np.nan)
    else:
        # Only texts: pandas would convert a date to nanoseconds, and True to 1.
        texts = column.map(text_of_value, na_action="ignore")
        values = pd.to_numeric(texts, errors="coerce").to_numpy(np.float64)
        bad = np.flatnonzero(np.isnan(values) & column.notna().to_numpy())
        if len(bad):
            raise ValueError(
                f"row {first + bad[0] + 1}, column {column.name!r}: {str(column.iloc[bad[0]])[:40]!r} is no number"
            )
    if np.isinf(values).any():
        raise ValueError(f"row {first + int(np.argmax(np.isinf(values))) + 1}, column {column.name!r}: not finite")
    return np.array(values)


def positions(column: Any, levels: Sequence[str], first: int = 0) -> NDArray[np.float64]:
    """The position of each value among `levels`, float64 (N,), NaN where it is missing; ValueError for any other.

    1.0 is the level 1 and True the level TRUE where these are no levels themselves.
    """
    codes, values = pd.factorize(column)
    numbers = {_plain(level): number for number, level in enumerate(levels)}
    numbers |= {level: number for number, level in enumerate(levels)}
    texts = [text_of_value(value) for value in values]
    indices = [numbers.get(text, numbers.get(_plain(text), -1)) for text in texts]
    result = np.array([*indices, np.nan], np.float64)[codes]
    if -1 in indices:
        row = int(np.argmax(result == -1))
        raise ValueError(
            f"row {first + row + 1}, column {column.name!r}: {str(column.iloc[row])[:40]!r} is not among the "
            f"{len(levels)} values that this run knows: {some_of(levels)}"
        )
    return result


def _plain(text: str) -> str:
    """A whole number without decimals, and a truth value in small letters; any other text as it is."""
    if re.fullmatch(r"-?\d+\.0+", text):
        return text.partition(".")[0]
    return text.casefold() if text.casefold() in ("true", "false") else text


def levels_of(column: Any) -> list[str]:
    """The distinct values of a column as text, sorted; missing ones are left out."""
    return sorted({text_of_value(value) for value in pd.unique(column.dropna())})


def text_of_value(value: Any) -> str:
    """A value as text: a whole number has no decimals, even if its column has fractions or gaps elsewhere."""
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    return str(value)


def _frame(values: Any) -> pd.DataFrame:
    array = np.asarray(values)
    if array.ndim != 2:
        raise ValueError(f"inputs must be rows of columns, (N, columns), not an array {array.shape}")
    return pd.DataFrame(array)
