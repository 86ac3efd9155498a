"""`bbbrun report`: the paper's tables and figures from finished runs. It reads runs and never trains."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from bbbrun.report.makers import MAKERS, write_by, write_report
from bbbrun.report.page import require_replaceable
from bbbrun.runs.files import named_folder, naming, require_not_of_a_run
from bbbrun.runs.reader import finished_runs
from bbbrun.verbs.predict import add_trust

_OUTPUT = Path("results/report")


def main(words: Sequence[str] | None = None) -> None:
    """Run `bbbrun report` with `words`, by default the command line's.

    Exit code 0, 1 where a folder holds no finished runs or an item is not made, 2 for wrong words.
    """
    parser = argparse.ArgumentParser(prog="bbbrun report", description="Tables and figures from finished runs.")
    add = parser.add_argument
    add("runs", nargs="*", type=named_folder, help="folders with finished runs in or below them")
    add("-o", "--output", type=named_folder, default=_OUTPUT, help=f"the folder to write into, by default {_OUTPUT}")
    add("--only", nargs="+", choices=MAKERS, default=list(MAKERS), help="some of the tables and figures")
    text = "folders of other reports, whose runs count as trials"
    add("--tried", nargs="+", type=named_folder, metavar="FOLDER", default=[], help=text)
    add("--by", nargs="+", metavar="KEY", help="instead: one table of the runs by these keys, means over seeds")
    add_trust(parser)
    arguments = parser.parse_args(words)
    if not arguments.runs and arguments.by:
        # `--by seed FOLDER` is read as two keys.
        arguments.runs = [Path(key) for key in arguments.by if Path(key).is_dir()]
        arguments.by = [key for key in arguments.by if not Path(key).is_dir()]
        if not arguments.by:
            parser.error("--by takes keys, such as seed or prior.pi")
    if not arguments.runs:
        parser.error("name the folders of runs")
    require_not_of_a_run(arguments.output)
    require_replaceable(arguments.output)
    if arguments.by and arguments.tried:
        parser.error("--tried has no effect with --by")
    with naming(arguments.output):
        errors = _report(arguments)
    for reason in errors:
        print(f"bbbrun report: error: {reason}", file=sys.stderr)
    if errors:
        sys.exit(1)


def _report(arguments: argparse.Namespace) -> list[str]:
    """Write the report and print its messages; return the errors."""
    runs = finished_runs(arguments.runs, arguments.trust)
    if arguments.by:
        report = write_by(runs, arguments.output, arguments.by)
    else:
        report = write_report(runs, arguments.output, set(arguments.only), arguments.tried)
    for name, messages in report.messages.items():
        for message in messages:
            print(f"{name}: {message}", file=sys.stderr)
    if not report.made and not report.errors:
        return [
            f"nothing was made: none of {len(runs)} finished runs gives {', '.join(report.messages)}; --by KEY makes a "
            "table of any runs"
        ]
    return report.errors
