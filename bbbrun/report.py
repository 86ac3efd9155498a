"""`bbbrun-report`: the paper's figures and tables out of finished runs. It reads runs and never trains."""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from bbbrun.errors import UserError
from bbbrun.figure5 import figure5
from bbbrun.figure6 import figure6
from bbbrun.finished import Run, finished_runs

# name -> (finished runs, folder to write into) -> lines to show. A maker skips what no run gives it.
MAKERS: dict[str, Callable[[list[Run], Path], list[str]]] = {"figure5": figure5, "figure6": figure6}


def main(words: Sequence[str] | None = None) -> None:
    """Run `bbbrun-report` with `words`, by default the command line's.

    Exit code 0, 1 where a folder holds no finished runs, 2 for wrong words.
    """
    parser = argparse.ArgumentParser(prog="bbbrun-report", description="Tables and figures out of finished runs.")
    parser.add_argument("runs", nargs="+", type=Path, help="folders with finished runs in or below them")
    parser.add_argument("-o", "--output", type=Path, required=True, help="the folder to write into")
    arguments = parser.parse_args(words)
    try:
        runs = finished_runs(arguments.runs)
        for name, make in MAKERS.items():
            for line in make(runs, arguments.output / name):
                print(f"{name}: {line}", file=sys.stderr)
    except UserError as error:
        _fail(str(error))
    except OSError as error:
        _fail(f"{error.filename}: {error.strerror}" if error.filename else str(error))


def _fail(text: str) -> None:
    print(f"bbbrun-report: error: {text}", file=sys.stderr)
    sys.exit(1)


if __name__ == "__main__":
    main()
