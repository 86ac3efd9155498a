"""Finished runs as they lie on the disk: what tables and figures are made of, without training anything."""

import json
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from bbbrun.errors import UserError
from bbbrun.runs.files import CHECKPOINT, METRICS, PREDICTIONS, SUMMARY
from bbbrun.runs.identity import setting, whole

if TYPE_CHECKING:
    from torch import Tensor


class NothingToShow(UserError):
    """No run gives what a table or figure shows; its text says which run would."""


class Run(NamedTuple):
    """A finished run: its folder, the configuration it was composed of, and its summary.json."""

    folder: Path
    config: dict[str, Any]
    summary: dict[str, Any]

    @property
    def method(self) -> str:
        return str(self.config["method"]["name"])

    @property
    def dataset(self) -> str:
        return str(self.config["dataset"]["name"])

    @property
    def cold(self) -> bool:
        """Whether its posterior is tempered: never to be shown as the paper's objective."""
        return bool(self.config["method"].get("temperature", 1.0) != 1.0)

    @property
    def seed(self) -> int:
        return int(self.config["seed"])

    @property
    def has_weights(self) -> bool:
        """Whether its weights are here, and not its record alone."""
        return (self.folder / CHECKPOINT).exists()

    def metrics(self) -> pd.DataFrame:
        """metrics.csv; raises UserError where it cannot be read."""
        return self._table(METRICS)

    def predictions(self) -> pd.DataFrame:
        """predictions.csv; raises UserError where it cannot be read."""
        return self._table(PREDICTIONS)

    def tensors(self) -> "list[Tensor]":
        """The tensors of checkpoint.pt: the method's parameters first, then the optimizer's, then the step.

        Raises UserError where the file is missing or cannot be read.
        """
        import torch  # here, since it takes seconds to load, and most of what is read needs none

        try:
            tensors: list[Tensor] = torch.load(self.folder / CHECKPOINT, weights_only=True)["tensors"]
        except Exception as error:
            raise UserError(
                f"{self.folder / CHECKPOINT} cannot be read: run it again, or leave its folder out"
            ) from error
        return tensors

    def provenance(self) -> dict[str, Any]:
        """Where the run's numbers come from, for a row of a table."""
        versions = ", ".join(f"{name} {number}" for name, number in self.summary["versions"].items())
        return {key: self.summary[key] for key in ("command", "commit", "device")} | {"versions": versions}

    def _table(self, name: str) -> pd.DataFrame:
        try:
            table = pd.read_csv(self.folder / name)
            if table.empty or not all(pd.api.types.is_numeric_dtype(dtype) for dtype in table.dtypes):
                raise ValueError("no rows, or text where numbers belong")
            return table
        except (OSError, ValueError) as error:
            raise UserError(f"{self.folder / name} cannot be read: run it again, or leave its folder out") from error


def finished_runs(folders: Iterable[Path]) -> list[Run]:
    """Every finished run in or below `folders`, once each, in the order of their paths.

    Names each damaged one, and leaves it out. Raises UserError for a folder that is missing, or holds no other.
    """
    found: dict[Path, Run] = {}
    for folder in folders:
        if not folder.is_dir():
            raise UserError(f"{folder} is not a folder: name one that holds runs, such as results/runs")
        runs: dict[Path, Run] = {}
        damaged: list[UserError] = []
        for path in sorted(folder.rglob(SUMMARY)):
            try:
                runs[path.parent.resolve()] = read(path.parent)
            except UserError as error:
                damaged.append(error)
        if not runs:
            raise damaged[0] if damaged else UserError(f"{folder} holds no finished run (no {SUMMARY} in or below it)")
        for reason in damaged:
            print(f"left out: {reason}", file=sys.stderr)
        found |= runs
    return _once(found[path] for path in sorted(found))


def _once(runs: Iterable[Run]) -> list[Run]:
    """The runs without copies of them, which keep the folder's name; of a run and its record the run."""
    found: dict[str, Run] = {}
    for run in runs:
        name = json.dumps([run.folder.name, run.config, run.summary], sort_keys=True)
        if name not in found or (run.has_weights and not found[name].has_weights):
            found[name] = run
    return sorted(found.values(), key=lambda run: run.folder.resolve())


def write_runs(runs: Iterable[Run], output: Path, told: Callable[[Run], dict[str, Any]] = lambda run: {}) -> None:
    """Write runs.csv into `output`: of each run shown there its seed, time and provenance, and what is told of it."""
    rows = [{"seed": run.seed, "seconds": run.summary["seconds"]} | run.provenance() | told(run) for run in runs]
    pd.DataFrame(rows).to_csv(output / "runs.csv", index=False)


def latest(runs: Iterable[Run], key: Callable[[Run], Any]) -> list[Run]:
    """One run for each key (a seed, say), the last in the order of folders, ordered by key."""
    chosen = {key(run): run for run in runs}
    return [chosen[key] for key in sorted(chosen)]


def one_setting(runs: Iterable[Run], label: Callable[[Run], str]) -> list[Run]:
    """The runs to show under each label, one for each seed: of several settings the one of most seeds, or latest."""
    groups: dict[str, dict[Any, list[Run]]] = {}
    for run in runs:
        groups.setdefault(label(run), {}).setdefault(setting(run.config), []).append(run)
    chosen: list[Run] = []
    for _, settings in sorted(groups.items()):
        candidates = (latest(group, lambda run: run.seed) for group in settings.values())
        chosen += sorted(candidates, key=_seeds_then_folder)[-1]
    return chosen


def _seeds_then_folder(group: list[Run]) -> tuple[int, str]:
    return len(group), str(group[-1].folder)


def read(folder: Path) -> Run:
    """The finished run in `folder`; raises UserError where its record cannot be read, or is not whole."""
    try:
        config: Any = OmegaConf.to_container(OmegaConf.load(folder / ".hydra" / "config.yaml"), resolve=True)
        run = Run(folder, whole(config), json.loads((folder / SUMMARY).read_text()))
        _ = run.method, run.dataset, run.seed, run.provenance(), run.summary["metrics"], run.summary["seconds"]
        if not all(
            isinstance(value, int | float) for value in (*run.summary["metrics"].values(), run.summary["seconds"])
        ):
            raise ValueError("text where numbers belong")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, YAMLError, OmegaConfBaseException) as error:
        raise UserError(
            f"the record of the run in {folder} cannot be read: run it again, or leave its folder out"
        ) from error
    _require_whole(run)
    return run


def _require_whole(run: Run) -> None:
    """Raise UserError where metrics.csv does not end in the metrics of summary.json, as when it was cut off."""
    last = run.metrics().iloc[-1]
    for name, value in run.summary["metrics"].items():
        ended = last.get(name, np.nan)
        if not np.isclose(ended, value, rtol=1e-9, atol=0, equal_nan=name in last):
            raise UserError(
                f"{run.folder / METRICS} ends in {name} {ended:g} where {SUMMARY} has {value:g}: it was cut off or "
                "changed: run it again, or leave its folder out"
            )
