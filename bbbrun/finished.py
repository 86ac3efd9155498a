"""Finished runs as they lie on the disk: what tables and figures are made of, without training anything."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import torch
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from torch import Tensor
from yaml import YAMLError

from bbbrun.errors import UserError
from bbbrun.files import CHECKPOINT, METRICS, PREDICTIONS, SUMMARY

_FREE = ("name", "seed", "device", "threads", "compile", "resume")


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
    def seed(self) -> int:
        return int(self.config["seed"])

    def metrics(self) -> pd.DataFrame:
        """metrics.csv; raises UserError where it cannot be read."""
        return self._table(METRICS)

    def predictions(self) -> pd.DataFrame:
        """predictions.csv; raises UserError where it cannot be read."""
        return self._table(PREDICTIONS)

    def parameters(self) -> list[Tensor]:
        """(mu, rho) of Bayes by Backprop, (weights,) of the other methods, out of checkpoint.pt.

        Raises UserError where the file is missing or cannot be read.
        """
        try:
            tensors: list[Tensor] = torch.load(self.folder / CHECKPOINT, weights_only=True)["tensors"]
        except Exception as error:
            raise UserError(
                f"{self.folder / CHECKPOINT} cannot be read: run it again, or leave its folder out"
            ) from error
        return tensors[: 2 if self.method == "bbb" else 1]

    def provenance(self) -> dict[str, Any]:
        """Where the run's numbers come from, for a row of a table."""
        versions = ", ".join(f"{name} {number}" for name, number in self.summary["versions"].items())
        return {key: self.summary[key] for key in ("command", "commit", "device")} | {"versions": versions}

    def _table(self, name: str) -> pd.DataFrame:
        try:
            return pd.read_csv(self.folder / name)
        except (OSError, ValueError) as error:
            raise UserError(f"{self.folder / name} cannot be read: run it again, or leave its folder out") from error


def finished_runs(folders: Iterable[Path]) -> list[Run]:
    """Every finished run in or below `folders`, once each, in the order of their paths.

    Raises UserError for a folder that is missing or holds none, and for a run whose record cannot be read.
    """
    found: dict[Path, Run] = {}
    for folder in folders:
        if not folder.is_dir():
            raise UserError(f"{folder} is not a folder: name one that holds runs, such as results/runs")
        runs = {path.parent.resolve(): _read(path.parent) for path in folder.rglob(SUMMARY)}
        if not runs:
            raise UserError(f"{folder} holds no finished run (no {SUMMARY} in or below it)")
        found |= runs
    return [found[path] for path in sorted(found)]


def latest(runs: Iterable[Run], key: Callable[[Run], tuple[str, int]]) -> list[Run]:
    """One run for each key (method or agent, and seed), the last in the order of folders, ordered by key."""
    chosen = {key(run): run for run in runs}
    return [chosen[key] for key in sorted(chosen)]


def setting(config: dict[str, Any]) -> str:
    """What a run was told, but for the seed and for what decides only where and how fast it runs or what it shows."""
    config = {key: value for key, value in config.items() if key not in _FREE}
    groups = {key: value for key, value in config.items() if isinstance(value, dict)}
    shown = {"root", "checkpoint_seconds", "evaluate_every", "test_samples"}
    kept = {name: {key: item for key, item in group.items() if key not in shown} for name, group in groups.items()}
    return json.dumps(config | kept, sort_keys=True)


def _read(folder: Path) -> Run:
    try:
        config: Any = OmegaConf.to_container(OmegaConf.load(folder / ".hydra" / "config.yaml"), resolve=True)
        run = Run(folder, config, json.loads((folder / SUMMARY).read_text()))
        _ = run.method, run.dataset, run.seed, run.provenance(), run.summary["metrics"], run.summary["seconds"]
    except (OSError, ValueError, KeyError, TypeError, YAMLError, OmegaConfBaseException) as error:
        raise UserError(f"the record of the run in {folder} cannot be read: leave its folder out") from error
    return run
