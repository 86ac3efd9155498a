"""The text below a table or figure of a report: its numbers against the paper's, and its runs."""

from pathlib import Path
from typing import Any

import pandas as pd

from bbbrun.report.groups import markdown, short

# The name of a number of an item, by its row and column.
_PLACES = {
    "table1": "{row} at {column} units",
    "table2": "{column} % of weights removed",
    "figure6": "{row} after {column:,}",
}
_ITEMS = {"table1": "Table 1", "table2": "Table 2", "figure6": "Figure 6"}
_NOTE = (
    "± is the 95 % interval over seeds, from three on. That of a difference from a published number takes test images "
    "that both share as different ones, and in Figure 6 has the 5 % to which the paper's curves can be read. The "
    "published number counts as of one run, in Figure 6 of five, of our deviation. A standard error is half the "
    "tolerance of the check."
)
_ORDERS_NOTE = "Two rows of Table 1 are compared image by image, where all their runs keep predictions."
_PROVENANCE = ["command", "commit", "device", "seconds"]


def against_paper(verdicts: pd.DataFrame) -> str:
    """Markdown: a row for each published number of an item, then its orders of two rows in words.

    verdicts: of one item, as `judge` gives them. Numbers that no run gives are left out; empty where none does.
    """
    run = verdicts[verdicts["verdict"] != "not run"]
    numbers, orders = run[run["published"].notna()], run[run["published"].isna()]
    parts = []
    if len(numbers):
        table = pd.DataFrame([_number(row) for row in numbers.to_dict("records")])
        parts += [
            markdown(table),
            _NOTE,
        ]
    if len(orders):
        missed = [_order(row) for row in orders[orders["verdict"] == "miss"].to_dict("records")]
        sentence = f"{len(orders) - len(missed)} of {len(orders)} orders of two rows are the paper's."
        parts.append(f"{sentence} Missed: {'; '.join(missed)}." if missed else sentence)
    return "\n".join(f"{part}\n" for part in parts)


def misses(verdicts: pd.DataFrame) -> str:
    """Markdown: a row for each miss, with its item, and a note; empty where there is none."""
    rows = verdicts[verdicts["verdict"] == "miss"].to_dict("records")
    table = [
        {
            "missed": f"{_ITEMS[row['item']]}, {_place(row)}",
            "ours": short(float(row["ours"])),
            "expected": row["expected"],
            "difference": row["difference"],
            "compared": row["compared"],
        }
        for row in rows
    ]
    return f"{markdown(pd.DataFrame(table))}\n{_ORDERS_NOTE}" if table else ""


def runs_table(section: Path) -> pd.DataFrame:
    """Command, commit, device and seconds of each run that the item in `section` shows; empty where it names none."""
    for name in ("runs.csv", "summary.csv"):
        if (section / name).is_file():
            table = pd.read_csv(section / name)
            if set(_PROVENANCE) <= set(table):
                return table[_PROVENANCE]
    return pd.DataFrame(columns=_PROVENANCE)


def hours(runs: pd.DataFrame) -> float:
    """The hours that the trainings of `runs`, rows of `runs_table`, took; replicas are one training.

    Each of them has the time of all.
    """
    replicas = runs["command"].fillna("").str.contains(r"\breplicas=")
    together = runs[replicas].groupby(["command", "commit"], dropna=False)["seconds"].max()
    return float(runs.loc[~replicas, "seconds"].sum() + together.sum()) / 3600


def provenance(runs: pd.DataFrame) -> tuple[str, str]:
    """A title and a Markdown table for the rows of `runs_table`."""
    # Ten digits of the commit, and whether it had changes.
    commit = runs["commit"].fillna("").str.replace(r"^(\w{10})\w*", r"\1", regex=True)
    shown = runs.assign(commit=commit, hours=runs["seconds"] / 3600).drop(columns="seconds")
    devices = ", ".join(sorted(runs["device"].dropna().unique()))
    return f"{len(runs)} runs, {hours(runs):.3g} hours, {devices}", markdown(shown)


def _number(row: dict[Any, Any]) -> dict[Any, Any]:
    spread = "" if pd.isna(row["half"]) else f" ± {short(row['half'], 2)}"
    return {
        "against the paper": _place(row),
        "ours": f"{short(float(row['ours']))}{spread}",
        "seeds": row["seeds"],
        "paper": short(row["published"]),
        "difference": row["difference"],
        "standard errors": f"{row['standard_errors']:+.1f}",
        "verdict": row["verdict"],
        "compared": row["compared"],
    }


def _order(row: dict[Any, Any]) -> str:
    return f"{_place(row)} {row['expected']} ({row['difference']}, {row['compared']})"


def _place(row: dict[Any, Any]) -> str:
    return _PLACES[row["item"]].format(**row)
