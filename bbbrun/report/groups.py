"""Groups of runs: the runs of each setting, their means, and tables."""

from collections.abc import Callable, Hashable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd
from torch import Tensor

from bbbrun.bayes.networks import Network
from bbbrun.errors import UserError
from bbbrun.runs.identity import setting
from bbbrun.runs.reader import Run
from bbbrun.tasks.kinds import predictor
from bbbrun.tasks.prediction import parameters_of

Key = TypeVar("Key", bound=Hashable)
Setting = frozenset[tuple[str, str]]


class NothingToShow(UserError):
    """No run has the data of a table or figure; the text names a run that would."""


def grouped(runs: Iterable[Run], key: Callable[[Run], Key]) -> dict[Key, list[Run]]:
    """The runs of each key, keys and runs in the order of `runs`."""
    groups: dict[Key, list[Run]] = {}
    for run in runs:
        groups.setdefault(key(run), []).append(run)
    return groups


def by_setting(runs: Iterable[Run]) -> dict[Setting, list[Run]]:
    """The runs of each setting: those that differ in their seed, and in where and how they ran."""
    return grouped(runs, lambda run: setting(run.config))


def one_per_seed(runs: Iterable[Run]) -> list[Run]:
    """One run for each seed, ordered by seed: the last of `runs`, which the reader sorts by folder."""
    latest = {run.seed: run for run in runs}
    return [latest[seed] for seed in sorted(latest)]


def one_setting(runs: Iterable[Run], label: Callable[[Run], str]) -> list[Run]:
    """The runs to show under each label, one per seed: the setting with most seeds, or the latest of several such."""
    chosen: list[Run] = []
    for _, group in sorted(grouped(runs, label).items()):
        candidates = [one_per_seed(alike) for alike in by_setting(group).values()]
        chosen += sorted(candidates, key=_seeds_then_folder)[-1]
    return chosen


def _seeds_then_folder(group: list[Run]) -> tuple[int, str]:
    return len(group), str(group[-1].folder)


def mean_and_spread(table: pd.DataFrame, keys: list[str], names: list[str]) -> pd.DataFrame:
    """A row per combination of the keys: the number of `runs`, the means of `names`, standard deviations NAME_std."""
    groups = table.groupby(keys, dropna=False, sort=False)
    columns: dict[str, pd.Series] = {"runs": groups.size()}
    for name in names:
        columns |= {name: groups[name].mean(), f"{name}_std": groups[name].std()}
    return pd.DataFrame(columns).reset_index()


def short(value: float, digits: int = 4, sign: str = "") -> str:
    """A number with `digits` significant digits, and all digits before the point; sign "+" always shows the sign."""
    return f"{value:{sign},.0f}" if abs(value) >= 10**digits else f"{value:{sign}.{digits}g}"


def markdown(table: pd.DataFrame) -> str:
    """A table in Markdown, with four significant digits."""

    def text(value: Any) -> str:
        return "" if pd.isna(value) else f"{value:.4g}" if isinstance(value, float) else str(value)

    lines = ["| " + " | ".join(map(str, table.columns)) + " |", "|---" * len(table.columns) + "|"]
    lines += ["| " + " | ".join(map(text, row)) + " |" for row in table.itertuples(index=False)]
    return "\n".join([*lines, ""])


def write_table(table: pd.DataFrame, output: Path, name: str) -> None:
    """Write NAME.csv into `output`, which need not exist, with six significant digits."""
    output.mkdir(parents=True, exist_ok=True)
    table.to_csv(output / f"{name}.csv", index=False, float_format="%.6g")


def write_runs(runs: Iterable[Run], output: Path, details: Callable[[Run], dict[str, Any]] = lambda run: {}) -> None:
    """Write runs.csv into `output`: the seed, time and provenance of each run shown there, and its `details`."""
    rows = [{"seed": run.seed, "seconds": run.summary["seconds"]} | run.provenance() | details(run) for run in runs]
    pd.DataFrame(rows).to_csv(output / "runs.csv", index=False)


def parameters(run: Run) -> list[Tensor]:
    """The method's parameters of a run on images, each (P,); raises UserError as `parameters_of` does."""
    return parameters_of(run, network_of(run).size)


def network_of(run: Run) -> Network:
    """The network of a run on images."""
    return predictor(run).network
