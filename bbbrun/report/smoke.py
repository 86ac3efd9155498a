"""What short runs must reach, `bbbrun check --smoke`: bounds from the records of full-length runs."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from bbbrun.errors import UserError
from bbbrun.report.groups import one_per_seed
from bbbrun.report.items.figure5 import summarise
from bbbrun.report.paper import standard_error
from bbbrun.runs.files import METRICS
from bbbrun.runs.identity import differing, setting
from bbbrun.runs.jobs import wanted
from bbbrun.runs.reader import Run, finished_runs

# A run is judged by the first of these groups that it has. Less is better.
_KINDS = (("test_error",), ("test_rmse", "test_nll"), ("cumulative_regret",))
# A regression is judged by this too, and more is better: its interquartile range at x = 1 divided by that inside the
# data, as in the paper's Figure 5. It exists for the end of a run only, short or full.
_WIDENING = "widening"
_LENGTH = {"train.epochs", "agent.steps"}  # what a short run may differ in
_DEVIATIONS = 3


def smoke(short: Sequence[Run], full: Sequence[Run]) -> pd.DataFrame:
    """A row for each judged number of each of the `short` runs: run, number, at, ours, bound, seeds, verdict.

    Each is compared with the longest full runs of its setting, one per seed. bound: their mean at the epoch or
    interaction where the short run ended, plus or minus 3 standard deviations over seeds. For MNIST's error rate the
    deviation is at least its binomial standard error. A learning rate that falls until a run's end makes a short run
    better than this. verdict: pass, miss, or not run: no full run is alike, or a single seed has no spread.
    Raises UserError for a run with none of the judged numbers.
    """
    return pd.DataFrame([row for run in short for row in _judged(run, full)])


def smoke_of(short: Path, full: Path) -> pd.DataFrame:
    """`smoke` of the latest runs of `bbbrun reproduce --only smoke` in `short`, against the runs in `full`.

    A missing run has the verdict not run. Raises UserError where a folder holds no runs, or a run is damaged.
    """
    runs, bounds = finished_runs([short]), finished_runs([full])
    tables = []
    for job in wanted(["smoke"], None):
        alike = [run for run in runs if setting(run.config) == setting(job.config) and run.seed == job.config["seed"]]
        try:
            tables.append(smoke(alike[-1:], bounds))
        except (KeyError, TypeError, ValueError, IndexError, OverflowError) as error:
            raise UserError(
                f"a run's record in {short} or {full} lacks something or holds something else ({error!r}): leave "
                "damaged runs out"
            ) from error
        if not alike:
            missing = {"run": shlex.join(["bbbrun", *job.words]), "number": "", "at": "", "ours": float("nan")}
            tables.append(pd.DataFrame([missing | {"bound": "", "seeds": 0, "verdict": "not run"}]))
    return pd.concat([table for table in tables if len(table)], ignore_index=True)


def _judged(run: Run, full: Sequence[Run]) -> list[dict[str, Any]]:
    time = _time(run)
    end = run.metrics()[time].iloc[-1]
    others = pd.DataFrame([numbers for other in _longest_alike(run, full) if (numbers := _numbers(other, time, end))])
    rows = []
    for name, ours in _numbers(run, time, end).items():
        row = {"run": run.summary["command"], "number": name, "at": f"{time} {end:g}", "ours": ours}
        spread = others[name].std() if len(others) > 1 else float("nan")
        if name == "test_error" and run.dataset == "mnist" and len(others):
            spread = max(standard_error(others[name].mean()), spread if len(others) > 1 else 0.0)
        if pd.isna(spread):
            rows.append(row | {"bound": "", "seeds": len(others), "verdict": "not run"})
            continue
        more = name == _WIDENING
        bound = others[name].mean() + (-_DEVIATIONS if more else _DEVIATIONS) * spread
        passed = ours >= bound if more else ours <= bound
        text = f"{'at least' if more else 'at most'} {bound:.4g}"
        rows.append(row | {"bound": text, "seeds": len(others), "verdict": "pass" if passed else "miss"})
    return rows


def _longest_alike(run: Run, full: Sequence[Run]) -> list[Run]:
    """The longest runs of the setting of `run`, at least as long as it and other than it, one per seed."""
    alike = [
        other
        for other in full
        if differing(setting(run.config), setting(other.config)) <= _LENGTH and other.summary != run.summary
    ]
    length = max((_length(other) for other in alike), default=0)
    longest = [other for other in alike if _length(other) == length >= _length(run)]
    return one_per_seed(longest)


def _time(run: Run) -> str:
    return "epoch" if run.config["train"]["epochs"] else "step"


def _length(run: Run) -> int:
    return int(run.config["train"]["epochs"] or run.config["agent"]["steps"])


def _numbers(run: Run, time: str, value: float) -> dict[str, float]:
    """The judged numbers in the run's row where the column `time` has this value; none where it has no such row."""
    table = run.metrics()
    rows = table[table[time] == value]
    if rows.empty:
        return {}
    names = next((names for names in _KINDS if set(names) <= set(table.columns)), None)
    if names is None:
        raise UserError(f"{run.folder / METRICS} has none of the numbers that are judged: leave its folder out")
    numbers = {name: float(rows[name].iloc[0]) for name in names}
    if run.dataset == "regression_curve":
        summary = summarise(run)
        numbers[_WIDENING] = summary["iqr_at_1"] / summary["iqr_inside"]
    return numbers
