"""`bbbrun check`: each number of the paper beside ours, pass or miss. With --smoke: what short runs must reach."""

import argparse
import sys
from collections.abc import Sequence

import pandas as pd

from bbbrun.errors import UserError
from bbbrun.report.check import ITEMS, recorded_claims, report_or_runs
from bbbrun.report.paper import claims
from bbbrun.report.smoke import smoke_of
from bbbrun.runs.files import named_folder


def main(words: Sequence[str] | None = None) -> None:
    """Run `bbbrun check` with `words`, by default the command line's.

    Exit code 0 where every claim passes, 1 otherwise, 2 for wrong words.
    """
    parser = argparse.ArgumentParser(prog="bbbrun check", description="Our numbers against the paper's.")
    add = parser.add_argument
    add("folder", type=named_folder, help="what bbbrun report wrote, such as results/paper, or finished runs")
    add("--only", nargs="+", choices=ITEMS, default=list(ITEMS), help="some tables and figures")
    text = "judge FOLDER's short runs instead, by what full runs in this folder, such as results/paper/runs, had then"
    add("--smoke", type=named_folder, metavar="FULL", help=text)
    text = "hold Table 1's tempered rows, which are not the paper's, to what runs in this folder had, too"
    add("--records", type=named_folder, metavar="RECORDS", help=text)
    arguments = parser.parse_args(words)
    if arguments.smoke and arguments.only != list(ITEMS):
        parser.error("--only has no effect with --smoke, which judges all short runs")
    if arguments.records and (arguments.smoke or "table1" not in arguments.only):
        parser.error("--records has no effect where Table 1 is not judged")
    try:
        table = _verdicts(arguments)
    except (UserError, OSError) as error:
        print(f"bbbrun check: error: {error}", file=sys.stderr)
        sys.exit(1)
    print(table.to_string(index=False, na_rep=""))
    counts = table["verdict"].value_counts()
    print(", ".join(f"{counts.get(name, 0)} {name}" for name in ("pass", "miss", "not run")))
    sys.exit(0 if (table["verdict"] == "pass").all() else 1)


def _verdicts(arguments: argparse.Namespace) -> pd.DataFrame:
    if arguments.smoke:
        return smoke_of(arguments.folder, arguments.smoke)
    tempered = recorded_claims(arguments.records) if arguments.records else []
    return report_or_runs(arguments.folder, arguments.only, [*claims().to_dict("records"), *tempered])
