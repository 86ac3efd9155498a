"""The check of a report, or of runs: the paper's numbers, and those of recorded runs beside them."""

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from bbbrun.errors import UserError
from bbbrun.report.groups import NothingToShow
from bbbrun.report.items.cells import cells
from bbbrun.report.items.table1 import row as row_of_table1
from bbbrun.report.judge import SOURCES, Claim, judge
from bbbrun.report.makers import make
from bbbrun.report.published.paper import tolerance
from bbbrun.runs.files import SUMMARY
from bbbrun.runs.reader import finished_runs


def recorded_claims(records: Path) -> list[Claim]:
    """Claims about the tempered rows of Table 1, which the paper lacks, from the runs in and below `records`.

    Raises UserError where no run is tempered.
    """
    rows: list[Claim] = []
    for cell, group in cells(finished_runs([records])).items():
        if cell.temperature != 1:
            row = row_of_table1(cell, group)
            value = float(row["error"])
            source = f"{len(group)} run(s) in {records}"
            claim = {"item": "table1", "row": cell.row, "column": cell.units, "rule": "at_most", "value": value}
            spread = {"runs": len(group), "deviation": row["error_std"]}
            rows.append(claim | spread | {"tolerance": tolerance(value), "source": source})
    if not rows:
        raise UserError(f"--records {records}: no finished run of MNIST there has another temperature than 1")
    return rows


def report_or_runs(folder: Path, items: Sequence[str], claimed: Sequence[Claim]) -> pd.DataFrame:
    """`judge` a report, or the report that the finished runs in and below `folder` give.

    Raises UserError where the folder holds neither.
    """
    sources = [f"{item}/{SOURCES[item][0]}" for item in items]
    if any((folder / source).is_file() for source in sources):
        return judge(folder, items, claimed)
    if folder.is_dir() and not any(folder.rglob(SUMMARY)):
        raise UserError(
            f"{folder} holds no finished run (no {SUMMARY} in or below it), and of a report no {' or '.join(sources)}"
        )
    runs = finished_runs([folder])
    with tempfile.TemporaryDirectory() as temporary:
        for item in items:
            try:
                make(item, runs, Path(temporary) / item)
            except NothingToShow:
                pass
            except UserError as error:
                print(f"{item}: {error}", file=sys.stderr)
        return judge(Path(temporary), items, claimed)
