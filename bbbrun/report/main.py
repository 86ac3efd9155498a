"""`bbbrun-report`: the paper's figures and tables out of finished runs. It reads runs and never trains."""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from bbbrun.errors import UserError
from bbbrun.report.by import by_keys
from bbbrun.report.items.figure5 import figure5
from bbbrun.report.items.figure6 import figure6
from bbbrun.report.items.figures234 import figure2, figure3, figure4
from bbbrun.report.items.table1 import table1
from bbbrun.report.items.table2 import table2
from bbbrun.report.items.tradeoff import tradeoff
from bbbrun.report.page import write_page
from bbbrun.runs.files import named_folder
from bbbrun.runs.reader import NothingToShow, Run, finished_runs

Maker = Callable[[list[Run], Path], list[str]]  # (finished runs, folder to write into) -> lines to show

# In the paper's order. A maker raises NothingToShow where no run gives it anything.
MAKERS: dict[str, tuple[str, Maker]] = {
    "table1": ("Table 1: test error on MNIST", table1),
    "figure2": ("Figure 2: test error by epoch", figure2),
    "figure3": ("Figure 3: density of the trained weights", figure3),
    "figure4": ("Figure 4: signal-to-noise of the weights", figure4),
    "table2": ("Table 2: removing weights of low signal-to-noise", table2),
    "tradeoff": ("Error and removable weights of each setting", tradeoff),
    "figure5": ("Figure 5: the regression curve", figure5),
    "figure6": ("Figure 6: regret on the mushrooms", figure6),
}

_OUTPUT = Path("results/report")


def main(words: Sequence[str] | None = None) -> None:
    """Run `bbbrun-report` with `words`, by default the command line's.

    Exit code 0, 1 where a folder holds no finished runs or nothing was made of them, 2 for wrong words.
    """
    parser = argparse.ArgumentParser(prog="bbbrun-report", description="Tables and figures out of finished runs.")
    add = parser.add_argument
    add("runs", nargs="+", type=named_folder, help="folders with finished runs in or below them")
    add("-o", "--output", type=named_folder, default=_OUTPUT, help=f"the folder to write into, by default {_OUTPUT}")
    add("--only", nargs="+", choices=MAKERS, default=list(MAKERS), help="some of the tables and figures")
    add("--by", nargs="+", metavar="KEY", help="instead: one table of the runs by these keys, over seeds")
    arguments = parser.parse_args(words)
    try:
        runs = finished_runs(arguments.runs)
        failed: list[str] = []
        if arguments.by:
            said, made = {"by": by_keys(runs, arguments.by, arguments.output / "by")}, True
        else:
            said, made, failed = _made([name for name in MAKERS if name in arguments.only], runs, arguments.output)
        for name, lines in said.items():
            for line in lines:
                print(f"{name}: {line}", file=sys.stderr)
        for line in failed:
            print(f"bbbrun-report: error: {line}", file=sys.stderr)
        if not made and not failed:
            raise UserError(f"nothing was made: none of {len(runs)} finished runs gives {', '.join(said)}")
        if made:
            write_page(arguments.output, {name: title for name, (title, _) in MAKERS.items()} | {"by": "Runs by key"})
        if failed:
            sys.exit(1)
    except UserError as error:
        _fail(str(error))
    except KeyboardInterrupt:
        sys.exit(130)
    except OSError as error:
        _fail(f"{error.filename}: {error.strerror}" if error.filename else str(error))


def _made(names: list[str], runs: list[Run], output: Path) -> tuple[dict[str, list[str]], bool, list[str]]:
    """Make what can be made of the runs.

    Return what there is to say of each, whether anything was made, and why what is damaged was not.
    """
    said: dict[str, list[str]] = {}
    made, failed = False, []
    for name in names:
        try:
            said[name], made = make(name, runs, output / name), True
        except NothingToShow as error:
            # What lies there may be of runs on another machine: it is not ours to delete.
            kept = "that of an earlier report stays" if (output / name).is_dir() else "skipped"
            said[name] = [f"{error}: {kept}"]
        except UserError as error:
            failed.append(f"{name}: {error}")
    return said, made, failed


def make(name: str, runs: list[Run], output: Path) -> list[str]:
    """Run a maker; raises NothingToShow, or UserError where what a run recorded is not what it should be."""
    try:
        return MAKERS[name][1](runs, output)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, RuntimeError) as error:
        if os.environ.get("HYDRA_FULL_ERROR") == "1":
            raise
        folders = ", ".join(sorted({str(run.folder.parent) for run in runs}))
        raise UserError(
            f"{name}: a run's record in {folders} lacks something or holds something else ({error!r}); leave damaged "
            "runs out, or set HYDRA_FULL_ERROR=1 to see where"
        ) from error


def _fail(text: str) -> None:
    print(f"bbbrun-report: error: {text}", file=sys.stderr)
    sys.exit(1)


if __name__ == "__main__":
    main()
