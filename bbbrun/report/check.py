"""`bbbrun-check`: each number of the paper beside ours, pass or miss; exit code 1 where one is missed or not there.

With --smoke, in place of the paper's numbers, what short runs must reach.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from bbbrun.errors import UserError
from bbbrun.report.by import mean_and_spread
from bbbrun.report.items.cells import Cell, cells
from bbbrun.report.items.table1 import row as row_of_table1
from bbbrun.report.main import make
from bbbrun.report.paper import claims, tolerance
from bbbrun.report.smoke import smoke_of
from bbbrun.runs.files import SUMMARY, named_folder
from bbbrun.runs.reader import NothingToShow, finished_runs


class Ours(NamedTuple):
    """A number of ours, and from how many seeds it is the mean."""

    value: float
    seeds: int


Claim = Mapping[Any, Any]  # a row of paper.csv, or one like it
Numbers = dict[tuple[str, int], Ours]  # (row, column of the paper's table or figure) -> ours


def _table1(table: pd.DataFrame) -> Numbers:
    numbers = {}
    for _, row in table.iterrows():
        where = Cell(row["method"], int(row["units"]), row["temperature"])
        numbers[where.row, where.units] = Ours(row["error"], int(row["seeds"]))
    return numbers


def _table2(table: pd.DataFrame) -> Numbers:
    rows = table[table["units"] == 1200]
    return {("removed", int(row["removed"])): Ours(row["error"], int(row["runs"])) for _, row in rows.iterrows()}


def _figure6(table: pd.DataFrame) -> Numbers:
    means = mean_and_spread(table, ["agent", "steps"], ["cumulative_regret"])
    return {
        (row["agent"], int(row["steps"])): Ours(row["cumulative_regret"], int(row["runs"]))
        for _, row in means.iterrows()
    }


# item -> the report's CSV, and what of it stands beside the paper's.
_SOURCES: dict[str, tuple[str, Callable[[pd.DataFrame], Numbers]]] = {
    "table1": ("table1.csv", _table1),
    "table2": ("table2.csv", _table2),
    "figure6": ("summary.csv", _figure6),
}


def judge(folder: Path, items: Sequence[str], claimed: Sequence[Claim]) -> pd.DataFrame:
    """A row for each of what is `claimed` about `items`: item, row, column, expected, ours, seeds, verdict, source.

    verdict: pass, miss, or not run. folder: what `bbbrun-report` wrote. claimed: rows as of the paper's `claims`.
    """
    numbers = {item: _read(folder, item) for item in items}
    return pd.DataFrame([_verdict(claim, numbers[claim["item"]]) for claim in claimed if claim["item"] in items])


def recorded_claims(records: Path) -> list[Claim]:
    """What runs in and below `records` claim about the rows of Table 1 that the paper lacks.

    Raises UserError where none is of such a row.
    """
    rows: list[Claim] = []
    for where, group in cells(finished_runs([records])).items():
        if where.temperature != 1:
            value = float(row_of_table1(where, group)["error"])
            source = f"{len(group)} run(s) in {records}"
            place = {"item": "table1", "row": where.row, "column": where.units, "rule": "at_most"}
            rows.append(place | {"value": value, "tolerance": tolerance(value), "source": source})
    if not rows:
        raise UserError(f"--records {records}: no finished run of MNIST there has another temperature than 1")
    return rows


def report_or_runs(folder: Path, items: Sequence[str], claimed: Sequence[Claim]) -> pd.DataFrame:
    """`judge` of a report, or of the report that the runs in and below `folder` would make.

    Raises UserError where the folder holds neither.
    """
    sources = [f"{item}/{_SOURCES[item][0]}" for item in items]
    if any((folder / source).is_file() for source in sources):
        return judge(folder, items, claimed)
    if folder.is_dir() and not any(folder.rglob(SUMMARY)):
        raise UserError(
            f"{folder} holds no finished run (no {SUMMARY} in or below it), and of a report no {' or '.join(sources)}"
        )
    runs = finished_runs([folder])
    with tempfile.TemporaryDirectory() as place:
        for item in items:
            try:
                make(item, runs, Path(place) / item)
            except NothingToShow:
                pass
            except UserError as error:
                print(f"{item}: {error}", file=sys.stderr)
        return judge(Path(place), items, claimed)


def main(words: Sequence[str] | None = None) -> None:
    """Run `bbbrun-check` with `words`, by default the command line's.

    Exit code 0 where every claim passes, 1 otherwise, 2 for wrong words.
    """
    parser = argparse.ArgumentParser(prog="bbbrun-check", description="Our numbers against the paper's.")
    parser.add_argument(
        "folder", type=named_folder, help="what bbbrun-report wrote, such as results/paper, or finished runs"
    )
    parser.add_argument("--only", nargs="+", choices=_SOURCES, default=list(_SOURCES), help="some tables and figures")
    said = "judge FOLDER's short runs instead, by what full runs in this folder, such as results/paper/runs, had then"
    parser.add_argument("--smoke", type=named_folder, metavar="FULL", help=said)
    said = "hold Table 1's tempered rows, which are not the paper's, to what runs in this folder had, too"
    parser.add_argument("--records", type=named_folder, metavar="RECORDS", help=said)
    arguments = parser.parse_args(words)
    if arguments.smoke and arguments.only != list(_SOURCES):
        parser.error("--only has no effect with --smoke, which judges all short runs")
    if arguments.records and (arguments.smoke or "table1" not in arguments.only):
        parser.error("--records has no effect where Table 1 is not judged")
    try:
        if arguments.smoke:
            table = smoke_of(arguments.folder, arguments.smoke)
        else:
            ours = recorded_claims(arguments.records) if arguments.records else []
            table = report_or_runs(arguments.folder, arguments.only, [*claims().to_dict("records"), *ours])
    except (UserError, OSError) as error:
        print(f"bbbrun-check: error: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
    print(table.to_string(index=False, na_rep=""))
    counts = table["verdict"].value_counts()
    print(", ".join(f"{counts.get(name, 0)} {name}" for name in ("pass", "miss", "not run")))
    sys.exit(0 if (table["verdict"] == "pass").all() else 1)


def _read(folder: Path, item: str) -> Numbers:
    name, read = _SOURCES[item]
    path = folder / item / name
    if not path.is_file():
        return {}
    try:
        return read(pd.read_csv(path))
    except (KeyError, ValueError, TypeError, OverflowError) as error:
        raise UserError(f"{path} cannot be read: make it again with bbbrun-report") from error


def _verdict(claim: Claim, numbers: Numbers) -> dict[str, object]:
    ours = numbers.get((claim["row"], claim["column"]))
    row = {"item": claim["item"], "row": claim["row"], "column": claim["column"]}
    if claim["rule"] == "below":
        other = numbers.get((claim["other"], claim["column"]))
        said, bound = f"below {claim['other']}", other.value if other else None
        passed = ours is not None and other is not None and ours.value < other.value
    else:
        said, bound = f"{claim['value']:g} + {claim['tolerance']:g}", claim["value"] + claim["tolerance"]
        passed = ours is not None and ours.value <= bound
    verdict = "not run" if ours is None or bound is None else "pass" if passed else "miss"
    return row | {
        "expected": said,
        "ours": f"{ours.value:.6g}" if ours else "",
        "seeds": str(ours.seeds) if ours else "",
        "verdict": verdict,
        "source": claim["source"],
    }


if __name__ == "__main__":
    main()
