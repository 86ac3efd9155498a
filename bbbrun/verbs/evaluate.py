"""`bbbrun evaluate`: finished runs judged on sets of inputs, methods side by side, as tables, figures and a page."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from bbbrun.errors import UserError
from bbbrun.runs.files import named_folder, naming, require_not_of_a_run
from bbbrun.verbs.predict import DrawOptions, add_draw_options, draw_options, members_of

_OUTPUT = Path("results/evaluation")


def main(words: Sequence[str] | None = None) -> None:
    """Run `bbbrun evaluate` with `words`, by default the command line's.

    Exit code 0, 1 for what cannot be read, judged or written, 2 for wrong words.
    """
    parser = argparse.ArgumentParser(
        prog="bbbrun evaluate",
        description="Numbers and figures of finished runs on sets of inputs. Runs that differ in their seed alone are "
        "shown as one method, with means, intervals and their ensemble.",
    )
    add = parser.add_argument
    add("runs", nargs="+", type=named_folder, metavar="RUN", help="folders with finished runs in or below them")
    text = "by default test; of images mnist, fashion, kmnist, noise, rotated, shifted, corrupted; or files with labels"
    add("--on", nargs="+", default=["test"], metavar="SET", help=text)
    add("-o", "--output", type=named_folder, default=_OUTPUT, help=f"the folder to write into, by default {_OUTPUT}")
    add("--data", type=named_folder, metavar="FOLDER", help="where data sets lie, by default $BBBRUN_DATA or the cache")
    add_draw_options(parser)
    arguments = parser.parse_args(words)
    _evaluate(arguments, draw_options(parser, arguments))


def _evaluate(arguments: argparse.Namespace, options: DrawOptions) -> None:
    from bbbrun.report.evaluation.evaluate import TABLES, evaluate, judged_of
    from bbbrun.report.page import require_replaceable
    from bbbrun.runtime.device import keep_freed_memory
    from bbbrun.training.progress import Progress

    if arguments.output.exists() and not arguments.output.is_dir():
        raise UserError(f"--output {arguments.output} is no folder")
    require_not_of_a_run(arguments.output)
    require_replaceable(arguments.output, TABLES)
    judged = judged_of(members_of(arguments.runs, options))
    keep_freed_memory()
    progress: list[Progress] = []

    def after(total: int) -> None:
        if not progress:
            progress.append(Progress(total, 0, "evaluate", "prediction"))
        progress[0].update(1)

    try:
        root = str(arguments.data) if arguments.data else None
        with naming(arguments.output):
            messages = evaluate(judged, arguments.on, root, arguments.output, after)
    except BaseException:
        for each in progress:
            each.close(failed=True)
        raise
    progress[0].close()
    for message in messages:
        print(message, file=sys.stderr)
