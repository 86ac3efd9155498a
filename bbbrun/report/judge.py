"""Each number of the paper beside that of a report, with a verdict."""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from bbbrun.bayes.methods import BayesByBackprop
from bbbrun.errors import UserError, line_of
from bbbrun.report.compare import Difference, Ours, against_published, between_ours
from bbbrun.report.items.cells import Cell
from bbbrun.report.published.paper import TEST_IMAGES

Claim = Mapping[Any, Any]  # a row of paper.csv, or one like it
Numbers = dict[tuple[str, int], Ours]  # (row, column of the paper's table or figure) -> ours
Paired = dict[tuple[str, str, int], tuple[Difference, int]]  # (row, other row, column) -> difference, number of seeds


def _table1(table: pd.DataFrame) -> Numbers:
    numbers = {}
    for _, row in table.iterrows():
        cell = Cell(row["method"], int(row["units"]), row["temperature"])
        numbers[cell.row, cell.units] = Ours(row["error"], int(row["seeds"]), row["error_std"])
    return numbers


def of_paper(table2: pd.DataFrame) -> pd.DataFrame:
    """The rows of table2.csv of the paper's network and objective: 1200 units, temperature 1.

    A table of an earlier version has no column of temperatures, and no other temperature.
    """
    rows: pd.DataFrame = table2[(table2["units"] == 1200) & (table2.get("temperature", 1.0) == 1)]
    return rows


def _table2(table: pd.DataFrame) -> Numbers:
    return {
        ("removed", int(row["removed"])): Ours(row["error"], int(row["runs"]), row["error_std"])
        for _, row in of_paper(table).iterrows()
    }


def _figure6(table: pd.DataFrame) -> Numbers:
    """The mean over seeds, as the paper's curves are means of five runs."""
    numbers: Numbers = {}
    for agent, rows in table.groupby("agent", sort=False):
        regrets = rows["cumulative_regret"]
        ours = Ours(regrets.mean(), len(regrets), regrets.std())
        numbers[str(agent), int(rows["steps"].iloc[0])] = ours
    return numbers


def _uci(table: pd.DataFrame) -> Numbers:
    """The mean over splits of the paper's Bayes by Backprop."""
    numbers: Numbers = {}
    for _, row in table[table["method"] == BayesByBackprop.label].iterrows():
        for name, column in (("RMSE", "test_rmse"), ("nll", "test_nll")):
            ours = Ours(row[column], int(row["splits"]), row[f"{column}_std"])
            numbers[f"{row['set']} {name}", int(row["splits"])] = ours
    return numbers


# item -> the report's CSV, and the function that reads it.
SOURCES: dict[str, tuple[str, Callable[[pd.DataFrame], Numbers]]] = {
    "table1": ("table1.csv", _table1),
    "table2": ("table2.csv", _table2),
    "figure6": ("summary.csv", _figure6),
    "uci": ("uci.csv", _uci),
}
ITEMS = ("table1", "table2", "figure6")  # the paper's
SHOWN = ["item", "row", "column", "expected", "ours", "seeds", "verdict", "difference", "compared", "source"]


def judge(folder: Path, items: Sequence[str], claimed: Sequence[Claim]) -> pd.DataFrame:
    """A row for each claim about `items`.

    Columns: SHOWN, and published, half, standard_errors. folder: what `bbbrun report` wrote. claimed: rows as of the
    paper's `claims`. verdict: pass, miss, or not run, by the claim's rule. difference: from the claim's number, with
    its 95 % interval; of an order of Table 1 image by image, where all runs of both rows keep their predictions.
    compared: the verdict of that, see `Difference`. published: the claim's number, NaN of an order. half: half our
    number's 95 % interval over seeds. standard_errors: the difference in these, the tolerance being two.
    """
    numbers = {item: _read(folder / item / SOURCES[item][0], SOURCES[item][1]) for item in items}
    paired = {item: _read(folder / item / "paired.csv", _paired) for item in items}
    about = [(claim, claim["item"]) for claim in claimed if claim["item"] in items]
    return pd.DataFrame([_verdict(claim, numbers[item], paired[item]) for claim, item in about])


def _paired(table: pd.DataFrame) -> Paired:
    """Each two rows in both orders."""
    paired: Paired = {}
    for _, row in table.iterrows():
        one, two, units, seeds = row["method"], row["other"], int(row["units"]), int(row["seeds"])
        paired[one, two, units] = Difference(row["difference"], row["half"]), seeds
        paired[two, one, units] = Difference(-row["difference"], row["half"]), seeds
    return paired


def _read(path: Path, read: Callable[[pd.DataFrame], dict[Any, Any]]) -> dict[Any, Any]:
    if not path.is_file():
        return {}
    try:
        return read(pd.read_csv(path))
    except (KeyError, ValueError, TypeError, OverflowError) as error:
        raise UserError(f"{path} cannot be read: make it again with bbbrun report ({line_of(error)[:120]})") from error


def _error(claim: Claim, ours: Ours) -> float:
    """The standard error of a published number; its runs' deviation is taken to be ours where none is published."""
    deviation: float = ours.spread if pd.isna(claim["deviation"]) else claim["deviation"]
    return deviation / math.sqrt(claim["runs"])


def _between(claim: Claim, ours: Ours, other: Ours, paired: Paired, images: int) -> Difference:
    """The difference of two rows: image by image where all seeds of both are there, else as of independent seeds."""
    independent = between_ours(ours, other, images)
    difference, seeds = paired.get((claim["row"], claim["other"], claim["column"]), (independent, 0))
    # A paired.csv of another report has another difference.
    same = ours.seeds == other.seeds == seeds and math.isclose(difference.value, independent.value, abs_tol=1e-4)
    return difference if same else independent


def _verdict(claim: Claim, numbers: Numbers, paired: Paired) -> dict[str, object]:
    ours, other = (numbers.get((claim[name], claim["column"])) if name in claim else None for name in ("row", "other"))
    # Regret is read off a figure; error rates are of test images.
    reading = claim["tolerance"] if claim["item"] == "figure6" else 0.0
    images = TEST_IMAGES if claim["item"] in ("table1", "table2") else 0
    difference = None
    if claim["rule"] == "below":
        expected, margin = f"below {claim['other']}", 0.0
        if ours and other:
            difference = _between(claim, ours, other, paired, images)
        passed = difference is not None and difference.value < 0
    else:
        expected, margin = f"{claim['value']:g} + {claim['tolerance']:g}", claim["tolerance"]
        if ours:
            difference = against_published(ours, claim["value"], _error(claim, ours), images, reading)
        passed = ours is not None and round(ours.value - claim["value"] - margin, 9) <= 0
    return {
        "item": claim["item"],
        "row": claim["row"],
        "column": claim["column"],
        "expected": expected,
        "ours": f"{ours.value:.6g}" if ours else "",
        "seeds": str(ours.seeds) if ours else "",
        "verdict": "not run" if difference is None else "pass" if passed else "miss",
        "difference": difference.text if difference else "",
        "compared": difference.verdict(margin) if difference else "",
        "source": claim["source"],
        "published": claim["value"] if claim["rule"] == "at_most" else math.nan,
        "half": ours.half if ours else math.nan,
        "standard_errors": round(difference.value / (margin / 2), 9) if difference and margin else math.nan,
    }
