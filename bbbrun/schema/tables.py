"""The options of `dataset` that are tables: a user's own file, and the UCI regression sets."""

from enum import StrEnum
from typing import Any, ClassVar

from bbbrun.schema.checks import require, require_deviation
from bbbrun.schema.datasets import DatasetConfig
from bbbrun.schema.structured import structured

Kind = StrEnum("Kind", ["auto", "regression", "classification"])
Missing = StrEnum("Missing", ["error", "drop", "mean"])

Noise = StrEnum("Noise", ["varying", "constant"])

MOST_SPLITS = 20  # the standard ones of a UCI set


@structured
class TabularConfig(DatasetConfig):
    """Rows of columns. valid_share: of the training rows in a UCI set, of all rows in a user's table.

    noise: whether the predicted deviation of a number is a function of the inputs, or one number for all rows.
    sigma_floor: its lower bound, in deviations of the training part's target.
    """

    validation: ClassVar[tuple[str, ...]] = ("valid_share",)
    valid_share: float
    noise: Noise
    sigma_floor: float

    def __post_init__(self) -> None:
        require(0 <= self.valid_share < 1, "dataset.valid_share", "at least 0 and below 1", self.valid_share)
        require_deviation("dataset.sigma_floor", self.sigma_floor)


@structured
class TableConfig(TabularConfig):
    """A user's file, and how its rows become training, validation and test parts."""

    validation: ClassVar[tuple[str, ...]] = ("valid_share", "valid_path", "split_column")
    path: str | None
    target: str | None
    kind: Kind
    ignore: list[str]
    categorical: list[str]
    missing: Missing
    test_share: float
    split_column: str | None
    valid_path: str | None
    test_path: str | None
    split_seed: int

    def __post_init__(self) -> None:
        TabularConfig.__post_init__(self)
        require(0 < self.test_share < 1, "dataset.test_share", "above 0 and below 1", self.test_share)
        most = 1 - self.test_share
        require(
            self.valid_share < most, "dataset.valid_share", f"below 1 - dataset.test_share = {most:g}", self.valid_share
        )
        require(0 <= self.split_seed < 2**31, "dataset.split_seed", "from 0 to 2147483647", self.split_seed)
        for key in ("path", "target", "split_column", "valid_path", "test_path"):
            require(getattr(self, key) != "", f"dataset.{key}", "a name, or null", "an empty word")
        if self.split_column is not None:
            for key in ("valid_path", "test_path"):
                require(getattr(self, key) is None, f"dataset.{key}", "null with dataset.split_column", "a file")
        names = [name for name in (self.target, self.split_column) if name is not None]
        for key in ("ignore", "categorical"):
            for name in getattr(self, key):
                require(name not in names, f"dataset.{key}", "some of the columns of inputs", name)
        require(len(set(names)) == len(names), "dataset.split_column", "another column than the target", self.target)


@structured
class UciConfig(TabularConfig):
    """A UCI regression set by one of its standard splits; root: the folder that holds uci/, or the sets themselves."""

    root: str | None
    split: int

    def __post_init__(self) -> None:
        TabularConfig.__post_init__(self)
        require(0 <= self.split < MOST_SPLITS, "dataset.split", f"from 0 to {MOST_SPLITS - 1}", self.split)


UCI = ("boston", "concrete", "energy", "kin8nm", "naval", "power", "protein", "wine", "yacht")

# option -> dataclass
TABLES: dict[str, type[Any]] = {"table": TableConfig} | dict.fromkeys(UCI, UciConfig)
