"""Any group of runs as one table: `bbbrun report FOLDERS --by KEY`, means over seeds, the best by validation first."""

from pathlib import Path
from typing import Any

import pandas as pd

from bbbrun.errors import UserError
from bbbrun.report.groups import grouped, markdown, mean_and_spread, one_per_seed, write_runs, write_table
from bbbrun.report.plots import COMPARED, compared_curves
from bbbrun.runs.identity import differing, setting
from bbbrun.runs.reader import Run
from bbbrun.runs.record import value_of

# Rows are ordered by the first of these that a run reports, lowest first, and never by the test. Of a bandit by the
# expected regret, which has less noise than the one that sweepers minimise.
_JUDGES = ("valid_error", "valid_nll", "cumulative_expected_regret")


def by_keys(runs: list[Run], keys: list[str], output: Path) -> list[str]:
    """Write a row for each combination of the keys' values into `output`; return messages.

    by.csv and by.md: the mean and standard deviation of every final metric over the runs of a combination, one per
    seed. curves.csv, .png and .svg: the mean metrics by epoch or interaction. runs.csv: the provenance of each run.
    Raises UserError for a key that no run has, and for runs of one combination that differ in more than their seed.
    """
    keys = list(dict.fromkeys(keys))
    unknown = [key for key in keys if all(_value(run, key) is None for run in runs)]
    if unknown:
        raise UserError(f"--by {unknown[0]}: no run has this key; name one as on the command line, such as prior.pi")
    groups = grouped(runs, lambda run: ", ".join(f"{key}={value}" for key, value in _values(run, keys).items()))
    for name, group in groups.items():
        _require_alike(name, group, keys)
    runs = [run for group in groups.values() for run in one_per_seed(group)]
    table = pd.DataFrame([_values(run, keys) | run.summary["metrics"] for run in runs])
    metrics = [name for name in table.columns if name not in keys]
    means = mean_and_spread(table, keys, metrics)
    judges = [name for name in _JUDGES if name in metrics and table[name].notna().any()]
    means = means.sort_values(judges[0]) if judges else means
    write_table(means, output, "by")
    columns = [name for name in means.columns if name in judges or name.startswith(("test_error", "test_rmse"))]
    (output / "by.md").write_text(markdown(means[[*keys, "runs", *columns]]), "utf-8")
    write_runs(runs, output, lambda run: _values(run, keys))
    _write_curves(runs, keys, output)
    order = f", ordered by {judges[0]}" if judges else ""
    return [f"{len(runs)} runs, {len(means)} rows{order}: {output / 'by.csv'}"]


def _write_curves(runs: list[Run], keys: list[str], output: Path) -> None:
    rows = pd.concat([run.metrics().assign(**_values(run, keys)) for run in runs])
    time = "epoch" if "epoch" in rows else "step"
    metrics = [name for name in rows.columns if name in COMPARED]
    curves = rows.groupby([*keys, time], dropna=False, sort=False)[metrics].mean().reset_index()
    write_table(curves, output, "curves")
    compared_curves(curves, keys, time, output)


def _require_alike(name: str, group: list[Run], keys: list[str]) -> None:
    """Raise UserError where the runs of one combination differ in what is neither a key nor the seed."""
    settings = [setting(run.config) for run in group]
    others = sorted(set().union(*(differing(each, settings[0]) for each in settings)))
    others = [key for key in others if not any(key in (listed, f"{listed}.name") for listed in keys)]
    if others:
        raise UserError(
            f"the runs of {name} also differ in {', '.join(others)}: add that to --by, or name other folders"
        )


def _values(run: Run, keys: list[str]) -> dict[str, Any]:
    return {key: _value(run, key) for key in keys}


def _value(run: Run, key: str) -> Any:
    """The value of a dotted key, of a group its name; None where the run lacks it."""
    value = value_of(run.config, key)
    if isinstance(value, dict):
        return value.get("name")
    return str(value) if isinstance(value, list) else value
