"""The layout of a network's inputs: rows in a file's own units, and the tensors that they become, as in training."""

from typing import Any, NamedTuple, Protocol

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from bbbrun.data.tables.names import require_columns
from bbbrun.data.tables.values import is_number


class Layout(Protocol):
    """The layout of inputs.

    shape: of one input of the network. size: (H, W) of a picture, or None. texts: columns of a file that hold texts,
    even where they look like numbers.
    """

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def size(self) -> tuple[int, int] | None: ...

    @property
    def texts(self) -> tuple[str, ...]: ...

    def raw(self, values: Any, first: int = 0) -> Tensor:
        """The inputs of an array or a pandas.DataFrame, checked, in their own units.

        float32 (N, *shape); of a table float64 (N, columns).

        first: the number of the first row, from 0. Raises ValueError that names the size, or the row and column.
        """

    def scaled(self, raw: Tensor) -> Tensor:
        """The inputs as the network sees them, (N, *shape)."""

    def far(self, values: Any, first: int = 0) -> list[str]:
        """Each row with a number over 10 standard deviations of the training rows away from their mean, in words.

        Such as "row 3, area": the farthest column. Empty where the layout does not know these. Arguments and errors as
        of `raw`.
        """


class ImageLayout(NamedTuple):
    """Images of one channel: (N, H, W), (N, 1, H, W), or a row of H * W pixels each, from 0 to `brightest`.

    The network sees pixels / divisor. shape: (1, H, W).
    """

    shape: tuple[int, int, int]
    divisor: float
    brightest: float

    @property
    def size(self) -> tuple[int, int] | None:
        return self.shape[1:]

    @property
    def texts(self) -> tuple[str, ...]:
        return ()

    def raw(self, values: Any, first: int = 0) -> Tensor:
        _, height, width = self.shape
        count = height * width
        expected = f"images (N, {height}, {width}) of finite pixels"
        if isinstance(values, pd.DataFrame):
            if len(values.columns) != count:
                surplus = f", as {str(values.columns[count])!r} is one too many" if len(values.columns) > count else ""
                raise ValueError(
                    f"a row must be the {count} pixels of an image, {height} x {width}, not "
                    f"{len(values.columns)} columns{surplus}"
                )
            pixels = numbers(values, first)
        else:
            pixels = _array(values, expected)
            if pixels.shape[1:] not in (self.shape, self.shape[1:], (count,)):
                raise ValueError(f"inputs must be {expected}, not an array {pixels.shape}")
            pixels = pixels.reshape(len(pixels), count)
            _require_finite(pixels, expected, first)
        outside = (pixels < 0) | (pixels > self.brightest)
        if outside.any():
            row, column = np.argwhere(outside)[0]
            raise ValueError(
                f"row {first + row + 1}: pixel {column + 1} is {pixels[row, column]:g}, and this run's pixels are "
                f"from 0 to {self.brightest:g}"
            )
        return torch.from_numpy(pixels.reshape(-1, *self.shape))

    def scaled(self, raw: Tensor) -> Tensor:
        return raw / self.divisor

    def far(self, values: Any, first: int = 0) -> list[str]:
        return []


class ColumnsLayout(NamedTuple):
    """Rows of numbers: columns of these names in any order, or an array (N, D) of them in this order."""

    names: tuple[str, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.names),)

    @property
    def size(self) -> tuple[int, int] | None:
        return None

    @property
    def texts(self) -> tuple[str, ...]:
        return ()

    def raw(self, values: Any, first: int = 0) -> Tensor:
        expected = f"finite numbers (N, {len(self.names)})" + (" or (N,)" if len(self.names) == 1 else "")
        if isinstance(values, pd.DataFrame) and not isinstance(values.columns, pd.RangeIndex):
            names = [str(name) for name in values.columns]
            require_columns(self.names, names)
            return torch.from_numpy(numbers(values[list(self.names)], first))
        if isinstance(values, pd.DataFrame):
            rows = numbers(values, first)
        else:
            rows = _array(values, expected)
            rows = rows[:, None] if rows.ndim == 1 else rows
        if rows.shape[1:] != self.shape:
            raise ValueError(f"inputs must be {expected}, not an array {rows.shape}")
        _require_finite(rows, expected, first)
        return torch.from_numpy(rows)

    def scaled(self, raw: Tensor) -> Tensor:
        return raw

    def far(self, values: Any, first: int = 0) -> list[str]:
        return []


def numbers(frame: pd.DataFrame, first: int = 0) -> NDArray[np.float32]:
    """The table as float32 (N, D).

    Raises ValueError that names the row, from 1 and `first` more, and the column of what is missing, or no number.
    """
    for position, dtype in enumerate(frame.dtypes):
        if not is_number(dtype):
            column = frame.iloc[:, position]
            text = column.astype(str) if pd.api.types.is_bool_dtype(dtype) else column
            bad = np.flatnonzero((pd.to_numeric(text, errors="coerce").isna() & column.notna()).to_numpy())
            if len(bad):
                value = str(column.iloc[bad[0]])[:40]
                raise ValueError(f"row {first + bad[0] + 1}, column {_name(frame, position)}: {value!r} is no number")
    with np.errstate(over="ignore"):
        values = np.array(frame.to_numpy(np.float32, na_value=np.nan), order="C")
    if not np.isfinite(values).all():
        row, position = np.argwhere(~np.isfinite(values))[0]
        reason = "is missing" if pd.isna(frame.iloc[row, position]) else "is no finite float32"
        raise ValueError(f"row {first + row + 1}, column {_name(frame, position)}: the value {reason}")
    return values


def _name(frame: pd.DataFrame, position: int) -> str:
    """The column's name in quotes; of a table without names its number, from 1."""
    return str(position + 1) if isinstance(frame.columns, pd.RangeIndex) else repr(str(frame.columns[position]))


def _array(values: Any, expected: str) -> NDArray[np.float32]:
    """An array of one dimension or more, as float32 in C order that may be written to."""
    try:
        with np.errstate(over="ignore"):
            array = np.array(values, dtype=np.float32, order="C")
    except (TypeError, ValueError) as error:
        raise ValueError(f"inputs must be {expected}: {error}") from error
    if array.ndim == 0:
        raise ValueError(f"inputs must be {expected}, not a single number")
    return array


def _require_finite(values: NDArray[np.float32], expected: str, first: int) -> None:
    if not np.isfinite(values).all():
        row, column = np.argwhere(~np.isfinite(values))[0]
        raise ValueError(
            f"inputs must be {expected}: number {column + 1} of row {first + row + 1} is {values[row, column]}"
        )
