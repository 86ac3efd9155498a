"""Any group of runs as one table: `bbbrun-report FOLDERS --by KEY`, means over seeds, the best by validation first."""

from pathlib import Path
from typing import Any

import pandas as pd

from bbbrun.errors import UserError
from bbbrun.report.plots import COMPARED, compared_curves
from bbbrun.runs.identity import differing, setting
from bbbrun.runs.reader import Run, latest, write_runs

# What the rows are ordered by: the first of these that a run reports, less being better; never by the test.
_JUDGES = ("valid_error", "valid_nll", "cumulative_expected_regret")


def by_keys(runs: list[Run], keys: list[str], output: Path) -> list[str]:
    """Write by.csv and by.md into `output`, a row for each combination of the keys' values; return what to say.

    Every final metric with its mean and standard deviation over the runs of that combination, a run for each seed.
    And curves.csv, .png and .svg: the means of the metrics as training goes on; runs.csv: where each run comes from.
    Raises UserError for a key that no run has, and for runs of one combination that differ in more than their seed.
    """
    keys = list(dict.fromkeys(keys))
    unknown = [key for key in keys if all(_value(run, key) is None for run in runs)]
    if unknown:
        raise UserError(f"--by {unknown[0]}: no run has this key; name one as on the command line, such as prior.pi")
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(", ".join(f"{key}={_value(run, key)}" for key in keys), []).append(run)
    for name, group in groups.items():
        _require_alike(name, group, keys)
    runs = [run for group in groups.values() for run in latest(group, lambda run: run.seed)]
    table = pd.DataFrame([_place(run, keys) | run.summary["metrics"] for run in runs])
    metrics = [name for name in table.columns if name not in keys]
    means = mean_and_spread(table, keys, metrics)
    judges = [name for name in _JUDGES if name in metrics and table[name].notna().any()]
    means = means.sort_values(judges[0]) if judges else means
    output.mkdir(parents=True, exist_ok=True)
    means.to_csv(output / "by.csv", index=False, float_format="%.6g")
    shown = means[[*keys, "runs", *(name for name in means.columns if name in judges or name.startswith("test_error"))]]
    (output / "by.md").write_text(markdown(shown))
    write_runs(runs, output, lambda run: _place(run, keys))
    curves = pd.concat([run.metrics().assign(**{key: _value(run, key) for key in keys}) for run in runs])
    time = "epoch" if "epoch" in curves else "step"
    drawn = [name for name in curves.columns if name in COMPARED]
    curves = curves.groupby([*keys, time], dropna=False, sort=False)[drawn].mean().reset_index()
    curves.to_csv(output / "curves.csv", index=False, float_format="%.6g")
    compared_curves(curves, keys, time, output)
    order = f", ordered by {judges[0]}" if judges else ""
    return [f"{len(runs)} runs, {len(means)} rows{order}: {output / 'by.csv'}"]


def mean_and_spread(table: pd.DataFrame, keys: list[str], names: list[str]) -> pd.DataFrame:
    """For each combination of the keys the number of `runs`, each column's mean and, as NAME_std, its deviation."""
    groups = table.groupby(keys, dropna=False, sort=False)
    columns: dict[str, pd.Series] = {"runs": groups.size()}
    for name in names:
        columns |= {name: groups[name].mean(), f"{name}_std": groups[name].std()}
    return pd.DataFrame(columns).reset_index()


def markdown(table: pd.DataFrame) -> str:
    """A table in Markdown, numbers to four digits."""

    def text(value: Any) -> str:
        return "" if pd.isna(value) else f"{value:.4g}" if isinstance(value, float) else str(value)

    lines = ["| " + " | ".join(map(str, table.columns)) + " |", "|---" * len(table.columns) + "|"]
    lines += ["| " + " | ".join(map(text, row)) + " |" for row in table.itertuples(index=False)]
    return "\n".join([*lines, ""])


def _require_alike(name: str, group: list[Run], keys: list[str]) -> None:
    """Raise UserError where the runs of one combination differ in what is not a key, but for the seed."""
    settings = [setting(run.config) for run in group]
    others = sorted(set().union(*(differing(told, settings[0]) for told in settings)))
    others = [key for key in others if not any(key in (given, f"{given}.name") for given in keys)]
    if others:
        raise UserError(
            f"the runs of {name} also differ in {', '.join(others)}: add that to --by, or name other folders"
        )


def _place(run: Run, keys: list[str]) -> dict[str, Any]:
    return {key: _value(run, key) for key in keys}


def _value(run: Run, key: str) -> Any:
    value: Any = run.config
    for part in key.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    if isinstance(value, dict):
        return value.get("name")
    return str(value) if isinstance(value, list) else value
