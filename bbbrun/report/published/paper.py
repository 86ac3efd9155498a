"""The paper's numbers, from paper.csv, and others', from published.csv: each claim, its tolerance and source."""

import math
from functools import cache
from importlib.resources import files

import pandas as pd

TEST_IMAGES = 10_000  # of MNIST, on which every error rate is measured


def claims() -> pd.DataFrame:
    """The rows of paper.csv that judge our numbers.

    runs: how many the published number is the mean over, as far as is said. deviation: theirs, where published.

    rule at_most: ours may be up to value + tolerance. Error rates have no tolerance in the file and get `tolerance`.
    rule below: ours must be below our own number in the row `other` and the same column.
    """
    return _rows().query("rule != 'shown'")


def beyond() -> pd.DataFrame:
    """The rows of published.csv: numbers that others published for this method, by the same rules, no tolerance."""
    return _table("published.csv")


def points(item: str, row: str) -> pd.Series:
    """The paper's numbers in one row, by column, which figures draw beside ours."""
    table = _rows()
    match = (table["item"] == item) & (table["row"] == row) & table["value"].notna()
    return table[match].set_index("column")["value"].sort_index()


@cache
def _rows() -> pd.DataFrame:
    """All of paper.csv. rule shown: a number that figures draw, and that judges nothing."""
    table = _table("paper.csv")
    rates = (table["rule"] == "at_most") & table["tolerance"].isna()
    table.loc[rates, "tolerance"] = table.loc[rates, "value"].map(tolerance)
    return table


def _table(name: str) -> pd.DataFrame:
    with (files(__package__) / name).open(encoding="utf-8") as file:
        return pd.read_csv(file, dtype={"column": int})


def published(item: str, row: str, column: int) -> float:
    """The paper's number; NaN where it has none."""
    return float(points(item, row).get(column, math.nan))


def tolerance(percent: float) -> float:
    """Twice the `standard_error` of an error rate, both in percent, to two decimals."""
    return round(2 * standard_error(percent), 2)


def standard_error(percent: float) -> float:
    """The binomial standard error of an error rate on MNIST's test images, in percent."""
    return 100 * math.sqrt(percent / 100 * (1 - percent / 100) / TEST_IMAGES)
