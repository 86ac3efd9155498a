"""`bbbrun check --smoke`: each number of short runs, judged by recorded runs of the same setting."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import t

from bbbrun.errors import UserError
from bbbrun.report.groups import one_per_seed
from bbbrun.report.items.figure5 import summarise
from bbbrun.runs.identity import setting
from bbbrun.runs.jobs import wanted
from bbbrun.runs.reader import Run, finished_runs

_ALARMS = 0.01  # the share of sound runs that may have a number outside its band, at most
_LEAST_SEEDS = 3
_RELATIVE = 1e-3  # digits that a number must share with the record: rounding differs between machines
# Up to this many training steps a run of a recorded seed must have the record's digits; later, rounding grows. Compiled
# and eager steps agree to 1e-6 until then, and to 1e-4 in a bandit.
_DIGITS_UNTIL, _DIGITS_UNTIL_BANDIT = 100, 1000
# A regression's interquartile range at x = 1 divided by that inside the data, as in the paper's Figure 5, at its end.
_WIDENING = "widening"
Numbers = NDArray[np.float64]


def smoke(short: Sequence[Run], records: Sequence[Run]) -> pd.DataFrame:
    """A row for each column of each of the `short` runs and each rule: the time at which it is furthest off.

    Columns: run, number, rule, at, ours, least, most, seeds, verdict (pass, miss, not run). The rules are:
    band: at every row mean +- k s sqrt(1 + 1/n), of n >= 3 recorded runs of the same setting and other seeds. k is
    Student's quantile for n - 1 degrees of freedom at which at most 1 % of sound runs have any number outside
    (Bonferroni). digits: the record of the same seed, within a thousandth, in place of the band in a run's first rows.
    No band is narrower than a thousandth of its middle, or than one unit of what is counted, such as an image.
    Raises UserError for a run that cannot be read.
    """
    return pd.DataFrame([row for run in short for row in _judged(run, records)])


def smoke_of(short: Path, records: Path, seeds: Sequence[int] | None = None) -> pd.DataFrame:
    """`smoke` of the latest runs of `bbbrun reproduce --only smoke` in `short`, against those recorded in `records`.

    seeds: those that `--seeds` names, by default the listed ones. A missing run has the verdict not run. Raises
    UserError where a folder holds no runs, or a run is damaged.
    """
    runs, recorded = finished_runs([short]), finished_runs([records])
    tables = []
    for job in wanted(["smoke"], seeds):
        wanted_setting = setting(job.config)
        same_setting = [run for run in runs if run.seed == job.config["seed"] and setting(run.config) == wanted_setting]
        try:
            tables.append(smoke(same_setting[-1:], recorded))
        except (KeyError, TypeError, ValueError, IndexError, OverflowError) as error:
            raise UserError(
                f"a run's record in {short} or {records} lacks something or holds something else ({error!r}): leave "
                "damaged runs out"
            ) from error
        if not same_setting:
            missing = {"run": shlex.join(["bbbrun", *job.words])}
            tables.append(pd.DataFrame([missing | _NOTHING | {"seeds": 0, "verdict": "not run"}]))
    return pd.concat([table for table in tables if len(table)], ignore_index=True)


_NOTHING = {"number": "", "rule": "", "at": "", "ours": np.nan, "least": np.nan, "most": np.nan}


def _judged(run: Run, records: Sequence[Run]) -> list[dict[str, Any]]:
    run_setting = setting(run.config)
    same_setting = [each for each in records if setting(each.config) == run_setting and each.summary != run.summary]
    others = [_numbers(each) for each in one_per_seed(each for each in same_setting if each.seed != run.seed)]
    same_seed = [_numbers(each) for each in one_per_seed(each for each in same_setting if each.seed == run.seed)]
    ours = _numbers(run)
    head = {"run": run.summary["command"]}
    if len(others) < _LEAST_SEEDS or any(not ours.index.isin(other.index).all() for other in others + same_seed):
        return [head | _NOTHING | {"seeds": len(others), "verdict": "not run"}]
    columns = others[0].columns.union(ours.columns, sort=False)
    names = [name for name in columns if name not in ("seconds", ours.index.name)]
    # Where the digits are checked, a band would add nothing.
    is_early = _has_digits(run, ours) & bool(same_seed)
    early, late = ours.index[is_early], ours.index[~is_early]
    count = max(1, int(others[0].reindex(index=late, columns=names).notna().to_numpy().sum()))
    quantile = float(t.ppf(1 - _ALARMS / (2 * count), len(others) - 1)) * np.sqrt(1 + 1 / len(others))
    rows = []
    for name in names:
        recorded = np.array([_column(other, name, ours.index) for other in others])
        # The number of steps does not depend on the seed.
        unit = 0.0 if name == "step" else _unit(recorded)
        floor = np.maximum(_RELATIVE * np.abs(recorded.mean(axis=0)), unit)
        half = np.maximum(quantile * recorded.std(axis=0, ddof=1), floor)
        values = pd.Series(_column(ours, name, ours.index), ours.index)
        band = pd.DataFrame({"ours": values, "middle": recorded.mean(axis=0), "half": half})
        furthest = [("band", len(others), band.loc[late])]
        for other in same_seed:
            exact = band.assign(middle=_column(other, name, ours.index), half=floor)
            furthest.append(("digits", 1, exact.loc[early]))
        for rule, seeds, table in furthest:
            if worst := _worst(table, ours.index.name, seeds):
                rows.append(head | {"number": name, "rule": rule} | worst)
    return rows


def _has_digits(run: Run, table: pd.DataFrame) -> "pd.Series[bool]":
    """Whether each row is so early that rounding has not grown."""
    updates = run.config["agent"].get("updates")
    until = _DIGITS_UNTIL_BANDIT / updates if updates else _DIGITS_UNTIL
    return table["step"] <= until


def _worst(table: pd.DataFrame, time: Any, seeds: int) -> dict[str, Any] | None:
    """The row of `table` (ours, middle, half) that lies furthest outside its band, and the verdict.

    A number that only one of ours and the records has is a miss. None where neither has any.
    """
    table = table[table["ours"].notna() | table["middle"].notna()]
    if table.empty:
        return None
    excess = ((table["ours"] - table["middle"]).abs() / table["half"].clip(lower=1e-300)).fillna(np.inf)
    worst = int(np.argmax(excess.to_numpy()))
    ours, middle, half = (float(table[name].iloc[worst]) for name in ("ours", "middle", "half"))
    return {
        "at": f"{time} {table.index[worst]:g}",
        "ours": ours,
        "least": middle - half,
        "most": middle + half,
        "seeds": seeds,
        "verdict": "pass" if excess.iloc[worst] <= 1 else "miss",
    }


def _numbers(run: Run) -> pd.DataFrame:
    """metrics.csv by epoch or interaction; for a regression also the widening, in the last row."""
    table = run.metrics()
    table = table.set_index("epoch" if run.config["train"]["epochs"] else "step", drop=False)
    if run.dataset == "regression_curve":
        summary = summarise(run)
        table.loc[table.index[-1], _WIDENING] = summary["iqr_at_1"] / summary["iqr_inside"]
    return table


def _column(table: pd.DataFrame, name: str, index: pd.Index) -> Numbers:
    values = table[name] if name in table else pd.Series(np.nan, table.index)
    column: Numbers = np.asarray(values.reindex(index), dtype=np.float64)
    return column


def _unit(recorded: Numbers) -> float:
    """The step between the values of a column that counts, such as 0.5 % of 200 images; 0 where there is none."""
    values = np.unique(np.round(recorded[np.isfinite(recorded)], 9))
    if len(values) < 2:
        return 0.0
    unit = float(np.min(np.diff(values)))
    multiples = values / unit
    return unit if np.allclose(multiples, np.round(multiples), rtol=0, atol=1e-3) else 0.0
