"""What short runs must reach: `bbbrun-check --smoke`, against bounds that the records of full-length runs give."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from bbbrun.errors import UserError
from bbbrun.report.items.figure5 import summarise
from bbbrun.report.paper import standard_error
from bbbrun.runs.files import METRICS
from bbbrun.runs.identity import differing, setting
from bbbrun.runs.jobs import wanted
from bbbrun.runs.reader import Run, finished_runs, latest

# What is judged of a run that has all of these; less is better, but for _WIDENING.
_KINDS = (("test_error",), ("test_rmse", "test_nll"), ("cumulative_regret",))
# Of a regression, how many times as wide as inside the data the interquartile range is at x = 1: the paper's Figure 5.
# It is that of the finished run, short or full.
_WIDENING = "widening"
_LENGTH = {"train.epochs", "agent.steps"}  # what a short run may differ in
_DEVIATIONS = 3


def smoke(short: Sequence[Run], full: Sequence[Run]) -> pd.DataFrame:
    """A row for each judged number of each of the `short` runs: run, number, at, ours, bound, seeds, verdict.

    The full runs of the same setting are the longest of it, one for each seed. bound: their mean when they had come as
    far as the short one, plus or minus 3 standard deviations over the seeds; of MNIST's error rate at least 3 of its
    binomial standard errors. Where the learning rate falls until a run's end, a short one does better than that.
    verdict: pass, miss, or not run, where no full run is like the short one or one seed alone has no spread.
    Raises UserError for a run of no kind that is judged.
    """
    return pd.DataFrame([row for run in short for row in _judged(run, full)])


def smoke_of(short: Path, full: Path) -> pd.DataFrame:
    """`smoke` of the runs that `scripts/reproduce --only smoke` leaves in `short`, the last of each, against `full`'s.

    One that is not there is not run. Raises UserError where a folder holds no runs, or a run lacks what is judged.
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
    then = pd.DataFrame([numbers for other in _longest_alike(run, full) if (numbers := _numbers(other, time, end))])
    rows = []
    for name, ours in _numbers(run, time, end).items():
        row = {"run": run.summary["command"], "number": name, "at": f"{time} {end:g}", "ours": ours}
        spread = then[name].std() if len(then) > 1 else float("nan")
        if name == "test_error" and run.dataset == "mnist" and len(then):
            spread = max(standard_error(then[name].mean()), spread if len(then) > 1 else 0.0)
        if pd.isna(spread):
            rows.append(row | {"bound": "", "seeds": len(then), "verdict": "not run"})
            continue
        more = name == _WIDENING
        bound = then[name].mean() + (-_DEVIATIONS if more else _DEVIATIONS) * spread
        passed = ours >= bound if more else ours <= bound
        said = f"{'at least' if more else 'at most'} {bound:.4g}"
        rows.append(row | {"bound": said, "seeds": len(then), "verdict": "pass" if passed else "miss"})
    return rows


def _longest_alike(run: Run, full: Sequence[Run]) -> list[Run]:
    """The longest runs of the setting of `run`, as long as it or longer, one for each seed, and not itself."""
    alike = [
        other
        for other in full
        if differing(setting(run.config), setting(other.config)) <= _LENGTH and other.summary != run.summary
    ]
    length = max((_length(other) for other in alike), default=0)
    longest = [other for other in alike if _length(other) == length >= _length(run)]
    return latest(longest, lambda other: other.seed)


def _time(run: Run) -> str:
    return "epoch" if run.config["train"]["epochs"] else "step"


def _length(run: Run) -> int:
    return int(run.config["train"]["epochs"] or run.config["agent"]["steps"])


def _numbers(run: Run, time: str, value: float) -> dict[str, float]:
    """What is judged of the run, as it stood at `value` of the column `time`; nothing where it has no such row."""
    table = run.metrics()
    at = table[table[time] == value]
    if at.empty:
        return {}
    names = next((names for names in _KINDS if set(names) <= set(table.columns)), None)
    if names is None:
        raise UserError(f"{run.folder / METRICS} has none of the numbers that are judged: leave its folder out")
    numbers = {name: float(at[name].iloc[0]) for name in names}
    if run.dataset == "regression_curve":
        shown = summarise(run)
        numbers[_WIDENING] = shown["iqr_at_1"] / shown["iqr_inside"]
    return numbers
