"""The opening of a report: how many of the paper's numbers and orders are met, which are missed, and the compute."""

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from bbbrun.report.sections import hours, misses, runs_table


def opening(verdicts: pd.DataFrame, sections: Iterable[Path], tried: Iterable[Path]) -> list[str]:
    """Paragraphs and a table, as Markdown; none for a report of other items than the paper's.

    verdicts: as `judge` gives them. sections: the folders of the report's items. tried: folders with other reports,
    whose runs count as tried.
    """
    if verdicts.empty or (verdicts["verdict"] == "not run").all():
        return []
    numbers = verdicts["published"].notna()
    orders = verdicts[~numbers]
    apart = orders["compared"] == "better"
    met = f"{_met(verdicts[numbers], 'published numbers')} {_met(orders, 'orders of two rows')}"
    met += f" Of those met {apart.sum()} are told apart by the 95 % interval of the difference."
    met += f" A number is met that is at most the paper's plus a tolerance. {_near(verdicts[numbers])}"
    return [part for part in (met, misses(verdicts), _compute(sections, tried)) if part]


def _met(verdicts: pd.DataFrame, items: str) -> str:
    run = verdicts[verdicts["verdict"] != "not run"]
    rest = len(verdicts) - len(run)
    return f"{(run['verdict'] == 'pass').sum()} of {len(run)} {items} are met{f', {rest} not run' if rest else ''}."


def _near(numbers: pd.DataFrame) -> str:
    run = numbers[numbers["verdict"] != "not run"]
    return f"Within the tolerance on both sides lie {near(run).sum()} of {len(run)}."


def near(numbers: pd.DataFrame) -> pd.Series:
    """Whether each number lies within the tolerance, two standard errors, on both sides of the paper's."""
    return numbers["standard_errors"].abs() <= 2


def _compute(sections: Iterable[Path], tried: Iterable[Path]) -> str:
    """One line: the number of runs in the report, the number of all runs made, and their compute."""
    shown = _distinct([runs_table(section) for section in sections])
    if shown.empty:
        return ""
    line = f"The {len(shown)} runs shown took {hours(shown):.1f} hours in all."
    folders = [path.parent for folder in tried for path in sorted(folder.rglob("*.csv"))]
    everything = _distinct([shown, *(runs_table(folder) for folder in dict.fromkeys(folders))])
    if len(everything) > len(shown):
        trials = f"{len(everything) - len(shown)} trial runs"
        line += f" With {trials}, those of --tried whose command is on record, it is {hours(everything):.1f} hours."
    return line


def _distinct(tables: list[pd.DataFrame]) -> pd.DataFrame:
    filled = [table for table in tables if len(table)]
    return pd.concat(filled).drop_duplicates(["command", "commit", "seconds"]) if filled else pd.DataFrame()
