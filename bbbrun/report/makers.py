"""The report: its tables and figures, and how a folder of them is made from finished runs."""

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from bbbrun.errors import UserError
from bbbrun.report.by import by_keys
from bbbrun.report.groups import NothingToShow
from bbbrun.report.items.figure2 import figure2
from bbbrun.report.items.figure3 import figure3
from bbbrun.report.items.figure4 import figure4
from bbbrun.report.items.figure5 import figure5
from bbbrun.report.items.figure6 import figure6
from bbbrun.report.items.table1 import table1
from bbbrun.report.items.table2 import table2
from bbbrun.report.items.tradeoff import TOLERATED, tradeoff
from bbbrun.report.items.uci import uci
from bbbrun.report.page import COMPARED, TITLE, write_page
from bbbrun.runs.reader import Run

Maker = Callable[[list[Run], Path], list[str]]  # (finished runs, folder to write into) -> messages

# In the paper's order. A maker raises NothingToShow where no run has its data.
MAKERS: dict[str, tuple[str, Maker]] = {
    "table1": ("Table 1: test error on MNIST", table1),
    "figure2": ("Figure 2: test error by epoch", figure2),
    "figure3": ("Figure 3: density of the trained weights", figure3),
    "figure4": ("Figure 4: signal-to-noise of the weights", figure4),
    "table2": ("Table 2: removing weights of low signal-to-noise", table2),
    "tradeoff": (
        f"Validation error with w = mu, and percent of weights removable for {TOLERATED} points of it",
        tradeoff,
    ),
    "figure5": ("Figure 5: the regression curve", figure5),
    "figure6": ("Figure 6: regret on the mushrooms", figure6),
    "uci": ("UCI regression", uci),
}
_TITLES = {name: title for name, (title, _) in MAKERS.items()} | {"by": "Runs by key"}


class Report(NamedTuple):
    """The result of a report. made: the items written. messages: lines by item. errors: a line per damaged item."""

    made: list[str]
    messages: dict[str, list[str]]
    errors: list[str]


def write_report(runs: list[Run], output: Path, names: Iterable[str], tried: Iterable[Path] = ()) -> Report:
    """Write the tables and figures of these names, each into its folder in `output`, and the pages that show them.

    An item without runs is skipped, an item with a damaged run is an error, and the other items are still made.
    tried: folders of other reports, whose runs count as tried.
    """
    report = Report([], {}, [])
    for name in sorted(names, key=list(MAKERS).index):
        try:
            report.messages[name] = make(name, runs, output / name)
            report.made.append(name)
        except NothingToShow as error:
            # An earlier report may show runs of another machine, so it is not deleted.
            remark = "that of an earlier report stays" if (output / name).is_dir() else "skipped"
            report.messages[name] = [f"{error}: {remark}"]
        except UserError as error:
            report.errors.append(f"{name}: {error}")
    if report.made:
        write_page(output, _TITLES, tried)
    return report


def write_by(runs: list[Run], output: Path, keys: list[str]) -> Report:
    """Write one table of the runs by these keys of their configurations, and the pages that show it."""
    report = Report(["by"], {"by": by_keys(runs, keys, output / "by")}, [])
    shows_paper = any((output / name).is_dir() for name in MAKERS)
    write_page(output, _TITLES, title=TITLE if shows_paper else COMPARED)
    return report


def make(name: str, runs: list[Run], output: Path) -> list[str]:
    """Make one item; raises NothingToShow, or UserError where a run's record is damaged."""
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
