"""Finished runs, read from their folders without loading torch."""

import csv
import io
import json
import math
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from bbbrun.errors import UserError, line_of
from bbbrun.runs.checkpoints import read_checkpoint
from bbbrun.runs.files import CHECKPOINT, INPUTS, METRICS, PREDICTIONS, RECORD, SUMMARY
from bbbrun.runs.identity import whole
from bbbrun.runs.record import MOST_INPUTS, configuration_of, content_of, read_summary, table_text
from bbbrun.schema.config import option

if TYPE_CHECKING:
    from torch import Tensor


# Errors of reading a damaged or foreign record.
UNREADABLE = (
    OSError,
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    OverflowError,
    RecursionError,
    YAMLError,
    OmegaConfBaseException,
)


class Run(NamedTuple):
    """A finished run: its folder, its composed configuration, and its summary.json.

    trusted: whether the user allows importing code that the record names.
    """

    folder: Path
    config: dict[str, Any]
    summary: dict[str, Any]
    trusted: bool = False

    @property
    def method(self) -> str:
        return str(self.config["method"]["name"])

    @property
    def dataset(self) -> str:
        return str(self.config["dataset"]["name"])

    @property
    def cold(self) -> bool:
        """Whether its posterior is tempered. Such a run must not be shown as the paper's objective."""
        return bool(self.config["method"].get("temperature", 1.0) != 1.0)

    @property
    def seed(self) -> int:
        return int(self.config["seed"])

    @property
    def has_weights(self) -> bool:
        """Whether the folder holds its checkpoint; a record does not."""
        return (self.folder / CHECKPOINT).exists()

    @property
    def has_predictions(self) -> bool:
        """Whether the folder holds predictions.csv."""
        return (self.folder / PREDICTIONS).exists()

    def options(self, group: str) -> Any:
        """What its record holds of a group, such as dataset, typed and checked; raises UserError naming the run."""
        try:
            return option(group, self.config[group])
        except UserError as error:
            raise UserError(f"{self.folder}: {error}") from None

    def network(self) -> Any:
        """The options of its network; raises UserError for code that the record names, unless the run is trusted."""
        options = self.options("network")
        if options.imports and not self.trusted:
            raise UserError(
                f"{self.folder}: its network is {str(options.target)[:80]}, code that would be imported and run: say "
                "--trust (from Python trust=True) where whoever made the run is trusted"
            )
        return options

    def metrics(self) -> pd.DataFrame:
        """metrics.csv; raises UserError where it cannot be read."""
        return self._table(METRICS)

    def predictions(self) -> pd.DataFrame:
        """predictions.csv; raises UserError where it cannot be read."""
        return self._table(PREDICTIONS)

    def inputs(self) -> str:
        """inputs.json, how a table's columns became inputs; raises UserError where it cannot be read."""
        try:
            return content_of(self.folder / INPUTS, MOST_INPUTS).decode("utf-8")
        except (OSError, ValueError) as error:
            raise _unreadable(self.folder / INPUTS, error) from error

    def tensors(self) -> "list[Tensor]":
        """The tensors in checkpoint.pt: the method's parameters first, each (copies * P,), the optimizer's, the step.

        Raises UserError where the file is missing or cannot be read.
        """
        try:
            tensors: list[Tensor] = read_checkpoint(self.folder / CHECKPOINT)["tensors"]
            # One number expanded by its strides to a billion would fill the memory when used.
            if any(each.numel() * each.element_size() > each.untyped_storage().nbytes() for each in tensors):
                raise ValueError("a tensor has more numbers than the file")
        except Exception as error:
            raise _unreadable(self.folder / CHECKPOINT, error) from error
        return tensors

    def provenance(self) -> dict[str, Any]:
        """The command, commit, device and versions that made the run's numbers."""
        versions = ", ".join(f"{name} {number}" for name, number in self.summary["versions"].items())
        return {key: self.summary[key] for key in ("command", "commit", "device")} | {"versions": versions}

    def _table(self, name: str) -> pd.DataFrame:
        try:
            table = pd.read_csv(io.StringIO(table_text(self.folder / name)))
            if table.empty or not all(pd.api.types.is_numeric_dtype(dtype) for dtype in table.dtypes):
                raise ValueError("no rows, or text where numbers belong")
            return table
        except (OSError, ValueError) as error:
            raise _unreadable(self.folder / name, error) from error


def _unreadable(what: Path | str, error: Exception) -> UserError:
    return UserError(f"{what} cannot be read: run it again, or leave its folder out ({line_of(error)[:120]})")


def finished_runs(folders: Iterable[Path], trust: bool = False) -> list[Run]:
    """All finished runs in or below `folders`, without duplicates, sorted by path. trust: as `Run.trusted`.

    Damaged runs are left out, and stderr names each. Raises UserError for a folder that is missing or holds no
    readable run.
    """
    runs: dict[Path, Run] = {}
    for folder in folders:
        if not folder.is_dir():
            raise UserError(f"{folder} is not a folder: name one that holds runs, such as results/runs")
        readable: dict[Path, Run] = {}
        errors: list[UserError] = []
        for summary in sorted(folder.rglob(SUMMARY)):
            try:
                readable[summary.parent.resolve()] = read(summary.parent)
            except UserError as error:
                errors.append(error)
        if not readable:
            raise errors[0] if errors else UserError(f"{folder} holds no finished run (no {SUMMARY} in or below it)")
        for reason in errors:
            print(f"left out: {reason}", file=sys.stderr)
        runs |= readable
    return _without_duplicates(runs[path]._replace(trusted=trust) for path in sorted(runs))


def _without_duplicates(runs: Iterable[Run]) -> list[Run]:
    """Drop duplicates (same folder name, configuration and summary); prefer the copy that has a checkpoint."""
    copies: dict[str, Run] = {}
    for run in runs:
        content = json.dumps([run.folder.name, run.config, run.summary], sort_keys=True)
        if content not in copies or (run.has_weights and not copies[content].has_weights):
            copies[content] = run
    return sorted(copies.values(), key=lambda run: run.folder.resolve())


def read(folder: Path) -> Run:
    """The finished run in `folder`; raises UserError where its record is damaged or incomplete."""
    try:
        run = Run(folder, whole(configuration_of(folder / RECORD)), read_summary(folder))
        if not all(isinstance(run.config.get(group, {}), dict) for group in ("network", "prior", "optimizer", "train")):
            raise ValueError("a value where keys belong")
        _ = run.method, run.dataset, run.seed, run.provenance(), run.summary["metrics"], run.summary["seconds"]
        if not all(
            isinstance(value, int | float) for value in (*run.summary["metrics"].values(), run.summary["seconds"])
        ):
            raise ValueError("text where numbers belong")
    except UNREADABLE as error:
        raise _unreadable(f"the record of the run in {folder}", error) from error
    _require_whole(run)
    return run


def _require_whole(run: Run) -> None:
    """Raise UserError where the last row of metrics.csv differs from summary.json: the table was cut off."""
    last = _last_row(run.folder / METRICS)
    for name, value in run.summary["metrics"].items():
        final = last.get(name, np.nan)
        if not np.isclose(final, value, rtol=1e-9, atol=0, equal_nan=name in last):
            raise UserError(
                f"{run.folder / METRICS} ends in {name} {final:g} where {SUMMARY} has {value:g}: it was cut off or "
                "changed: run it again, or leave its folder out"
            )


def _last_row(path: Path) -> dict[str, float]:
    """The last row of a table of numbers, nan where a cell is empty, in a tenth of the time that pandas takes.

    Raises UserError where the table has no rows, or text anywhere in them.
    """
    try:
        head, *rows = filter(None, csv.reader(io.StringIO(table_text(path))))
        numbers = [[float(cell or "nan") for cell in row] for row in rows]
        if not numbers or any(len(row) > len(head) for row in numbers):
            raise ValueError("no rows, or longer ones than the head")
    except (OSError, ValueError, csv.Error) as error:
        raise _unreadable(path, error) from error
    return dict.fromkeys(head, math.nan) | dict(zip(head, numbers[-1], strict=False))
