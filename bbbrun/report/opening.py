"""What a report opens with: how many of the paper's numbers and orders are met, which are missed, and what it took."""

from pathlib import Path

import pandas as pd

from bbbrun.report.judge import ITEMS, judge
from bbbrun.report.paper import claims

_TITLES = {"table1": "Table 1", "table2": "Table 2", "figure6": "Figure 6"}


def opening(folder: Path) -> list[str]:
    """The paragraphs, none for a report of other items than the paper's. folder: what `bbbrun report` wrote."""
    verdicts = judge(folder, [item for item in ITEMS if (folder / item).is_dir()], claims().to_dict("records"))
    if verdicts.empty or (verdicts["verdict"] == "not run").all():
        return []
    orders = verdicts["expected"].str.startswith("below")
    paragraphs = [f"{_met(verdicts[~orders], 'published numbers')} {_met(verdicts[orders], 'orders of two rows')}"]
    misses = verdicts[verdicts["verdict"] == "miss"]
    if len(misses):
        names = [
            f"{_TITLES[row['item']]}, {row['row']} at {row['column']}: {row['ours']}, expected {row['expected']} "
            f"({row['compared']}, {row['difference']})"
            for row in misses.to_dict("records")
        ]
        paragraphs.append(f"Missed: {'; '.join(names)}.")
    return [*paragraphs, *_compute(folder)]


def _met(verdicts: pd.DataFrame, what: str) -> str:
    run = verdicts[verdicts["verdict"] != "not run"]
    rest = len(verdicts) - len(run)
    return f"{(run['verdict'] == 'pass').sum()} of {len(run)} {what} are met{f', {rest} not run' if rest else ''}."


def _compute(folder: Path) -> list[str]:
    """One line: how many runs the report shows, and what they took together."""
    names = [path for item in sorted(folder.iterdir()) for path in (item / "runs.csv", item / "summary.csv")]
    tables = [pd.read_csv(path) for path in names if path.is_file() and path.parent.name != "by"]
    tables = [table[["command", "commit", "seconds"]] for table in tables if {"command", "seconds"} <= set(table)]
    if not tables:
        return []
    runs = pd.concat(tables).drop_duplicates(["command", "commit", "seconds"])
    return [f"The {len(runs)} runs shown took {runs['seconds'].sum() / 3600:.1f} hours in all."]
