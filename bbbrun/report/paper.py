"""The paper's numbers, from paper.csv: each claim, its tolerance, and where the paper makes it."""

import math
from functools import cache
from importlib.resources import files
from typing import Any

import pandas as pd


@cache
def claims() -> pd.DataFrame:
    """The rows of paper.csv.

    rule at_most: ours may be up to value + tolerance. Error rates have no tolerance in the file and get `tolerance`.
    rule below: ours must be below our own number in the row `other` and the same column.
    """
    with (files("bbbrun.report") / "paper.csv").open(encoding="utf-8") as file:
        table = pd.read_csv(file, dtype={"column": int})
    rates = table["value"].notna() & table["tolerance"].isna()
    table.loc[rates, "tolerance"] = table.loc[rates, "value"].map(tolerance)
    return table


def published(item: str, row: str, column: int) -> float:
    """The paper's number; NaN where it has none."""
    table = claims()
    match: Any = (table["item"] == item) & (table["row"] == row) & (table["column"] == column) & table["value"].notna()
    return float(table[match]["value"].iloc[0]) if match.any() else math.nan


def tolerance(percent: float) -> float:
    """Twice the `standard_error` of an error rate, both in percent, to two decimals."""
    return round(2 * standard_error(percent), 2)


def standard_error(percent: float, examples: int = 10_000) -> float:
    """The binomial standard error of an error rate on MNIST's test images, in percent."""
    return 100 * math.sqrt(percent / 100 * (1 - percent / 100) / examples)
