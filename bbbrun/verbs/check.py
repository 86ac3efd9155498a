"""`bbbrun check`: each number of the paper beside ours, pass or miss. With --smoke: short runs against bands."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from bbbrun.report.check import recorded_claims, report_or_runs
from bbbrun.report.formats import as_json, as_junit
from bbbrun.report.judge import ITEMS, SHOWN, SOURCES
from bbbrun.report.published.paper import beyond, claims
from bbbrun.report.smoke import smoke_of
from bbbrun.runs.files import named_folder, require_not_of_a_run, write_atomically
from bbbrun.runs.jobs import seeds_of


def main(words: Sequence[str] | None = None) -> None:
    """Run `bbbrun check` with `words`, by default the command line's.

    Exit code 0 where every claim passes, 1 otherwise, 2 for wrong words.
    """
    parser = argparse.ArgumentParser(prog="bbbrun check", description="Our numbers against the paper's.")
    add = parser.add_argument
    add("folder", type=named_folder, help="what bbbrun report wrote, such as results/paper, or finished runs")
    text = "some tables and figures, by default the paper's, or uci where FOLDER has nothing else"
    add("--only", nargs="+", choices=SOURCES, help=text)
    text = "judge FOLDER's short runs instead, by runs of other seeds in this folder, such as results/smoke"
    add("--smoke", type=named_folder, metavar="BANDS", help=text)
    add("--seeds", help="with --smoke: seeds, joined by commas, in place of those that bbbrun reproduce lists")
    text = "also compare Table 1's tempered rows, which are not the paper's, with runs in this folder"
    add("--records", type=named_folder, metavar="RECORDS", help=text)
    add("--json", type=named_folder, metavar="FILE", help="write the verdicts there, too")
    add(
        "--junit",
        type=named_folder,
        metavar="FILE",
        help="write them there as tests in JUnit's XML, which CI systems show",
    )
    arguments = parser.parse_args(words)
    named = arguments.only is not None
    arguments.only = arguments.only or _items(arguments.folder)
    if arguments.smoke and named:
        parser.error("--only has no effect with --smoke, which judges all short runs")
    if arguments.records and (arguments.smoke or "table1" not in arguments.only):
        parser.error("--records has no effect where Table 1 is not judged")
    if arguments.seeds is not None and not arguments.smoke:
        parser.error("--seeds has no effect without --smoke")
    if arguments.json and arguments.json == arguments.junit:
        parser.error("--json and --junit take two files")
    asked = (("--json", arguments.json, as_json), ("--junit", arguments.junit, as_junit))
    outputs = [(option, file, formatted) for option, file, formatted in asked if file]
    for option, file, _ in outputs:
        if file.is_dir():
            parser.error(f"{option} takes a file, and {file} is a folder")
        require_not_of_a_run(file, option)
    table = _verdicts(arguments)
    for _, file, formatted in outputs:
        write_atomically(file, formatted(table).encode(), follow=True)
    print((table if arguments.smoke else table[SHOWN]).to_string(index=False, na_rep=""))
    counts = table["verdict"].value_counts()
    print(", ".join(f"{counts.get(name, 0)} {name}" for name in ("pass", "miss", "not run")))
    sys.exit(0 if (table["verdict"] == "pass").all() else 1)


def _items(folder: Path) -> list[str]:
    """The items to judge a folder by: the paper's, or those beyond the paper if the folder has no others."""
    available = [item for item, (name, _) in SOURCES.items() if (folder / item / name).is_file()]
    return available if available and not set(available) & set(ITEMS) else list(ITEMS)


def _verdicts(arguments: argparse.Namespace) -> pd.DataFrame:
    if arguments.smoke:
        seeds = None if arguments.seeds is None else seeds_of(arguments.seeds)
        return smoke_of(arguments.folder, arguments.smoke, seeds)
    tempered = recorded_claims(arguments.records) if arguments.records else []
    return report_or_runs(
        arguments.folder, arguments.only, [*claims().to_dict("records"), *beyond().to_dict("records"), *tempered]
    )
